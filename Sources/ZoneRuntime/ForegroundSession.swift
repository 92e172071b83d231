// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Namespaces

/// Stays with a process in the foreground: passes on signals, keystrokes and output. One `poll` loop that never blocks
/// on a stream; it ends when the process has ended and what it wrote is written.
struct ForegroundSession: ~Copyable {
    /// A pidfd.
    private let process: CInt
    /// The master of the process's terminal.
    private var console: Descriptor?
    /// Its other end, held open until the end of the process: one that closes its terminal may open it again.
    private let peer: Descriptor?
    private let screen: Descriptor?
    private var streams: ProcessStreams
    private var relays: [StreamRelay]
    private let hasKeyboard: Bool
    private let report: (String) -> Void
    /// Whether output was lost.
    private var hasFailed = false

    /// `console` is the master of the process's terminal; without one it has `streams`.
    private init(
        process: CInt,
        console: consuming Descriptor?,
        streams: consuming ProcessStreams,
        passesInput: Bool,
        report: @escaping (String) -> Void
    ) {
        self.process = process
        self.report = report
        relays = streams.takeRelays()
        var screen: Descriptor?
        var peer: Descriptor?
        if let master = Descriptor.number(of: console) {
            Descriptor.setNonBlocking(master)
            // Opened again, so that a screen that is held with Ctrl-S does not make us deaf for signals: the flag is on
            // the open file, which our own stdout shares with the caller's shell. Without it, as it is.
            if Terminal.isTerminal(1) {
                screen = try? Descriptor.open("/proc/self/fd/1", [.writeOnly, .nonBlocking, .noControllingTerminal])
            }
            relays.append(StreamRelay(from: master, to: screen?.raw ?? 1))
            if passesInput { relays.append(StreamRelay(from: 0, to: master, endKeys: true)) }
            peer = Terminal.peer(of: master)
            hasKeyboard = passesInput && Terminal.isTerminal(0)
        } else {
            hasKeyboard = false
        }
        self.screen = screen
        self.peer = peer
        self.console = console
        self.streams = streams
    }

    /// Stays with a process until it has ended, whatever happens to its streams. Returns whether output was lost.
    static func attend(
        _ launching: inout LaunchingProcess,
        streams: consuming ProcessStreams,
        signals: borrowing SignalQueue,
        passesInput: Bool,
        endSignal: CInt? = nil,
        report: @escaping (String) -> Void
    ) -> Bool {
        attend(
            launching.process, console: launching.takeConsole(), streams: streams, signals: signals,
            passesInput: passesInput, endSignal: endSignal, report: report)
    }

    /// The same with a process that was not launched but restored. `endSignal`: sent in place of those by which people end
    /// a program.
    static func attend(
        _ process: borrowing ProcessHandle,
        console: consuming Descriptor?,
        streams: consuming ProcessStreams,
        signals: borrowing SignalQueue,
        passesInput: Bool,
        endSignal: CInt? = nil,
        report: @escaping (String) -> Void
    ) -> Bool {
        var session = ForegroundSession(
            process: process.raw, console: console, streams: streams, passesInput: passesInput, report: report)
        do throws(ZoneError) {
            try session.serve(signals) { (number) throws(SystemError) in
                let isEnd = endSignal != nil && InitSystem.endSignals.contains(number)
                try process.signal(isEnd ? endSignal ?? number : number)
            }
        } catch {
            report("\(error)")
            return true
        }
        return session.hasFailed
    }

    /// Serves until the process has ended. `signal` sends a signal to it.
    private mutating func serve(
        _ signals: borrowing SignalQueue,
        signal: (CInt) throws(SystemError) -> Void
    ) throws(ZoneError) {
        do throws(SystemError) {
            // Raw, so that Ctrl-C and Ctrl-Z are keys of the zone's terminal and not signals to us.
            let raw = hasKeyboard ? try RawMode(0) : nil
            while try serveRound(signals, signal) {}
            // The last words. What children of it still hold the streams may go on saying is not waited for.
            for index in relays.indices where relays[index].source != 0 && !relays[index].isDone {
                handle(relays[index].drain(), of: index)
            }
            drop(raw)
        } catch {
            throw ZoneError("serve the process", error)
        }
    }

    /// Waits for one event; `false` when the process has ended.
    private mutating func serveRound(
        _ signals: borrowing SignalQueue,
        _ signal: (CInt) throws(SystemError) -> Void
    ) throws(SystemError) -> Bool {
        var poller = Poller()
        let ended = poller.add(process)
        let pending = poller.add(signals.raw)
        let places = relays.map { $0.join(&poller) }
        guard try poller.wait() else { return true }
        if poller.isReadable(pending) { try pass(signals, signal) }
        for index in relays.indices {
            guard let place = places[index], poller.isReadable(place) || poller.isWritable(place) else { continue }
            handle(relays[index].serve(), of: index)
        }
        return !poller.isReadable(ended)
    }

    private mutating func handle(_ outcome: StreamRelay.Outcome, of index: Int) {
        let relay = relays[index]
        switch outcome {
        case .goesOn: return
        case .ended: break
        case .readerGone:
            // Nobody sees the output any more: the process learns it as it would without us.
            hangUp(relay)
        case .failed(let error):
            hasFailed = true
            report("stream \(relay.source) of the zone is cut off: \(error)")
            hangUp(relay)
        }
        relays[index].stop()
        streams.close(relay.source == 0 ? relay.destination : relay.source)
    }

    private mutating func hangUp(_ relay: StreamRelay) {
        // A terminal without a screen is hung up. Keys that cannot be sent are no reason to.
        guard let raw = consoleNumber, relay.source == raw else { return }
        for index in relays.indices where relays[index].destination == raw { relays[index].stop() }
        _ = console.take()
    }

    private var consoleNumber: CInt? { Descriptor.number(of: console) }

    private func pass(
        _ signals: borrowing SignalQueue,
        _ signal: (CInt) throws(SystemError) -> Void
    ) throws(SystemError) {
        while let number = signals.next() {
            if number == SIGWINCH || number == SIGCONT {
                // Continued in the foreground of its terminal: the window may have changed meanwhile.
                if let raw = consoleNumber {
                    if let size = Terminal.size(of: 0) { Terminal.setSize(size, of: raw) }
                    continue
                }
                if number == SIGWINCH { continue }
            }
            // ESRCH: it has ended this moment, which the loop is about to see.
            do throws(SystemError) { try signal(number) } catch {
                if error.errno != .noProcess { throw error }
            }
        }
    }
}
