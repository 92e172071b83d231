// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// What a machine's monitor does as a process among others.
enum MachineProcess {
    /// Starts a program that inherits some descriptors under their numbers, and nothing else. It ends with the caller.
    static func start(
        _ program: String, _ arguments: [String], keeping kept: [Int32], errors: CInt
    ) throws(SystemError) -> ProcessHandle {
        let words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        let environment: [UnsafeMutablePointer<CChar>?] =
            ["PATH=/usr/bin:/bin", "HOME=/run/machine", "TMPDIR=/tmp"].map { (text: String) in strdup(text) } + [nil]
        defer { for word in words + environment { free(word) } }
        let pid = zn_fork()
        if pid == 0 {
            // PR_SET_PDEATHSIG: the pid namespace does the same, but for a machine that is tried outside of one.
            _ = zn_prctl(1, UInt(SIGKILL), 0, 0, 0)
            _ = zn_reset_signals()
            let null = zn_openat(AT_FDCWD, "/dev/null", O_RDWR, 0)
            let stream = errors == 2 ? null : errors
            // A machine's serial port may be QEMU's own streams; a companion has none.
            if errors == 2 {
                for number in CInt(0)...1 where null >= 0 { _ = zn_dup3(null, number, 0) }
            }
            if stream != 2, stream >= 0 { _ = zn_dup3(stream, 2, 0) }
            _ = zn_close_range(3, .max, 4 /* CLOSE_RANGE_CLOEXEC */)
            for number in kept { _ = zn_fcntl(number, F_SETFD, 0) }
            // Sockets that it makes are for their owner alone.
            _ = umask(0o177)
            _ = zn_execve(program, words, environment)
            _exit(127)
        }
        return try ProcessHandle(pid: try check(pid, "fork"))
    }

    /// Lets a thread run on some CPUs only. Best effort: the host's CPUs may have changed since the definition was made.
    static func pin(thread: Int32, to cpus: [Int64]) {
        var mask = [UInt8](repeating: 0, count: 1024)
        for cpu in cpus where cpu >= 0 && cpu < 8192 { mask[Int(cpu) / 8] |= 1 << UInt8(cpu % 8) }
        _ = zn_sched_setaffinity_of(thread, mask, mask.count)
    }

    /// The zone's terminal only passes keys on: the guest's own does what terminals do.
    static func makeRaw(_ raw: CInt) { Terminal.makeRaw(raw) }

    /// A line for people, in the zone's log.
    static func say(_ line: String) {
        let bytes = Array((line + "\r\n").utf8)
        _ = write(2, bytes, bytes.count)
    }
}

/// What a program says: the last of it is kept.
struct MachineWords: Sendable {
    private let raw: CInt
    private let limit: Int
    private var bytes: [UInt8] = []
    private var hasEnded = false
    private var place: Int?

    init(_ raw: CInt, limit: Int) {
        self.raw = raw
        self.limit = limit
    }

    mutating func join(_ poller: inout Poller) { place = hasEnded ? nil : poller.add(raw) }

    mutating func serve(_ poller: borrowing Poller) {
        if let place, poller.isReadable(place) { read() }
    }

    /// Reads what is there.
    mutating func read() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !hasEnded {
            let count = Glibc.read(raw, &buffer, buffer.count)
            if count < 0 { return }
            if count == 0 { hasEnded = true }
            bytes.append(contentsOf: buffer[..<count])
            if bytes.count > limit { bytes.removeFirst(bytes.count - limit) }
        }
    }

    /// Lines without what is no text.
    var text: String {
        String(decoding: bytes.filter { $0 == 0x0A || $0 >= 0x20 && $0 < 0x7F }, as: UTF8.self)
    }
}

/// Sentences about machines that do not work.
enum MachineFailure {
    static func sentence(zone: String, _ error: any Error, _ errors: String) -> String {
        let said = lastLines(errors, 3)
        return said.isEmpty ? "zone \(zone): QEMU: \(error)" : "zone \(zone): QEMU: \(said)"
    }

    static func end(zone: String, _ what: String, _ errors: String, _ console: String?) -> String {
        let said = lastLines(errors, 3)
        // Of a kernel that gives up, that line tells more than the last ones.
        let panic = (console ?? "").fields("\n").last { $0.holds("Kernel panic") || $0.holds("Out of memory") }
        let last = panic ?? lastLines(console ?? "", 3)
        return "zone \(zone): \(what)" + (said.isEmpty ? "" : ": \(said)")
            + (last.isEmpty ? "" : "; the last of its console: \(last)")
    }

    static func lastLines(_ text: String, _ count: Int) -> String {
        text.fields("\n").suffix(count).joined(separator: " | ")
    }
}
