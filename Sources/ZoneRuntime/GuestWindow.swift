// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What makes the other side's use of a stream's window wrong.
enum GuestWindowError: Error, Equatable {
    /// More was sent than was granted.
    case exceeded
    /// More was granted than was sent.
    case overgranted
}

/// How much of a stream may still be sent.
struct GuestCredit: Sendable, Equatable {
    private(set) var left = GuestFrame.window

    mutating func spend(_ count: Int) { left -= min(count, left) }

    /// The other side has taken so many bytes.
    mutating func grant(_ count: UInt32) throws(GuestWindowError) {
        guard Int(count) <= GuestFrame.window - left else { throw .overgranted }
        left += Int(count)
    }
}

/// A stream's bytes that have come and are not yet where they go.
struct GuestInflow: Sendable, Equatable {
    /// How much the other side may still send.
    private var allowance = GuestFrame.window
    /// Taken, and not granted anew yet.
    private var owed = 0
    private var buffer: [UInt8] = []
    private var start = 0

    /// Granted in parts of this size: the other side never has less than the rest of the window.
    static let part = GuestFrame.window / 4

    var waiting: ArraySlice<UInt8> { buffer[start...] }

    mutating func accept(_ bytes: ArraySlice<UInt8>) throws(GuestWindowError) {
        guard bytes.count <= allowance else { throw .exceeded }
        allowance -= bytes.count
        add(bytes)
    }

    /// Adds what the other side has not sent.
    mutating func add(_ bytes: ArraySlice<UInt8>) {
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// So many of the bytes that wait are taken.
    mutating func take(_ count: Int) {
        let taken = min(count, buffer.count - start)
        start += taken
        owed += taken
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: true)
            start = 0
        }
    }

    /// Nobody wants what waits.
    mutating func drop() { take(waiting.count) }

    /// What is to be granted now; nil where it is too little for a message.
    mutating func grant() -> UInt32? {
        guard owed >= GuestInflow.part else { return nil }
        // Not what the other side has not sent.
        let count = min(owed, GuestFrame.window - allowance)
        allowance += count
        owed = 0
        return count > 0 ? UInt32(count) : nil
    }
}
