// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// A monitor's line to the agent in a micro machine: configures the guest, runs the zone's own program in it, and carries the
/// sessions of others to and fro.
struct MachineGuest: ~Copyable {
    enum Phase: Equatable {
        /// The guest boots.
        case booting
        /// It has been told what to be.
        case configuring
        /// The zone's program was asked for.
        case starting
        case running
        /// The zone's program has ended.
        case ended
    }

    /// The zone's own program.
    static let mainSession: UInt32 = 1

    private let socket: Descriptor
    private let configuration: GuestConfiguration
    private let isInteractive: Bool
    private var reader = GuestFrameReader()
    private var queue = GuestFrameQueue()
    private var place: Int?
    private var nextSession: UInt32 = 2

    private(set) var phase = Phase.booting
    private(set) var exitCode: Int32?
    private(set) var streams: SessionStreams
    /// Until when the zone's program must run.
    private var due: Int64?
    private var hasHungUp = false

    /// More than that on the way to the guest, and no more is taken from anybody.
    private static let most = 1 << 20

    init(
        _ socket: consuming Descriptor, _ configuration: GuestConfiguration, isInteractive: Bool, deadline: Int64
    ) {
        Descriptor.setNonBlocking(socket.raw)
        self.socket = socket
        self.configuration = configuration
        self.isInteractive = isInteractive
        due = deadline
        let passesInput = isInteractive || configuration.spec.process?.terminal ?? false
        streams = SessionStreams(session: MachineGuest.mainSession, input: passesInput ? 0 : nil, output: 1, error: 2)
    }

    var deadline: Int64? { due }
    var isCongested: Bool { queue.count > MachineGuest.most }
    /// Whether the zone's program has not been started yet.
    var isStarting: Bool { phase != .running && phase != .ended }
    /// Whether the zone's program has ended and all that it said is written.
    var isOver: Bool { phase == .ended && streams.isSettled }

    /// Gives a guest that begins anew more time.
    mutating func extend(to deadline: Int64) { due = deadline }

    // MARK: The loop

    mutating func join(_ poller: inout Poller) {
        place = hasHungUp ? nil : poller.add(socket.raw, write: !queue.isEmpty)
        // Keys of before the program runs wait where they are.
        if phase == .running || phase == .ended { streams.join(&poller) }
    }

    /// Takes what comes. `pass` gets frames of other sessions.
    mutating func serve(_ poller: borrowing Poller, pass: (GuestFrame) -> Void) throws(ZoneError) {
        var frames: [GuestFrame] = []
        if phase == .running || phase == .ended {
            var sent: [GuestFrame] = []
            streams.serve(poller) { sent.append($0) }
            for frame in sent where phase == .running { queue.add(frame) }
        }
        if let place, poller.isReadable(place) { try receive(&frames) }
        for frame in frames { try take(frame, pass) }
        if phase != .running, phase != .ended, let due, MonotonicClock.milliseconds >= due {
            throw ZoneError(.system, "the machine's agent did not answer in time (\(phase))")
        }
        flush()
    }

    mutating func flush() {
        // A guest that is gone is seen by its end.
        do throws(SystemError) { try queue.flush(to: socket.raw) } catch { hasHungUp = true }
    }

    mutating func settle() { streams.settle(milliseconds: 2000) }

    private mutating func receive(_ frames: inout [GuestFrame]) throws(ZoneError) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(socket.raw, &buffer, buffer.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else {
            hasHungUp = true
            return
        }
        reader.append(buffer[..<count])
        do throws(GuestFrameError) {
            while let frame = try reader.next() { frames.append(frame) }
        } catch {
            throw ZoneError(.system, "the machine's agent answers nonsense (\(error))")
        }
    }

    private mutating func take(_ frame: GuestFrame, _ pass: (GuestFrame) -> Void) throws(ZoneError) {
        switch (frame.session, frame.kind) {
        case (0, .hello): try takeHello(frame)
        case (0, .configured):
            guard phase == .configuring else { throw nonsense(frame) }
            phase = .starting
            var request = GuestRequest()
            request.action = .run
            request.isInteractive = isInteractive || configuration.spec.process?.terminal ?? false
            queue.add(GuestFrame(.open, MachineGuest.mainSession, request.serialized()))
        case (0, .failed), (MachineGuest.mainSession, .failed): throw MachineGuest.failure(frame)
        case (MachineGuest.mainSession, .started):
            guard phase == .starting else { throw nonsense(frame) }
            phase = .running
            due = nil
            if let size = Terminal.size(of: 0) { queue.add(.resize(MachineGuest.mainSession, size)) }
        case (MachineGuest.mainSession, .exited):
            guard phase == .running, let code = frame.number(Int32.self) else { throw nonsense(frame) }
            phase = .ended
            exitCode = code & 0xFF
        case (MachineGuest.mainSession, _):
            guard phase == .running, streams.receive(frame) else { throw nonsense(frame) }
        case (2..., _): pass(frame)
        default: throw nonsense(frame)
        }
    }

    private mutating func takeHello(_ frame: GuestFrame) throws(ZoneError) {
        guard phase == .booting, let hello = try? GuestHello(parsing: frame.payload) else { throw nonsense(frame) }
        guard hello.version == GuestConfiguration.version else {
            throw ZoneError(
                .unsupported,
                "the machine's agent speaks version \(hello.version), zonectl \(GuestConfiguration.version)",
                hint: "make the guest's kernel and initramfs anew: images/guest-kernel")
        }
        phase = .configuring
        var configuration = configuration
        if let size = Terminal.size(of: 0) {
            configuration.spec.process?.consoleSize = Spec.ConsoleSize(height: size.rows, width: size.columns)
        }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        configuration.time = Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec) / 1_000_000
        let bytes = configuration.serialized()
        guard bytes.count <= GuestFrame.longest else {
            throw ZoneError(.invalid, "the zone's configuration is too long for its machine: \(bytes.count) bytes")
        }
        queue.add(GuestFrame(.configure, 0, bytes))
    }

    private func nonsense(_ frame: GuestFrame) -> ZoneError {
        ZoneError(.system, "the machine's agent answers nonsense (\(frame.kind) in session \(frame.session), \(phase))")
    }

    /// What a `failed` frame says.
    static func failure(_ frame: GuestFrame) -> ZoneError {
        let (sentence, hint) = String(decoding: frame.payload.dropFirst().prefix(4096), as: UTF8.self).halves("\n")
        let code: ZoneError.Code =
            switch frame.payload.first {
            case 127: .commandNotFound
            case 126: .notExecutable
            default: .system
            }
        return ZoneError(code, sentence.isEmpty ? "the machine's agent failed" : sentence, hint: hint)
    }

    // MARK: What the host wants

    /// Signals the zone's program; a change of the terminal's size is passed on as one.
    mutating func signal(_ number: CInt) {
        guard phase == .running else { return }
        if number == SIGWINCH, let size = Terminal.size(of: 0) {
            queue.add(.resize(MachineGuest.mainSession, size))
        } else {
            queue.add(.signal(MachineGuest.mainSession, number))
        }
        flush()
    }

    mutating func powerOff() {
        queue.add(GuestFrame(.powerOff))
        flush()
    }

    /// A number for a session of somebody's.
    mutating func newSession() -> UInt32 {
        defer { nextSession = nextSession == .max ? 2 : nextSession + 1 }
        return nextSession
    }

    mutating func send(_ frame: GuestFrame) { queue.add(frame) }
}

/// A connection of a `zonectl` to a machine's monitor: one session in the guest, or one request.
struct MachineClientLink: Sendable {
    static let most = 256
    /// Frames of a client that wait for the guest.
    static let mostWaiting = 16

    let raw: CInt
    private var reader = GuestFrameReader()
    private var queue = GuestFrameQueue()
    private var place: Int?
    /// Its session in the guest; the client itself says 1.
    var session: UInt32?
    /// What it has said before its session could be opened.
    private var waiting: [GuestFrame] = []
    var isDone = false
    /// Bytes that the guest may send before the client grants more.
    private var allowance: [GuestFrame.Stream: Int] = [.output: GuestFrame.window, .error: GuestFrame.window]

    init(_ raw: CInt) {
        self.raw = raw
        Descriptor.setNonBlocking(raw)
    }

    mutating func join(_ poller: inout Poller, mayRead: Bool) {
        place = poller.add(raw, read: mayRead && !isDone, write: !queue.isEmpty)
    }

    /// Takes what the client says.
    mutating func serve(_ poller: borrowing Poller) -> [GuestFrame] {
        guard let place else { return [] }
        if poller.isWritable(place) { flush() }
        guard !isDone, poller.isReadable(place) else { return [] }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(raw, &buffer, buffer.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return [] }
        var frames: [GuestFrame] = []
        if count > 0 {
            reader.append(buffer[..<count])
            do throws(GuestFrameError) {
                while let frame = try reader.next() { frames.append(frame) }
            } catch { isDone = true }
        } else {
            isDone = true
        }
        return frames
    }

    /// Keeps a frame for when the guest runs; false where none can be kept.
    mutating func wait(with frame: GuestFrame) -> Bool {
        guard frame.kind == .open ? waiting.isEmpty : !waiting.isEmpty,
            waiting.count < MachineClientLink.mostWaiting
        else { return false }
        waiting.append(frame)
        return true
    }

    mutating func takeWaiting() -> [GuestFrame] {
        defer { waiting = [] }
        return waiting
    }

    /// Whether everything was said to a client that is done.
    var isOver: Bool { isDone && queue.isEmpty }

    mutating func send(_ frame: GuestFrame) {
        queue.add(frame)
        flush()
    }

    private mutating func flush() {
        do throws(SystemError) { try queue.flush(to: raw) } catch {
            // It is gone.
            queue = GuestFrameQueue()
            isDone = true
        }
    }

    /// Passes on what the guest says in this session; false where it breaks the protocol.
    mutating func pass(_ frame: GuestFrame) -> Bool {
        if frame.kind == .data {
            guard let stream = frame.stream, let left = allowance[stream], left >= frame.payload.count - 1 else {
                return false
            }
            allowance[stream] = left - (frame.payload.count - 1)
        }
        send(GuestFrame(frame.kind, MachineGuest.mainSession, frame.payload))
        if frame.kind == .exited || frame.kind == .failed { isDone = true }
        return true
    }

    /// Notes what the client grants.
    mutating func grant(_ frame: GuestFrame) {
        guard frame.kind == .credit, let stream = frame.stream, let left = allowance[stream] else { return }
        let count = Int(frame.number(UInt32.self, at: 1) ?? 0)
        allowance[stream] = min(left + count, GuestFrame.window)
    }

    /// Tells a client whose session goes with the machine.
    mutating func finish() {
        if !isDone, session != nil {
            send(GuestFrame(.failed, MachineGuest.mainSession, [125] + Array("the machine has ended".utf8)))
        }
    }

    func close() { _ = Descriptor(owning: raw) }
}
