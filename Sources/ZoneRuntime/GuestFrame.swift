// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// A message between a machine's monitor on the host and the agent in the machine, over a stream of bytes (a port of
/// virtio-serial); or between a `zonectl` on the host and the monitor.
///
///     kind u8 · 0 u8 · 0 u16 · session u32 · length u32 · payload       little-endian, payload at most 64 KiB
///
/// A session is a program in the machine, or a copy to or from it; session 1 is the zone's own program, 0 is the machine.
/// Streams have a window: who sends has at most ``window`` bytes of a stream on the way that the other side has not granted
/// anew (``Kind/credit``), so that one reader that is slow holds up nobody else.
///
/// Neither side trusts the other: whatever does not fit is an error, never a trap or memory without bound.
struct GuestFrame: Sendable, Equatable {
    enum Kind: UInt8, Sendable, CaseIterable {
        // To the guest.
        /// Session 0, once: a ``GuestConfiguration`` as JSON. Answered by `configured` or `failed`.
        case configure = 1
        /// A new session: a ``GuestRequest`` as JSON. Answered by `started` or `failed`.
        case open = 2
        /// Bytes of a stream, of which the first byte of the payload says which one: ``Stream``.
        case data = 3
        /// A stream has ended: one byte, ``Stream``. To the guest also of an output, which nobody reads any more.
        case end = 4
        /// Rows and columns of the terminal, u16 each.
        case resize = 5
        /// A signal for the session's program: its number, u32.
        case signal = 6
        /// How much more of a stream may be sent: ``Stream`` as u8, bytes as u32.
        case credit = 7
        /// The session is of no interest any more: its program is killed.
        case close = 8
        /// Session 0: everything is ended and written to the disks, then the machine switches itself off.
        case powerOff = 9
        /// To the monitor itself: a ``MachineRequest`` as JSON, answered by `answer` (a ``MachineStatus``) or `failed`.
        case control = 10

        // From the guest.
        /// Session 0, first of all: a ``GuestHello`` as JSON.
        case hello = 64
        case configured = 65
        /// The program runs: its process id in the guest, u32.
        case started = 66
        /// The last message of a session: how its program ended, as a shell shows it, i32, and the signal that ended it, i32,
        /// which may be missing. All its output was sent before, and its streams have ended with it.
        case exited = 67
        /// The session, or the configuration, did not come to be: exit status as u8 (125, 126, 127), then a sentence, and after
        /// a new line what to do about it, where that is known. Of a copy also in the place of `exited`.
        case failed = 68
        /// What a session without a program found out, as JSON; `exited` follows.
        case answer = 69
    }

    enum Stream: UInt8, Sendable, CaseIterable {
        case input = 0
        case output = 1
        case error = 2
    }

    static let longest = 64 << 10
    static let headerSize = 12
    /// Bytes of a stream that may be on the way; both sides begin with this much credit.
    static let window = 256 << 10

    var kind: Kind
    var session: UInt32
    var payload: [UInt8]

    init(_ kind: Kind, _ session: UInt32 = 0, _ payload: [UInt8] = []) {
        self.kind = kind
        self.session = session
        self.payload = payload
    }

    /// A frame whose payload is numbers.
    init(_ kind: Kind, _ session: UInt32, stream: Stream? = nil, numbers: [any FixedWidthInteger]) {
        self.init(kind, session, stream.map { [$0.rawValue] } ?? [])
        for number in numbers { append(number) }
    }

    private mutating func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { payload.append(contentsOf: $0) }
    }

    static func data(_ session: UInt32, _ stream: Stream, _ bytes: some Collection<UInt8>) -> GuestFrame {
        var payload: [UInt8] = []
        payload.reserveCapacity(bytes.count + 1)
        payload.append(stream.rawValue)
        payload.append(contentsOf: bytes)
        return GuestFrame(.data, session, payload)
    }

    /// The stream that the payload begins with; nil where it begins with none.
    var stream: Stream? { payload.first.flatMap(Stream.init) }

    /// A little-endian number at an offset of the payload; nil where it is not all there.
    func number<Number: FixedWidthInteger>(_ type: Number.Type, at offset: Int = 0) -> Number? {
        let size = MemoryLayout<Number>.size
        guard offset >= 0, payload.count - offset >= size else { return nil }
        return payload.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type)) }
    }

    /// The frame as it is sent.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(GuestFrame.headerSize + payload.count)
        GuestFrame.addHeader(kind, session, length: payload.count, to: &bytes)
        return bytes + payload
    }

    fileprivate static func addHeader(_ kind: Kind, _ session: UInt32, length: Int, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: [kind.rawValue, 0, 0, 0])
        withUnsafeBytes(of: session.littleEndian) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: length).littleEndian) { bytes.append(contentsOf: $0) }
    }
}

/// What makes a peer's words no frames.
enum GuestFrameError: Error, Equatable {
    case kind(UInt8)
    case length(UInt32)
}

/// Takes frames out of a stream of bytes that comes in pieces.
struct GuestFrameReader: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    init() {}

    mutating func append(_ bytes: some Collection<UInt8>) {
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// The next whole frame, nil where there is none yet.
    mutating func next() throws(GuestFrameError) -> GuestFrame? {
        guard buffer.count - start >= GuestFrame.headerSize else { return nil }
        guard let kind = GuestFrame.Kind(rawValue: buffer[start]) else { throw .kind(buffer[start]) }
        let session = number(at: start + 4)
        let length = number(at: start + 8)
        guard length <= GuestFrame.longest + 1 else { throw .length(length) }
        let first = start + GuestFrame.headerSize
        guard buffer.count - first >= Int(length) else { return nil }
        let payload = Array(buffer[first..<first + Int(length)])
        start = first + Int(length)
        return GuestFrame(kind, session, payload)
    }

    private func number(at offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(buffer[offset + $1]) << (8 * UInt32($1)) }
    }
}

/// Frames on their way out through a descriptor that takes what it can.
struct GuestFrameQueue: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    init() {}

    var isEmpty: Bool { start == buffer.count }
    /// Bytes that wait.
    var count: Int { buffer.count - start }

    mutating func add(_ frame: GuestFrame) {
        makeRoom()
        GuestFrame.addHeader(frame.kind, frame.session, length: frame.payload.count, to: &buffer)
        buffer.append(contentsOf: frame.payload)
    }

    /// Adds bytes of a stream, which are not copied on the way.
    mutating func add(_ session: UInt32, _ stream: GuestFrame.Stream, _ bytes: ArraySlice<UInt8>) {
        makeRoom()
        GuestFrame.addHeader(.data, session, length: bytes.count + 1, to: &buffer)
        buffer.append(stream.rawValue)
        buffer.append(contentsOf: bytes)
    }

    /// Drops what is sent, where it is more than what waits: a queue that never runs empty must not grow for ever.
    private mutating func makeRoom() {
        guard start > buffer.count - start else { return }
        buffer.removeFirst(start)
        start = 0
    }

    /// Writes what the descriptor takes now. Throws where nobody reads any more.
    mutating func flush(to raw: CInt) throws(SystemError) {
        while !isEmpty {
            let count = buffer.withUnsafeBytes { write(raw, $0.baseAddress?.advanced(by: start), $0.count - start) }
            if count < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN { return }
                throw SystemError("write", "to the machine's agent", Errno(rawValue: errno))
            }
            start += count
        }
        buffer.removeAll(keepingCapacity: buffer.capacity < 1 << 20)
        start = 0
    }
}
