// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A connection that came to a published port, and the one to the zone that it is passed on by. What one side does not take
/// stops the other, and the end of one direction is passed on as that.
struct PortStream: ~Copyable {
    /// One direction.
    private struct Flow {
        /// Read, and not taken yet.
        var rest: ArraySlice<UInt8> = []
        var hasEnded = false
        var isShut = false
    }

    /// MSG_DONTWAIT, and with MSG_NOSIGNAL.
    private static let (receiving, sending): (CInt, CInt) = (0x40, 0x4040)

    let client: Descriptor
    let zone: Descriptor
    private var up = Flow()
    private var down = Flow()
    /// Until then nothing is read: what the client sends waits in the kernel.
    private(set) var isConnected = false

    init(_ client: consuming Descriptor, _ zone: consuming Descriptor) {
        self.client = client
        self.zone = zone
        var on: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        // What one side sends at once goes on at once.
        _ = setsockopt(self.client.raw, CInt(IPPROTO_TCP), TCP_NODELAY, &on, size)
        _ = setsockopt(self.zone.raw, CInt(IPPROTO_TCP), TCP_NODELAY, &on, size)
    }

    struct Interest: Equatable {
        var read = false
        var write = false
    }

    var clientInterest: Interest {
        Interest(read: isConnected && up.rest.isEmpty && !up.hasEnded, write: !down.rest.isEmpty)
    }

    var zoneInterest: Interest {
        Interest(read: isConnected && down.rest.isEmpty && !down.hasEnded, write: !isConnected || !up.rest.isEmpty)
    }

    /// Nothing more comes from them, or is to be waited for with them: what one has sent and the other does not take is waited
    /// for there.
    var hasClientEnded: Bool { up.hasEnded || !up.rest.isEmpty }
    var hasZoneEnded: Bool { down.hasEnded || !down.rest.isEmpty }

    var isDone: Bool { up.isShut && down.isShut }

    /// Passes on what there is; `false` where the connection is broken.
    mutating func pass(_ scratch: inout [UInt8]) -> Bool {
        if !isConnected {
            var error: CInt = 0
            var size = socklen_t(MemoryLayout<CInt>.size)
            guard getsockopt(zone.raw, SOL_SOCKET, SO_ERROR, &error, &size) == 0, error == 0 else { return false }
            isConnected = true
        }
        return PortStream.pass(&up, client.raw, zone.raw, &scratch)
            && PortStream.pass(&down, zone.raw, client.raw, &scratch)
    }

    private static func pass(_ flow: inout Flow, _ source: CInt, _ target: CInt, _ scratch: inout [UInt8]) -> Bool {
        // Others wait, too.
        for _ in 0..<8 {
            if flow.rest.isEmpty {
                if flow.hasEnded { break }
                let count = scratch.withUnsafeMutableBytes { bytes in
                    bytes.baseAddress.map { recv(source, $0, bytes.count, PortStream.receiving) } ?? 0
                }
                if count < 0 {
                    if errno == EAGAIN || errno == EINTR { break }
                    return false
                }
                if count == 0 {
                    flow.hasEnded = true
                    break
                }
                flow.rest = scratch[..<count]
            }
            let sent = flow.rest.withUnsafeBytes { bytes in
                bytes.baseAddress.map { send(target, $0, bytes.count, PortStream.sending) }
                    ?? 0
            }
            if sent < 0, errno != EAGAIN, errno != EINTR { return false }
            flow.rest = flow.rest.dropFirst(max(0, sent))
            if !flow.rest.isEmpty {
                // The scratch is another connection's next.
                flow.rest = ArraySlice(Array(flow.rest))
                break
            }
            flow.rest = []
        }
        if flow.hasEnded, flow.rest.isEmpty, !flow.isShut {
            shutdown(target, CInt(SHUT_WR))
            flow.isShut = true
        }
        return true
    }

    /// Lets the client know that the connection is broken, as the zone would itself: by a reset.
    func reset() {
        var now = linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(client.raw, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }
}
