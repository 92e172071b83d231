// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// A session in a machine's guest, with this process's own streams.
struct MachineSession: ~Copyable {
    /// Where the session's signals come from.
    enum Caller: Sendable {
        /// Whoever called zonectl, perhaps at a terminal: a change of its size is no signal for a program without one.
        case person
        /// An engine, which means the program by whatever it sends.
        case engine
    }

    private var client: MachineClient
    private var streams: SessionStreams
    private let hasTerminal: Bool
    private let caller: Caller
    /// Whether there is something at the other end of the streams.
    private var hasStarted = false
    private var end: ExitStatus?

    init(
        _ client: consuming MachineClient, input: CInt?, output: CInt = 1, error: CInt = 2, hasTerminal: Bool = false,
        caller: Caller = .person
    ) {
        self.client = client
        self.hasTerminal = hasTerminal
        self.caller = caller
        streams = SessionStreams(session: MachineGuest.mainSession, input: input, output: output, error: error)
    }

    /// The descriptor of the connection: the session is closed with the last one of it.
    var raw: CInt { client.socket.raw }

    /// Opens the session and stays with it until it ends. Returns the exit status, as a shell shows it. `started` is called
    /// once the program runs; `answer` gets what a session without a program found out.
    consuming func run(
        _ request: GuestRequest, _ signals: borrowing SignalQueue, answer: ([UInt8]) -> Void = { _ in },
        started: () throws(ZoneError) -> Void = {}
    ) throws(ZoneError) -> Int32 {
        var session = self
        try session.start(request, signals, answer: answer)
        try started()
        // Not before: until then the keys that interrupt are signals to us.
        let isRaw = session.hasTerminal && Terminal.isTerminal(0)
        let raw = try attempting("prepare the terminal") { () throws(SystemError) in isRaw ? try RawMode(0) : nil }
        let result: Result<ExitStatus, ZoneError>
        do throws(ZoneError) {
            result = .success(try session.serve(signals, answer))
        } catch {
            result = .failure(error)
        }
        drop(raw)
        let code = try result.get().shellCode
        return session.streams.failure != nil && code == 0 ? 125 : code
    }

    /// Asks for a program, and returns once it runs. Until then a signal that ends programs gives it up.
    mutating func start(
        _ request: GuestRequest, _ signals: borrowing SignalQueue, answer: ([UInt8]) -> Void = { _ in }
    ) throws(ZoneError) {
        try client.send(GuestFrame(.open, MachineGuest.mainSession, request.serialized()))
        while !hasStarted, end == nil { try serveRound(signals, answer) }
    }

    /// Stays with a program that runs, until it has ended and all that it said is written. What ends the session ends the
    /// program as well, by SIGKILL.
    consuming func attend(_ signals: borrowing SignalQueue) -> ExitStatus {
        var session = self
        session.passSize()
        do throws(ZoneError) { return try session.serve(signals) { _ in } } catch {
            session.streams.settle(milliseconds: 2000)
            return .signalled(SIGKILL)
        }
    }

    private mutating func serve(
        _ signals: borrowing SignalQueue, _ answer: ([UInt8]) -> Void
    ) throws(ZoneError) -> ExitStatus {
        while true {
            if let end, streams.isSettled { return end }
            try serveRound(signals, answer)
        }
    }

    /// Waits for one event, and serves it.
    private mutating func serveRound(
        _ signals: borrowing SignalQueue, _ answer: ([UInt8]) -> Void
    ) throws(ZoneError) {
        var poller = Poller()
        let socket = poller.add(end == nil ? client.socket.raw : -1, write: !client.queue.isEmpty)
        let pending = poller.add(signals.raw)
        if hasStarted { streams.join(&poller) }
        let hasEvent = try attempting("wait for the process") { () throws(SystemError) in try poller.wait() }
        guard hasEvent else { return }
        var frames: [GuestFrame] = []
        if hasStarted { streams.serve(poller) { frames.append($0) } }
        if poller.isReadable(pending) { try pass(signals, &frames) }
        for frame in frames where end == nil { client.offer(frame) }
        if end == nil, !client.queue.isEmpty { client.pushOn() }
        guard poller.isReadable(socket) else { return }
        guard let received = try client.receive() else {
            throw ZoneError(.wrongState, "the machine of zone \(client.zone) has just ended")
        }
        for frame in received { try take(frame, answer) }
    }

    private mutating func take(_ frame: GuestFrame, _ answer: ([UInt8]) -> Void) throws(ZoneError) {
        switch frame.kind {
        case .started: hasStarted = true
        case .failed: throw MachineGuest.failure(frame)
        case .answer: answer(frame.payload)
        case .exited: end = frame.exitStatus ?? .exited(125)
        default:
            guard streams.receive(frame) else {
                throw ZoneError(.system, "the machine of zone \(client.zone) answers nonsense (\(frame.kind))")
            }
            // A session without a program says nothing of a start.
            hasStarted = true
        }
    }

    private func pass(_ signals: borrowing SignalQueue, _ frames: inout [GuestFrame]) throws(ZoneError) {
        while let number = signals.next() {
            guard hasStarted else {
                if InitSystem.endSignals.contains(number) {
                    throw ZoneError(.system, "stopped by signal \(number) before the program ran")
                }
                continue
            }
            if hasTerminal, number == SIGWINCH || number == SIGCONT {
                if let size = Terminal.size(of: 0) { frames.append(.resize(MachineGuest.mainSession, size)) }
            } else if number != SIGWINCH || caller == .engine {
                frames.append(.signal(MachineGuest.mainSession, number))
            }
        }
    }

    /// The terminal may have got another size since the program was asked for.
    private mutating func passSize() {
        guard hasTerminal, let size = Terminal.size(of: 0), size.rows > 0, size.columns > 0 else { return }
        client.offer(.resize(MachineGuest.mainSession, size))
    }
}
