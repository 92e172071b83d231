// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The streams of a session with a guest, at the host's end: what is read here is sent as frames within the guest's window, what
/// comes is written here, and granted anew as it goes.
///
/// The descriptors may be shared with whoever called `zonectl`, so they are not made non-blocking: poll(2) says when there is room
/// for PIPE_BUF bytes, and no more is written at a time.
struct SessionStreams: Sendable {
    private struct Output: Sendable {
        let raw: CInt
        var pending: [UInt8] = []
        /// How many of those are written.
        var written = 0
        /// Bytes that were written and not granted anew yet.
        var due = 0
        var place: Int?
        /// Bytes that the guest may still send: what a guest sends beyond that breaks the protocol.
        var allowance = GuestFrame.window
    }

    let session: UInt32
    private var input: CInt?
    private var inputPlace: Int?
    private var credit = GuestFrame.window
    private var outputs: [GuestFrame.Stream: Output]
    /// Whether what came could not be written, and the reason.
    private(set) var failure: SystemError?

    private static let portion = 4096

    /// `input`: nil where nothing is passed on.
    init(session: UInt32, input: CInt?, output: CInt, error: CInt) {
        self.session = session
        self.input = input
        outputs = [.output: Output(raw: output), .error: Output(raw: error)]
    }

    /// Whether all that came is written.
    var isSettled: Bool { outputs.values.allSatisfy { $0.pending.isEmpty } }

    // MARK: The poll loop

    mutating func join(_ poller: inout Poller) {
        inputPlace = credit > 0 ? input.map { poller.add($0) } : nil
        for (stream, output) in outputs {
            outputs[stream]?.place = output.pending.isEmpty ? nil : poller.add(output.raw, read: false, write: true)
        }
    }

    /// Does what can be done now; `send` gets frames for the guest.
    mutating func serve(_ poller: borrowing Poller, send: (GuestFrame) -> Void) {
        if let inputPlace, poller.isReadable(inputPlace) { takeInput(send) }
        for (stream, output) in outputs {
            if let place = output.place, poller.isWritable(place) { write(stream, send) }
        }
    }

    private mutating func takeInput(_ send: (GuestFrame) -> Void) {
        guard let raw = input else { return }
        var buffer = [UInt8](repeating: 0, count: min(credit, 32 << 10))
        let count = read(raw, &buffer, buffer.count)
        if count < 0, errno == EINTR || errno == EAGAIN { return }
        guard count > 0 else {
            input = nil
            return send(GuestFrame(.end, session, [GuestFrame.Stream.input.rawValue]))
        }
        credit -= count
        send(.data(session, .input, buffer[..<count]))
    }

    private mutating func write(_ stream: GuestFrame.Stream, _ send: (GuestFrame) -> Void) {
        guard var output = outputs[stream], !output.pending.isEmpty else { return }
        // What is there is written by one round, as long as somebody takes it.
        repeat {
            let left = min(output.pending.count - output.written, SessionStreams.portion)
            let count = output.pending.withUnsafeBytes { bytes in
                Glibc.write(output.raw, bytes.baseAddress?.advanced(by: output.written), left)
            }
            if count < 0 {
                if errno == EINTR || errno == EAGAIN { break }
                // Nobody reads any more: the rest is dropped, and the program is told as one whose reader is gone.
                failure = failure ?? SystemError("write", "output of the machine", Errno(rawValue: errno))
                output.due += output.pending.count - output.written
                output.written = output.pending.count
                send(GuestFrame(.end, session, [stream.rawValue]))
                break
            }
            output.written += count
            output.due += count
        } while output.written < output.pending.count && SessionStreams.takesMore(output.raw)
        if output.written == output.pending.count {
            output.pending.removeAll(keepingCapacity: true)
            output.written = 0
        }
        // In large parts: each is a message.
        if output.due >= GuestFrame.window / 4 || output.pending.isEmpty, output.due > 0 {
            output.allowance += output.due
            send(GuestFrame.credit(session, stream, output.due))
            output.due = 0
        }
        outputs[stream] = output
    }

    private static func takesMore(_ raw: CInt) -> Bool {
        var poller = Poller()
        let place = poller.add(raw, read: false, write: true)
        return (try? poller.wait(milliseconds: 0)) == true && poller.isWritable(place)
    }

    /// Writes what is left, for as long as somebody takes it.
    mutating func settle(milliseconds: Int64) {
        let end = MonotonicClock.milliseconds + milliseconds
        while !isSettled, MonotonicClock.milliseconds < end {
            var poller = Poller()
            input = nil
            join(&poller)
            guard (try? poller.wait(milliseconds: CInt(clamping: end - MonotonicClock.milliseconds))) == true else {
                continue
            }
            serve(poller) { _ in }
        }
    }

    // MARK: What comes

    /// Takes a frame of this session; false where it breaks the protocol.
    mutating func receive(_ frame: GuestFrame) -> Bool {
        switch frame.kind {
        case .data:
            guard let stream = frame.stream, stream != .input, outputs[stream] != nil else { return false }
            let count = frame.payload.count - 1
            guard (outputs[stream]?.allowance ?? 0) >= count else { return false }
            outputs[stream]?.allowance -= count
            outputs[stream]?.pending.append(contentsOf: frame.payload.dropFirst())
            return true
        case .end:
            // Of an output; what is written of it is written as it comes.
            return frame.stream.map { $0 != .input } ?? false
        case .credit:
            guard frame.stream == .input, let count = frame.number(UInt32.self, at: 1) else { return false }
            let (sum, overflow) = credit.addingReportingOverflow(Int(count))
            guard !overflow, sum <= GuestFrame.window else { return false }
            credit = sum
            return true
        default:
            return false
        }
    }
}

extension GuestFrame {
    static func credit(_ session: UInt32, _ stream: Stream, _ count: Int) -> GuestFrame {
        GuestFrame(.credit, session, stream: stream, numbers: [UInt32(clamping: count)])
    }

    static func resize(_ session: UInt32, _ size: WindowSize) -> GuestFrame {
        GuestFrame(.resize, session, numbers: [UInt16(clamping: size.rows), UInt16(clamping: size.columns)])
    }

    static func signal(_ session: UInt32, _ number: CInt) -> GuestFrame {
        GuestFrame(.signal, session, numbers: [UInt32(bitPattern: number)])
    }

    /// How a program ended: as a shell shows it, and the signal that ended it, 0 where none did.
    static func exited(_ session: UInt32, _ status: ExitStatus) -> GuestFrame {
        var signal: CInt = 0
        if case .signalled(let number) = status { signal = number }
        return GuestFrame(.exited, session, numbers: [status.shellCode, signal])
    }

    /// What ``exited(_:_:)`` says, whoever said it; nil where it is too short.
    var exitStatus: ExitStatus? {
        guard let code = number(Int32.self) else { return nil }
        if let signal = number(Int32.self, at: 4), (1...64).contains(signal) { return .signalled(signal) }
        return .exited(code & 0xFF)
    }
}
