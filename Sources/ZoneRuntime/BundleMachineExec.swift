// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces
import OCI

/// A program that an engine adds to a container that is a virtual machine.
///
/// The program is the guest's, so a process of ours stands for it on the host: the one whose number the engine gets, which it signals
/// and reaps. It stays with the session, passes on streams, signals and the terminal's size, and ends as the program does. When
/// it is killed its connection closes, and the guest kills the program.
///
/// In the foreground that process is the caller. Detached, or with a terminal for the engine, it is a child of the caller's, made once the
/// program runs: what keeps the program from that is the caller's own error.
struct BundleMachineExec {
    let store: ZoneStore
    let request: BundleExec
    let process: Spec.Process
    let report: @Sendable (String) -> Void

    /// Every signal that can be waited for, but the ends of children and what our own writing and faults bring.
    private static let signalSet = SignalSet(
        (1...64).filter {
            ![SIGKILL, SIGSTOP, SIGCHLD, SIGPIPE, 32, 33, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP].contains(
                $0)
        })

    /// Returns the exit status: of the program, as a shell shows it, or 0 for one that runs detached. `signals` are those of a
    /// program in the foreground.
    func run(_ entry: ZoneStore.Entry, _ signals: borrowing SignalQueue) throws(ZoneError) -> Int32 {
        try verify(entry)
        let handover = try EngineHandover.prepare(
            console: request.consoleSocket, pidfd: request.pidfdSocket, pidFile: request.pidFile, preserved: 0, process,
            isForeground: !request.isDetached)
        var guest = GuestRequest()
        guest.action = .exec
        guest.isInteractive = true
        guest.process = process
        let client = try MachineClient(store, request.id)
        if request.isDetached || request.consoleSocket != nil { return try leave(client, guest, handover) }
        let session = MachineSession(client, input: 0, hasTerminal: process.terminal)
        let started = { () throws(ZoneError) in try handover.sendProcess(try handle(getpid())) }
        return try session.run(guest, signals, started: started)
    }

    private func verify(_ entry: ZoneStore.Entry) throws(ZoneError) {
        if case .created = entry.state {
            throw ZoneError(
                .wrongState,
                "exec: container not running: the virtual machine of \"\(request.id)\" is created and not started",
                hint: "'zonectl oci start \(request.id)' starts it")
        }
        if let group = request.cgroup {
            throw ZoneError(
                .unsupported,
                "exec: --cgroup \"\(group)\": container \"\(request.id)\" is a virtual machine, whose programs are in no control group of the host's",
                hint: "leave it out")
        }
        if request.preservedDescriptors > 0 {
            throw ZoneError(
                .unsupported,
                "exec: --preserve-fds \(request.preservedDescriptors): container \"\(request.id)\" is a virtual machine, into which no descriptor leads",
                hint: "leave it out")
        }
    }

    private func handle(_ pid: Int32) throws(ZoneError) -> ProcessHandle {
        try attempting("exec: hold the process") { () throws(SystemError) in try ProcessHandle(pid: pid) }
    }

    /// Starts the program, and leaves it to a process of its own.
    private func leave(
        _ client: consuming MachineClient, _ guest: GuestRequest, _ handover: borrowing EngineHandover
    ) throws(ZoneError) -> Int32 {
        // Before there is a process whose number somebody knows: whatever is sent to it from then on waits for it.
        let signals = try attempting("wait for signals") { () throws(SystemError) in
            try SignalQueue(BundleMachineExec.signalSet)
        }
        let terminal = try openTerminal(handover)
        var session = MachineSession(client, input: 0, hasTerminal: process.terminal, caller: .engine)
        try session.start(guest, signals)
        let child = try fork(session, terminal, signals)
        do throws(ZoneError) { try handover.sendProcess(child) } catch {
            try? child.signal(SIGKILL)
            _ = try? child.wait()
            throw error
        }
        if request.isDetached { return 0 }
        _ = ForegroundSession.attend(
            child, console: nil, streams: ProcessStreams(), signals: signals, passesInput: false, report: report)
        let status = try attempting("exec: wait for the process") { () throws(SystemError) in try child.wait() }
        return status.shellCode
    }

    /// The end of the terminal that the process is to have, where the engine gets the other.
    private func openTerminal(_ handover: borrowing EngineHandover) throws(ZoneError) -> Descriptor? {
        guard request.consoleSocket != nil else { return nil }
        let pair = try attempting("exec: open a terminal") { () throws(SystemError) in
            let size = process.consoleSize.map { WindowSize(rows: $0.height, columns: $0.width) }
            return try TerminalPair.open(size: size, passes: true)
        }
        try handover.sendConsole(pair.master)
        return pair.takePeer()
    }

    /// Makes the process that stays with the session. It is a plain child: an engine that adopts orphans reaps it when the caller is gone.
    private func fork(
        _ session: consuming MachineSession, _ terminal: consuming Descriptor?, _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> ProcessHandle {
        // There is no other thread: the child is a whole process.
        let pid = zn_fork()
        if pid == 0 {
            _ = zn_setsid()
            if let raw = Descriptor.number(of: terminal) {
                _ = Terminal.takeControl(of: raw)
                for number in CInt(0)...2 where number != raw { _ = zn_dup3(raw, number, 0) }
            }
            // Not before: a value ends with its last use.
            drop(terminal)
            HelperProcess.closeAll(but: [session.raw, signals.raw])
            _ = zn_chdir("/")
            // The words of the command may hold passwords.
            zn_hide_arguments("zonectl: exec in \(request.id)")
            HelperProcess.dropRights()
            BundleMachineExec.end(session.attend(signals))
        }
        let child = try attempting("exec: start the process") { () throws(SystemError) in
            try check(pid, "fork")
        }
        return try handle(child)
    }

    /// Ends as the program in the guest has: who waits for this process sees no difference.
    private static func end(_ status: ExitStatus) -> Never {
        // A guest says what it likes: what would stop us, or end nobody, is no end.
        if case .signalled(let number) = status, ![SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU].contains(number) {
            // There is no core of the program's here. PR_SET_DUMPABLE
            _ = zn_prctl(4, 0, 0, 0, 0)
            signal(number, SIG_DFL)
            _ = zn_sigmask(~(1 << UInt64(number - 1)))
            kill(getpid(), number)
        }
        _exit(status.shellCode)
    }
}
