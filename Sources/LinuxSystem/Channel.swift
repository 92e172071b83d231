// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// One end of a pair of sockets that keeps messages apart and can carry a descriptor with each.
public struct Channel: ~Copyable {
    private let socket: Descriptor

    /// Takes ownership of a connected socket.
    public init(owning raw: CInt) {
        socket = Descriptor(owning: raw)
    }

    /// Makes a connected pair and keeps one end; `other` becomes the number of the other, which the caller owns.
    public init(other: inout CInt) throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        try check(zn_socketpair_seqpacket(&ends), "socketpair")
        socket = Descriptor(owning: ends[0])
        other = ends[1]
    }

    public var raw: CInt { socket.raw }

    /// Sends one message. Allocates nothing, so that a child may call it.
    public func send(_ message: UnsafeRawBufferPointer, descriptor: CInt = -1) throws(SystemError) {
        guard let base = message.baseAddress else { return }
        try check(zn_send_fd(raw, base, message.count, descriptor), "send")
    }

    /// Receives one message into `buffer` and returns its size, 0 when the other end is closed. A descriptor that came
    /// with it is put into `descriptor`.
    public func receive(
        into buffer: UnsafeMutableRawBufferPointer,
        descriptor: inout Descriptor?
    ) throws(SystemError) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var raw: CInt = -1
        let size = zn_receive_fd(self.raw, base, buffer.count, &raw)
        if raw >= 0 { descriptor = Descriptor(owning: raw) }
        // A peer that was killed with data unread resets the connection: the same as a close.
        if size == -Int(ECONNRESET) { return 0 }
        return try check(size, "receive")
    }

    /// Receives one message without a descriptor; empty when the other end is closed. What is longer is cut off.
    public func receive(upTo count: Int) throws(SystemError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let size = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(raw, $0, bytes.count) } ?? 0
        }
        if size == -Int(ECONNRESET) { return [] }
        return Array(buffer.prefix(try check(size, "receive")))
    }
}
