// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A process of our own beside a zone, which nobody waits for and which ends with the zone by itself.
enum HelperProcess {
    /// Forks twice, and runs `body` in the second child, which has left everything of the caller's behind but these descriptors.
    /// `dropsRights`: it needs none of root's.
    static func start(
        _ name: String, keeping kept: Set<CInt>, dropsRights: Bool, _ body: () -> Void
    ) throws(SystemError) {
        // There is no other thread: the child is a whole process. Its child is nobody's to wait for.
        let pid = zn_fork()
        if pid == 0 {
            if zn_fork() != 0 { _exit(0) }
            detach(name, kept)
            if dropsRights { dropRights() }
            body()
            _exit(0)
        }
        try check(pid, "fork")
        _ = waitpid(pid, nil, 0)
    }

    /// The words before a program's that lets it end with who runs it, with no more than some capabilities.
    static func confined(_ capabilities: String) -> [String] {
        [
            "setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--inh-caps=-all",
            "--bounding-set=-all,\(capabilities)", "--",
        ]
    }

    /// Runs a program, again where it ends, as long as a process lives and `isWanted` says so. `hear` gets what it writes.
    static func attend(
        _ program: HostProgram, while first: borrowing ProcessHandle, hear: ([UInt8]) -> Void = { _ in },
        _ isWanted: () -> Bool
    ) {
        attend(while: first, hear: hear, isWanted) { (output) throws(SystemError) in
            try program.start(output: output, errors: 2)
        }
    }

    /// The same, for what is started otherwise: `start` gets the descriptor for what it writes.
    static func attend(
        while first: borrowing ProcessHandle, hear: ([UInt8]) -> Void = { _ in }, _ isWanted: () -> Bool,
        start: (CInt) throws(SystemError) -> ProcessHandle
    ) {
        var hasEnded = false
        var patience = HelperProcess.pauses.lowerBound
        while !hasEnded {
            let begin = MonotonicClock.milliseconds
            guard let pipe = try? Pipe(), let child = try? start(pipe.writer.raw) else {
                hasEnded = ends(first, within: &patience) || !isWanted()
                continue
            }
            Descriptor.setNonBlocking(pipe.reader.raw)
            var isRunning = true
            while isRunning, !hasEnded {
                var poller = Poller()
                let zone = poller.add(first.raw)
                let own = poller.add(child.raw)
                let words = poller.add(pipe.reader.raw)
                _ = try? poller.wait(milliseconds: 5000)
                if poller.isReadable(words) {
                    var buffer = [UInt8](repeating: 0, count: 4096)
                    let count = read(pipe.reader.raw, &buffer, buffer.count)
                    if count > 0 { hear(Array(buffer.prefix(count))) }
                }
                hasEnded = poller.isReadable(zone) || !isWanted()
                isRunning = !poller.isReadable(own)
            }
            if isRunning {
                // The namespace that it is in is as long as something is in it.
                try? child.signal(SIGTERM)
                if (try? child.waitUntilEnded(milliseconds: 500)) != true { try? child.signal(SIGKILL) }
            }
            _ = try? child.wait()
            if MonotonicClock.milliseconds - begin > HelperProcess.pauses.upperBound {
                patience = HelperProcess.pauses.lowerBound
            }
            if !hasEnded { hasEnded = ends(first, within: &patience) }
        }
    }

    /// Milliseconds until what ends is started again: soon at first, as what was in its way may be gone.
    private static let pauses: ClosedRange<Int64> = 100...5000

    /// Whether a process ends before the time for another try, which becomes longer with each.
    private static func ends(_ process: borrowing ProcessHandle, within patience: inout Int64) -> Bool {
        defer { patience = min(patience * 2, pauses.upperBound) }
        return (try? process.waitUntilEnded(milliseconds: Int(patience))) ?? true
    }

    private static func detach(_ name: String, _ kept: Set<CInt>) {
        SignalMask.unblockAll()
        _ = zn_setsid()
        _ = zn_chdir("/")
        let null = zn_openat(AT_FDCWD, "/dev/null", O_RDWR, 0)
        for number in CInt(0)...2 where null >= 0 { _ = zn_dup3(null, number, 0) }
        closeAll(but: kept)
        // The words of the command may hold passwords.
        zn_hide_arguments(name)
        var (soft, hard) = (UInt64(0), UInt64(0))
        // RLIMIT_NOFILE
        if zn_getrlimit(7, &soft, &hard) >= 0 { _ = zn_setrlimit(7, hard, hard) }
    }

    /// Closes what a child has of its parent's, but its streams and these descriptors.
    static func closeAll(but kept: Set<CInt>) {
        var first: CInt = 3
        for number in kept.sorted() where number >= 3 {
            if number > first { _ = zn_close_range(UInt32(first), UInt32(number - 1), 0) }
            first = number + 1
        }
        _ = zn_close_range(UInt32(first), UInt32.max, 0)
    }

    /// 65534: nobody. Where that is refused it cannot be helped.
    static func dropRights() {
        _ = zn_setgroups(0, [])
        _ = zn_setresgid(65534)
        _ = zn_setresuid(65534)
        // PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE
        _ = zn_prctl(38, 1, 0, 0, 0)
        _ = zn_prctl(4, 0, 0, 0, 0)
    }
}
