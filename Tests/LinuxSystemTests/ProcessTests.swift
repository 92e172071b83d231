// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct ProcessTests {
    /// Starts a shell.
    private func start(_ script: String) throws -> ProcessHandle {
        var pid: pid_t = 0
        let words = ["/bin/sh", "-c", script]
        var arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let result = posix_spawn(&pid, "/bin/sh", nil, nil, &arguments, environ)
        try #require(result == 0)
        return try ProcessHandle(pid: pid)
    }

    @Test func tellsHowAProcessEnded() throws {
        let exited = try start("exit 3")
        #expect(try exited.wait() == .exited(3))
        let killed = try start("exec sleep 100")
        #expect(try killed.poll() == nil)
        #expect(try killed.waitUntilEnded(milliseconds: 10) == false)
        try killed.signal(SIGKILL)
        #expect(try killed.wait() == .signalled(SIGKILL))
        let error = #expect(throws: SystemError.self) { try killed.signal(SIGTERM) }
        #expect(error?.errno == .noProcess)
        #expect(throws: SystemError.self) { try killed.wait() }
    }

    @Test(
        arguments: [(.exited(0), 0), (.exited(255), 255), (.signalled(9), 137), (.signalled(15), 143)]
            as [(LinuxSystem.ExitStatus, CInt)])
    func showsAStatusAsAShellDoes(_ status: LinuxSystem.ExitStatus, _ code: CInt) {
        #expect(status.shellCode == code)
    }

    @Test func aZombieIsTold() throws {
        let process = try start("exit 0")
        #expect(try process.waitUntilEnded(milliseconds: 10_000))
        #expect(try ProcessStatus(of: process.pid).isZombie)
        #expect(process.exitStatusOfOther() == .exited(0))
        #expect(try process.poll() == .exited(0))
        let error = #expect(throws: SystemError.self) { _ = try ProcessStatus(of: process.pid) }
        #expect(error.map { [.noEntry, .noProcess].contains($0.errno) } == true)
        #expect(throws: SystemError.self) { _ = try ProcessHandle(pid: process.pid) }
    }

    @Test func anotherOnesChildTellsHowItEndedBeforeItIsReaped() throws {
        let ended = try start("exit 42")
        #expect(try ended.waitUntilEnded(milliseconds: 10_000))
        #expect(ended.exitStatusOfOther() == .exited(42))
        _ = try ended.wait()
        let killed = try start("exec sleep 100")
        #expect(killed.exitStatusOfOther() == nil)
        try killed.signal(SIGKILL)
        #expect(try killed.waitUntilEnded(milliseconds: 10_000))
        #expect(killed.exitStatusOfOther() == .signalled(9))
        _ = try killed.wait()
    }

    @Test func readsAStatus() throws {
        let process = try start("exec sleep 100")
        let status = try ProcessStatus(of: process.pid)
        #expect(status.parent == getProcessID())
        #expect(!status.isZombie)
        #expect(status.startTime >= (try ProcessStatus(of: getProcessID())).startTime)
        #expect(try ProcessStatus(of: process.pid).startTime == status.startTime)
        try process.signal(SIGKILL)
        _ = try process.wait()
    }

    /// The name of a process is its own choice, and lies between the fields.
    @Test(arguments: [") Z 7 7 (", "))))", ") ", "(", "a b c"])
    func aNameCannotForgeTheOtherFields(_ name: String) throws {
        let status = try ProcessStatus(of: getProcessID())
        let old = try readHostFile("/proc/self/comm")
        try Descriptor.open("/proc/self/comm", [.writeOnly]).writeOnce(name, "comm")
        defer { try? Descriptor.open("/proc/self/comm", [.writeOnly]).writeAll(old) }
        let renamed = try ProcessStatus(of: getProcessID())
        #expect(renamed.parent == status.parent)
        #expect(renamed.startTime == status.startTime)
        #expect(!renamed.isZombie)
    }

    // MARK: Signals

    @Test func aSetHasOneBitASignal() {
        #expect(SignalSet([]).mask == 0)
        #expect(SignalSet([1]).mask == 1)
        #expect(SignalSet([SIGTERM, SIGHUP]).mask == 0x4001)
        #expect(SignalSet([64]).mask == 1 << 63)
        #expect(SignalSet([SIGTERM, SIGTERM]).mask == SignalSet([SIGTERM]).mask)
    }

    @Test func signalsAreReadAsData() throws {
        var before = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let queue = try SignalQueue(SignalSet([SIGUSR1, SIGUSR2]))
        #expect(queue.next() == nil)
        #expect(try waitReadable(queue.raw, milliseconds: 0) == false)
        pthread_kill(pthread_self(), SIGUSR2)
        pthread_kill(pthread_self(), SIGUSR1)
        #expect(try waitReadable(queue.raw, milliseconds: 1000))
        #expect(Set([queue.next(), queue.next()]) == [SIGUSR1, SIGUSR2])
        #expect(queue.next() == nil)
    }
}
