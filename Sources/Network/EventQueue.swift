// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// Waits for many descriptors, epoll(7).
struct EventQueue: ~Copyable {
    private static let most = 64
    /// EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD; EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP.
    private static let (adding, removing, changing): (CInt, CInt, CInt) = (1, 2, 3)
    private static let (input, output, failed, hungUp): (UInt32, UInt32, UInt32, UInt32) = (1, 4, 8, 16)

    private let queue: Descriptor
    private var tags = [UInt64](repeating: 0, count: EventQueue.most)
    private var events = [UInt32](repeating: 0, count: EventQueue.most)

    struct Event {
        let tag: UInt64
        /// Nothing will come or go any more, or an error waits to be read.
        let hasEnded: Bool
    }

    init() throws(SystemError) {
        queue = Descriptor(owning: try check(zn_epoll_create(), "epoll_create1"))
    }

    var raw: CInt { queue.raw }

    func add(_ descriptor: CInt, tag: UInt64, read: Bool, write: Bool = false) throws(SystemError) {
        try change(EventQueue.adding, descriptor, tag, read, write)
    }

    func set(_ descriptor: CInt, tag: UInt64, read: Bool, write: Bool) throws(SystemError) {
        try change(EventQueue.changing, descriptor, tag, read, write)
    }

    /// Also of one that is not in it.
    func remove(_ descriptor: CInt) {
        _ = zn_epoll_change(queue.raw, EventQueue.removing, descriptor, 0, 0)
    }

    private func change(
        _ operation: CInt, _ descriptor: CInt, _ tag: UInt64, _ read: Bool, _ write: Bool
    ) throws(SystemError) {
        let events = (read ? EventQueue.input : 0) | (write ? EventQueue.output : 0)
        try check(zn_epoll_change(queue.raw, operation, descriptor, events, tag), "epoll_ctl", "\(descriptor)")
    }

    /// `milliseconds`: negative for ever. Empty when the time is over, or a signal has come.
    mutating func wait(milliseconds: CInt) -> [Event] {
        let count = zn_epoll_wait(queue.raw, &tags, &events, EventQueue.most, milliseconds)
        return (0..<max(0, Int(count))).map { index in
            Event(tag: tags[index], hasEnded: events[index] & (EventQueue.failed | EventQueue.hungUp) != 0)
        }
    }
}
