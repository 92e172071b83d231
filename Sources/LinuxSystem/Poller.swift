// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// A `poll(2)` set that is filled anew for each wait.
public struct Poller {
    private var entries: [pollfd] = []

    public init() {}

    /// Adds a descriptor and returns its index in this round.
    public mutating func add(_ descriptor: CInt, read: Bool = true, write: Bool = false) -> Int {
        let events = (read ? POLLIN : 0) | (write ? POLLOUT : 0)
        entries.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
        return entries.count - 1
    }

    /// Waits; returns `false` when `milliseconds` passed without an event. Negative: without limit. `rests`: the memory that
    /// the process does not need meanwhile is given back.
    public mutating func wait(milliseconds: CInt = -1, rests: Bool = false) throws(SystemError) -> Bool {
        let count = entries.count
        let result =
            rests ? zn_poll_resting(&entries, count, milliseconds) : zn_poll(&entries, count, milliseconds)
        if result == -EINTR { return false }
        return try check(result, "poll") > 0
    }

    /// Whether the descriptor has data, or was hung up.
    public func isReadable(_ index: Int) -> Bool {
        entries[index].revents & Int16(POLLIN | POLLHUP | POLLERR | POLLNVAL) != 0
    }

    /// Whether the descriptor takes data, or fails at once.
    public func isWritable(_ index: Int) -> Bool {
        entries[index].revents & Int16(POLLOUT | POLLERR | POLLNVAL) != 0
    }

    public mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
    }
}

/// A set of signals, as a mask with bit n-1 for signal n.
public struct SignalSet: Sendable {
    public let mask: UInt64

    public init(_ numbers: [CInt]) {
        mask = numbers.reduce(0) { $0 | 1 << UInt64($1 - 1) }
    }
}

/// Signals read as data. The signals are blocked in the process for as long as it lives.
public struct SignalQueue: ~Copyable {
    private let descriptor: Descriptor

    public init(_ signals: SignalSet) throws(SystemError) {
        descriptor = Descriptor(owning: try check(zn_signalfd(signals.mask), "signalfd"))
    }

    public var raw: CInt { descriptor.raw }

    /// Returns the next signal's number, `nil` when none waits.
    public func next() -> CInt? {
        // struct signalfd_siginfo is 128 bytes and begins with the number; see signalfd(2).
        var info: (number: UInt32, rest: InlineArray<31, UInt32>) = (0, .init(repeating: 0))
        return zn_read(raw, &info, 128) == 128 ? CInt(bitPattern: info.number) : nil
    }
}
