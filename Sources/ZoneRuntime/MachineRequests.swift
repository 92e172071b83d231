// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import LinuxSystem
import OCI

extension MachineMonitor {
    // MARK: The guest

    mutating func serveGuest(_ poller: borrowing Poller) throws(ZoneError) {
        guard guest != nil else { return }
        var others: [GuestFrame] = []
        let before = guest?.phase
        do throws(ZoneError) {
            try guest?.serve(poller) { others.append($0) }
        } catch {
            // Its own end explains more than its silence.
            console?.read()
            let last = MachineFailure.lastLines(console?.text ?? "", 3)
            let isOfBoot = before == .booting && !last.isEmpty
            throw ZoneError(
                error.code, isOfBoot ? "\(error.detail); the last of its console: \(last)" : error.detail,
                hint: error.hint)
        }
        if before != .running, guest?.phase == .running {
            sayReady()
            for index in clients.indices {
                for frame in clients[index].takeWaiting() { take(frame, from: index) }
            }
        }
        for frame in others {
            // Of a client that is gone: the guest is told below.
            guard let index = clients.firstIndex(where: { $0.session == frame.session }) else { continue }
            if !clients[index].pass(frame) {
                throw ZoneError(.system, "the machine's agent sends more than it may")
            }
        }
    }

    // MARK: Clients

    mutating func acceptClient() {
        let raw = zn_accept(control.raw)
        guard raw >= 0 else { return }
        var peer: uid_t = .max
        // Root alone: QEMU's own user is what runs here.
        guard zn_peer_uid(raw, &peer) >= 0, peer == 0 else {
            _ = Descriptor(owning: raw)
            return
        }
        clients.append(MachineClientLink(raw))
    }

    mutating func serveClients(_ poller: borrowing Poller) {
        for index in clients.indices {
            for frame in clients[index].serve(poller) { take(frame, from: index) }
        }
        for index in clients.indices.reversed() where clients[index].isOver {
            if let session = clients[index].session, guest?.phase == .running {
                guest?.send(GuestFrame(.close, session))
            }
            clients[index].close()
            clients.remove(at: index)
        }
        guest?.flush()
    }

    private mutating func take(_ frame: GuestFrame, from index: Int) {
        if frame.kind == .control {
            answer(frame, index)
        } else if guest?.isStarting ?? false, clients[index].wait(with: frame) {
            // An engine adds programs to a container as soon as its first process runs, which is long before the guest does.
            return
        } else if frame.kind == .open, clients[index].session == nil {
            guard guest != nil, guest?.phase == .running, let session = guest?.newSession() else {
                return refuse(index, "the machine has no agent, or its program has ended")
            }
            clients[index].session = session
            guest?.send(GuestFrame(.open, session, frame.payload))
        } else if let session = clients[index].session,
            [.data, .end, .resize, .signal, .credit, .close].contains(frame.kind)
        {
            clients[index].grant(frame)
            guest?.send(GuestFrame(frame.kind, session, frame.payload))
        } else {
            refuse(index, "a frame of the kind \(frame.kind) was not expected")
        }
    }

    private mutating func refuse(_ index: Int, _ sentence: String) {
        clients[index].send(GuestFrame(.failed, MachineGuest.mainSession, [125] + Array(sentence.utf8)))
        clients[index].isDone = true
    }

    private mutating func answer(_ frame: GuestFrame, _ index: Int) {
        guard let request = try? MachineRequest(parsing: frame.payload) else {
            return refuse(index, "the request cannot be read")
        }
        do throws(QMPError) {
            let status = try carryOut(request)
            clients[index].send(GuestFrame(.answer, MachineGuest.mainSession, status.serialized()))
            clients[index].isDone = true
        } catch {
            refuse(index, "QEMU: \(error)")
        }
    }

    private mutating func carryOut(_ request: MachineRequest) throws(QMPError) -> MachineStatus {
        switch request.action {
        case .pause:
            _ = try qmp.execute(QMP.Stop())
            isPaused = true
        case .resume: try goOn()
        case .reset: _ = try qmp.execute(QMP.SystemReset())
        case .powerDown: beginShutdown(request.milliseconds)
        case .screenshot:
            _ = try qmp.execute(
                QMP.Screendump(filename: "\(MachinePlaces.folder)/\(request.file)"), milliseconds: 20_000)
        case .sendKeys:
            for keys in request.keys.prefix(4096) {
                _ = try qmp.execute(QMP.SendKey(KeyChord(keys.compactMap { QKeyCode(rawValue: $0) })))
            }
        case .status: break
        }
        return try status()
    }

    private mutating func status() throws(QMPError) -> MachineStatus {
        var status = MachineStatus()
        status.status = try qmp.execute(QMP.QueryStatus()).status.rawValue
        status.threads = ((try? qmp.execute(QMP.QueryCPUs())) ?? []).map { Int64($0.thread) }
        if pollsMemory, let guest = try? qmp.execute(QMP.GetGuestMemory(path: MachineMonitor.balloon)),
            guest.lastUpdate != nil
        {
            status.memoryTotal = guest.total.map { Int64(clamping: $0) }
            status.memoryAvailable = guest.available.map { Int64(clamping: $0) }
        }
        status.memory = ((try? qmp.execute(QMP.QueryBalloon()))?.actual).map { Int64(clamping: $0) } ?? 0
        for disk in (try? qmp.execute(QMP.QueryBlockStatistics())) ?? [] {
            status.readBytes &+= Int64(clamping: disk.counts.readBytes)
            status.writtenBytes &+= Int64(clamping: disk.counts.writtenBytes)
        }
        return status
    }

    // MARK: Signals and the end

    /// Lets a machine run that was paused.
    private mutating func goOn() throws(QMPError) {
        _ = try qmp.execute(QMP.Continue())
        isPaused = false
    }

    mutating func takeSignals() {
        while let number = signals.next() {
            // What is paused could neither hear that it is to end, nor write what it holds.
            let isEnd = number == MachineMonitor.killSignal || MachineShutdown.signals.contains(number)
            if isPaused, isEnd { try? goOn() }
            if number == MachineMonitor.killSignal, takeKill() { continue }
            if guest != nil {
                // What is sent to the zone's first process is for its program.
                if guest?.phase == .running {
                    guest?.signal(number)
                } else if MachineShutdown.signals.contains(number) {
                    // Nobody is there yet to be asked.
                    exitCode = 128 + number
                    try? qemu.signal(SIGKILL)
                }
            } else if MachineShutdown.signals.contains(number) {
                beginShutdown(run.stopMilliseconds)
            }
        }
    }

    /// False where there is no program to be killed, nor a machine to be switched off by.
    private mutating func takeKill() -> Bool {
        guard guest != nil else {
            switchOff()
            return true
        }
        if guest?.phase != .running { return false }
        guest?.signal(SIGKILL)
        return true
    }

    /// Asks the machine to end; asked again, it is switched off.
    private mutating func beginShutdown(_ milliseconds: Int64) {
        if shutdown.isUnderWay, shutdown.age > 1000 { return switchOff() }
        if shutdown.isUnderWay { return }
        shutdown.begin(milliseconds)
        // What is paused hears nothing.
        if isPaused { try? goOn() }
        _ = try? qmp.execute(QMP.SystemPowerdown())
    }

    mutating func continueShutdown() {
        switch shutdown.next() {
        case .askAgent: shutdown.askAgent()
        case .pressAgain: _ = try? qmp.execute(QMP.SystemPowerdown())
        case .switchOff: switchOff()
        case nil: break
        }
    }

    private mutating func switchOff() {
        shutdown.isOver = true
        do throws(QMPError) { _ = try qmp.execute(QMP.Quit(), milliseconds: 2000) } catch {
            try? qemu.signal(SIGKILL)
        }
    }
}

/// How a machine that boots its own disk is asked to end: by the power button (ACPI), by an agent in it if there is one, and by
/// switching it off.
struct MachineShutdown: ~Copyable {
    enum Step: Sendable, Equatable {
        case askAgent, pressAgain, switchOff
    }

    /// A terminal that is closed is no wish that a machine ends.
    static let signals = [SIGTERM, SIGINT, SIGQUIT, SIGPWR]

    var agent: GuestAgentChannel?
    /// Why QEMU says that it ends, such as `guest-shutdown`.
    var reason = ""
    var isOver = false
    private var begun: Int64?
    private var steps: [(due: Int64, step: Step)] = []

    var isUnderWay: Bool { begun != nil && !isOver }
    var age: Int64 { begun.map { MonotonicClock.milliseconds - $0 } ?? 0 }
    var deadline: Int64? { isOver ? nil : steps.first?.due }

    mutating func begin(_ milliseconds: Int64) {
        let now = MonotonicClock.milliseconds
        begun = now
        let all = max(milliseconds, 1000)
        // Systems that have just begun to boot miss the first press.
        steps = [
            (now + min(3000, all / 4), .pressAgain), (now + all / 3, .askAgent), (now + all / 2, .pressAgain),
            (now + all - min(2000, all / 10), .switchOff),
        ]
    }

    /// What is due now.
    mutating func next() -> Step? {
        guard let first = steps.first, MonotonicClock.milliseconds >= first.due else { return nil }
        return steps.removeFirst().step
    }

    mutating func askAgent() {
        // Where none is there, or it does not answer, the next step comes.
        try? agent?.shutdown(milliseconds: 300, grace: 100)
    }
}
