// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import LinuxSystem
import OCI

/// The first process of a machine's namespaces, above QEMU: it starts it, speaks QMP and the agent's language, and is for everybody
/// else what the first process of a container is. So the streams, the log, signals, `attach`, the exit status, restarts and units are
/// those of every zone.
///
/// It is `zonectl` once more, executed inside: with QEMU's user, without capabilities, and with nothing of the host but what QEMU has
/// and a socket that root can reach. What it holds is QEMU's fate: when it ends, the kernel ends all of its pid namespace.
///
///     start companions, QEMU          QEMU waits (-S) until its monitor answers
///     QMP: capabilities, pins, cont
///     micro: hello → configure → open session 1
///     say "ready"                     or why not
///     loop                            one poll for all
public struct MachineMonitor: ~Copyable {
    let run: MachineRun
    let signals: SignalQueue
    let control: Descriptor
    let qemu: ProcessHandle
    var qmp: QMPConnection
    var readiness: Descriptor?
    var descriptors = DescriptorBag()

    /// What QEMU says on its error stream, and a micro machine on its serial port: the last of it explains an end.
    var errors: MachineWords
    var console: MachineWords?

    var guest: MachineGuest?
    var clients: [MachineClientLink] = []
    var shutdown = MachineShutdown()
    /// The zone's exit status, once it is known.
    var exitCode: Int32?
    var bootWatch: MachineBootWatch
    /// The balloon asks the guest for its memory now and then.
    var pollsMemory = false
    static let balloon = "/machine/peripheral/balloon"
    /// Somebody has stopped its virtual CPUs.
    var isPaused = false
    /// Why the machine ended, where it should not have.
    var failure: String?
    var viewers: ViewerRelay?

    static let name = "machine.sock"

    // MARK: The start

    /// Runs a machine to its end, and returns the zone's exit status. `descriptor` holds a ``MachineRun``.
    public static func main(descriptor: CInt) -> Int32 {
        let file = Descriptor(owning: descriptor)
        guard let bytes = try? file.readAll(limit: 64 << 20), var run = try? MachineRun(parsing: bytes) else {
            return 125
        }
        drop(file)
        zn_hide_arguments("zonectl: machine \(run.name)")
        let readiness = Descriptor(owning: run.readiness)
        do throws(ZoneError) {
            // What can fail comes first, while the readiness is still there to be told.
            let attempt = "start the machine of zone \(run.name)"
            try attempting(attempt) { () throws(SystemError) in try run.takeCards() }
            let parts = try attempting(attempt) { () throws(SystemError) in
                try Parts(run)
            }
            var monitor = MachineMonitor(run, readiness, parts)
            return monitor.serveToEnd()
        } catch {
            MachineMonitor.report(error, to: run.readiness)
            return error.exitCode
        }
    }

    /// What is started and opened first, all of which can fail.
    private struct Parts: ~Copyable {
        let signals: SignalQueue
        let qemu: ProcessHandle
        let errors: Descriptor

        init(_ run: MachineRun) throws(SystemError) {
            // All that may come: what the machine does not understand is ignored, and must not be the end of it.
            let signals = try SignalQueue(MachineMonitor.signalSet)
            for companion in run.companions {
                drop(
                    try MachineProcess.start(
                        companion.program, companion.arguments, keeping: companion.descriptors, errors: 2))
                for number in companion.descriptors { _ = Descriptor(owning: number) }
            }
            let pipe = try Pipe()
            let qemu = try MachineProcess.start(
                run.program, run.arguments, keeping: run.descriptors, errors: pipe.writer.raw)
            // Else nobody would see when the other side of a socket is gone.
            for number in run.descriptors { _ = Descriptor(owning: number) }
            let errors = try pipe.reader.duplicate()
            self.signals = signals
            self.qemu = qemu
            self.errors = errors
        }
    }

    private init(_ run: MachineRun, _ readiness: consuming Descriptor, _ parts: consuming Parts) {
        self.run = run
        self.readiness = consume readiness
        control = Descriptor(owning: run.control)
        Descriptor.setNonBlocking(control.raw)
        var descriptors = DescriptorBag()
        Descriptor.setNonBlocking(parts.errors.raw)
        signals = parts.signals
        qemu = parts.qemu
        errors = MachineWords(descriptors.adopt(parts.errors), limit: 4096)
        if let serial = run.serial {
            Descriptor.setNonBlocking(serial)
            console = MachineWords(descriptors.adopt(Descriptor(owning: serial)), limit: 16_384)
        }
        self.descriptors = descriptors
        qmp = QMPConnection(Descriptor(owning: run.qmp))
        bootWatch = MachineBootWatch(processors: run.processors)
        if let agent = run.agent, let configuration = run.guest {
            guest = MachineGuest(
                Descriptor(owning: agent), configuration, isInteractive: run.isInteractive,
                deadline: MonotonicClock.milliseconds + run.bootMilliseconds)
        }
        if let raw = run.guestAgent { shutdown.agent = GuestAgentChannel(Descriptor(owning: raw)) }
        if let raw = run.viewers, let path = run.vncPath { viewers = ViewerRelay(Descriptor(owning: raw), path: path) }
    }

    /// Every signal that can be waited for but the ends of children.
    private static let signalSet = SignalSet(
        (1...64).filter { ![SIGKILL, SIGSTOP, SIGCHLD, 32, 33, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT].contains($0) })

    /// Waits for QEMU's monitor, and lets the machine go.
    private mutating func begin() throws(ZoneError) {
        do throws(QMPError) {
            try qmp.negotiate(milliseconds: 60_000)
            if !run.pins.isEmpty { try pin() }
            // A micro machine's agent is asked; else the balloon's driver tells, where there is one.
            if guest == nil {
                let poll = QMP.PollGuestMemory(path: MachineMonitor.balloon, seconds: 5)
                pollsMemory = (try? qmp.execute(poll)) != nil
            }
            if let path = run.vncPath { _ = chmod(path, 0o600) }
            _ = try qmp.execute(QMP.Continue())
        } catch {
            // It has told why, and ends.
            _ = try? qemu.waitUntilEnded(milliseconds: 2000)
            errors.read()
            throw ZoneError(.system, MachineFailure.sentence(zone: run.name, error, errors.text))
        }
    }

    private mutating func pin() throws(QMPError) {
        for cpu in try qmp.execute(QMP.QueryCPUs()) {
            guard Int(cpu.index) < run.pins.count, !run.pins[Int(cpu.index)].isEmpty else { continue }
            MachineProcess.pin(thread: cpu.thread, to: run.pins[Int(cpu.index)])
        }
    }

    static func report(_ error: ZoneError, to raw: CInt) {
        var message = MachineReadiness()
        message.failure = error.detail
        message.exitCode = error.exitCode
        let bytes = message.serialized()
        _ = write(raw, bytes, bytes.count)
    }

    /// Tells who waits that the machine runs.
    mutating func sayReady() {
        guard let readiness = readiness.take() else { return }
        let bytes = MachineReadiness().serialized()
        _ = write(readiness.raw, bytes, bytes.count)
    }

    // MARK: The loop

    /// Returns the zone's exit status.
    private mutating func serveToEnd() -> Int32 {
        do throws(ZoneError) {
            try begin()
            if run.hasTerminal, guest != nil { MachineProcess.makeRaw(0) }
            // A machine that boots its own disk is up once it has power.
            if guest == nil { sayReady() }
            while try serveRound() {}
        } catch {
            failure = error.detail
            if let readiness = readiness.take() {
                MachineMonitor.report(error, to: readiness.raw)
            } else {
                MachineProcess.say("zonectl: \(error.detail)")
            }
            exitCode = exitCode ?? error.exitCode
        }
        return end()
    }

    /// Waits for one event and serves it; false when QEMU has ended or nothing more is to be waited for.
    private mutating func serveRound() throws(ZoneError) -> Bool {
        var poller = Poller()
        let ended = poller.add(qemu.raw)
        let pending = poller.add(signals.raw)
        let events = poller.add(qmp.raw)
        let listener = poller.add(clients.count < MachineClientLink.most ? control.raw : -1)
        errors.join(&poller)
        console?.join(&poller)
        guest?.join(&poller)
        for index in clients.indices { clients[index].join(&poller, mayRead: !(guest?.isCongested ?? false)) }
        viewers?.join(&poller)
        let timeout = waitingTime()
        do throws(SystemError) { _ = try poller.wait(milliseconds: timeout) } catch {
            throw ZoneError("wait for the machine of zone \(run.name)", error)
        }
        errors.serve(poller)
        console?.serve(poller)
        if poller.isReadable(pending) { takeSignals() }
        if poller.isReadable(events) { try takeEvents() }
        viewers?.serve(poller)
        if shutdown.isUnderWay { continueShutdown() }
        try serveGuest(poller)
        watchBoot()
        serveClients(poller)
        if poller.isReadable(listener) { acceptClient() }
        if guest?.isOver ?? false { return false }
        return !poller.isReadable(ended)
    }

    private mutating func waitingTime() -> CInt {
        var first = shutdown.deadline
        if let due = guest?.deadline { first = min(first ?? due, due) }
        if guest?.phase == .booting {
            let look = MonotonicClock.milliseconds + MachineBootWatch.interval
            first = min(first ?? look, look)
        }
        return first.map { CInt(clamping: max(0, $0 - MonotonicClock.milliseconds)) } ?? -1
    }

    private mutating func takeEvents() throws(ZoneError) {
        do throws(QMPError) {
            _ = try qmp.receive()
            while let event = qmp.nextEvent() { note(event) }
        } catch {
            // It is about to end, or is no QEMU any more: either way there is nothing left to steer.
            if (try? qemu.waitUntilEnded(milliseconds: 2000)) == true { return }
            throw ZoneError(.system, MachineFailure.sentence(zone: run.name, error, errors.text))
        }
    }

    private mutating func note(_ event: QMPEvent) {
        switch event.kind {
        case .shutdown(_, let reason): shutdown.reason = reason
        case .guestPanicked: MachineProcess.say("zonectl: zone \(run.name): the guest's kernel has panicked")
        case .blockIOError(let error):
            MachineProcess.say(
                "zonectl: zone \(run.name): \(error.operation) of disk \(error.node ?? error.device) failed: \(error.reason)"
            )
        default: break
        }
    }

    // MARK: The end

    /// Ends QEMU, and with it the machine.
    private mutating func end() -> Int32 {
        if guest?.exitCode != nil, !run.isEphemeral, failure == nil {
            // What the zone has written reaches its disk.
            guest?.powerOff()
            let due = MonotonicClock.milliseconds + 10_000
            while MonotonicClock.milliseconds < due {
                guest?.flush()
                if (try? qemu.waitUntilEnded(milliseconds: 50)) == true { break }
            }
        }
        if let code = guest?.exitCode, exitCode == nil { exitCode = code }
        guest?.settle()
        var status = try? qemu.poll()
        if status == nil {
            try? qemu.signal(SIGKILL)
            _ = try? qemu.wait()
            status = .exited(0)
        }
        errors.read()
        for index in clients.indices { clients[index].finish() }
        if let exitCode { return exitCode }
        switch status {
        case .exited(0) where guest == nil: return shutdown.reason == "guest-panic" ? 1 : 0
        case .exited(let code):
            let text = MachineFailure.end(zone: run.name, "QEMU ended with status \(code)", errors.text, console?.text)
            if let readiness = readiness.take() {
                MachineMonitor.report(ZoneError(.system, text), to: readiness.raw)
            } else {
                MachineProcess.say("zonectl: \(text)")
            }
            return code == 0 ? 125 : max(code, 1)
        case .signalled(let number):
            MachineProcess.say("zonectl: zone \(run.name): QEMU was killed by signal \(number)")
            return 128 + number
        case nil: return 125
        }
    }
}
