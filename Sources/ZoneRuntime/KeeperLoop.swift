// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Network

extension Keeper {
    /// What a round was about.
    enum Event {
        case nothing
        /// The zone's first process has ended.
        case ended
        /// Somebody wants the zone to end.
        case stop
    }

    /// Waits for one event and serves it; `due` ends the wait at a moment of ``MonotonicClock``.
    mutating func serve(until due: Int64?) throws(SystemError) -> Event {
        var poller = Poller()
        let ended = processNumber.map { poller.add($0) }
        let pending = poller.add(signals.raw)
        let listener = server?.join(&poller) ?? pending
        // Who attaches and takes nothing holds the zone up for a while, so that nothing is lost.
        let isCongested = server?.isCongested ?? false
        let places = KeeperStreams.Source.allCases.map { source -> Int? in
            isCongested ? nil : streams.number(source).map { poller.add($0) }
        }
        let hasInput = server?.passInput(&streams) ?? false
        if hasInput, let raw = streams.inputNumber { _ = poller.add(raw, read: false, write: true) }
        health?.join(&poller)
        let watched = watchNumber.map { poller.add($0) }

        let timeout = waitingTime(due)
        let rests = isToRest(timeout)
        let hasEvent = try poller.wait(milliseconds: timeout, rests: rests)
        var event = Event.nothing
        if hasEvent {
            if poller.isReadable(pending), takeSignals() { event = .stop }
            for (index, source) in KeeperStreams.Source.allCases.enumerated() {
                if let place = places[index], poller.isReadable(place) { pass(source) }
            }
        }
        // Also when nothing happened: a client's time may be over.
        server?.serve(poller, listener: listener, &streams)
        log.settle()
        if hasEvent, let watched, poller.isReadable(watched) { noteRemovals() }
        healFilter()
        // `pause` is another process's doing: it says so in the record.
        let (store, name) = (store, name)
        let isChanged = health?.serve(poller) { (try? store.record(of: name))??.phase == .paused }
        if let news = health?.takeNews() { write(news) }
        if isChanged ?? false { noteHealth() }
        if let killDeadline, MonotonicClock.milliseconds >= killDeadline {
            self.killDeadline = nil
            if definition.machine != nil, !isLastWarning {
                isLastWarning = true
                self.killDeadline = MonotonicClock.milliseconds + Int64(MachineMonitor.killPatience)
                try? process?.signal(MachineMonitor.killSignal)
            } else {
                try? process?.signal(SIGKILL)
            }
        }
        if hasEvent, let ended, poller.isReadable(ended) { event = .ended }
        return event
    }

    private var watchNumber: CInt? {
        switch watch {
        case .some(let watch): watch.raw
        case .none: nil
        }
    }

    /// Somebody has removed rules: perhaps more are to come, and other keepers see the same.
    private mutating func noteRemovals() {
        watch?.drain()
        if lookDue == nil { lookDue = MonotonicClock.milliseconds + 100 + Int64(getpid() % 400) }
    }

    private mutating func healFilter() {
        guard let lookDue, MonotonicClock.milliseconds >= lookDue else { return }
        self.lookDue = nil
        do throws(ZoneError) {
            if try NetworkBridge(NetworkStore(store)).heal() {
                log.note("the packet filter's rules for networks of zones were gone, and are there again")
            }
        } catch {
            log.note("\(error)")
        }
    }

    private var processNumber: CInt? {
        switch process {
        case .some(let process): process.raw
        case .none: nil
        }
    }

    /// Milliseconds until something is due, negative where nothing is.
    private mutating func waitingTime(_ due: Int64?) -> CInt {
        var first = due
        for other in [killDeadline, server?.deadline, health?.deadline, log.deadline, lookDue] {
            if let other { first = min(first ?? other, other) }
        }
        return first.map { CInt(clamping: max(0, $0 - MonotonicClock.milliseconds)) } ?? -1
    }

    /// Returns whether one of them means the end.
    private mutating func takeSignals() -> Bool {
        var isEnd = false
        while let number = signals.next() {
            if number != SIGHUP { isEnd = true }
        }
        if isEnd {
            isStopping = true
            askToEnd()
        }
        return isEnd
    }

    /// Asks the zone to end; it is killed when it does not in time.
    mutating func askToEnd() {
        guard processNumber != nil, killDeadline == nil else { return }
        let control = ZoneControl(store.folders)
        try? process?.signal(control.stopSignal(definition))
        try? groups.thaw()
        let seconds = Int64(ZoneControl.stopTimeout(definition))
        let milliseconds = min(max(0, seconds), 86_400) * 1000
        killDeadline = MonotonicClock.milliseconds + milliseconds
        // An end that the supervisor did not ask for is not told as one that it did.
        if isStopping { service?.stopping(name, milliseconds: milliseconds) }
    }

    private mutating func noteHealth() {
        guard let record = health?.record else { return }
        log.note("health: \(record.status.rawValue)")
        EventLog(store.folders).record(.health, zone: name, ["status": record.status.rawValue])
        service?.status("Zone \(name) is \(record.status.rawValue)")
        guard record.status == .unhealthy, isSupervised || policy.kind != .no else { return }
        isUnhealthy = true
        askToEnd()
    }

    // MARK: Output

    private mutating func pass(_ source: KeeperStreams.Source) {
        var server = self.server.take()
        _ = streams.read(source) { bytes in
            log.append(bytes, source)
            server?.send(bytes, from: source)
        }
        self.server = server
    }

    /// Reads what a zone that has ended left, up to a bound.
    mutating func drainStreams() {
        for source in KeeperStreams.Source.allCases {
            var server = self.server.take()
            var rounds = 0
            while rounds < 4096,
                streams.read(
                    source,
                    { bytes in
                        log.append(bytes, source)
                        server?.send(bytes, from: source)
                    })
            {
                rounds += 1
                server?.settle()
            }
            self.server = server
        }
        log.finish()
    }

    /// Whether to give memory back before a wait: where it may be a long one, and now and then in any case.
    private mutating func isToRest(_ timeout: CInt) -> Bool {
        let now = MonotonicClock.milliseconds
        guard timeout < 0 || timeout > 500 || now - restedAt > 1000 else { return false }
        restedAt = now
        return true
    }
}
