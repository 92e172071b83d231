// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// One end of a pair of sockets that keeps messages apart and can carry a descriptor with each.
public struct Channel: ~Copyable {
    private let socket: Descriptor

    private init(_ raw: CInt) {
        socket = Descriptor(owning: raw)
    }

    public var raw: CInt { socket.raw }

    /// Returns two connected ends.
    public static func pair() throws(SystemError) -> ChannelPair {
        var ends: [CInt] = [-1, -1]
        try check(zn_socketpair_seqpacket(&ends), "socketpair")
        return ChannelPair(one: Channel(ends[0]), other: Channel(ends[1]))
    }

    /// Sends one message. Allocates nothing, so that a child may call it.
    public func send(_ message: UnsafeRawBufferPointer, descriptor: CInt = -1) throws(SystemError) {
        guard let base = message.baseAddress else { return }
        try check(zn_send_fd(raw, base, message.count, descriptor), "send")
    }

    /// Receives one message into `buffer` and returns its size, 0 when the other end is closed.
    public func receive(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> ReceivedMessage {
        guard let base = buffer.baseAddress else { return ReceivedMessage(size: 0, descriptor: nil) }
        var descriptor: CInt = -1
        let size = zn_receive_fd(raw, base, buffer.count, &descriptor)
        let owned = descriptor >= 0 ? Descriptor(owning: descriptor) : nil
        // A peer that was killed with data unread resets the connection: the same as a close.
        if size == -ECONNRESET { return ReceivedMessage(size: 0, descriptor: owned) }
        return ReceivedMessage(size: try check(size, "receive"), descriptor: owned)
    }
}

/// Two connected ends of a ``Channel``.
public struct ChannelPair: ~Copyable {
    public let one: Channel
    public let other: Channel

    /// Takes the pair apart.
    public consuming func split<R: ~Copyable>(_ body: (consuming Channel, consuming Channel) -> R) -> R {
        body(one, other)
    }
}

/// A message from a ``Channel``.
public struct ReceivedMessage: ~Copyable {
    public let size: Int
    public var descriptor: Descriptor?
}
