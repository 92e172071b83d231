// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import Glibc
public import LinuxSystem

/// Tells when somebody takes rules out of nftables, so that who misses its own can look. It is woken by removals alone: a filter
/// on the socket keeps away what comes with each element of a set.
public struct FilterWatch: ~Copyable {
    private let socket: NetlinkSocket

    /// Of the network namespace that the calling thread is in.
    public init() throws(SystemError) {
        let socket = try NetlinkSocket(NETLINK_NETFILTER)
        var program = PacketProgram()
        // nlmsghdr's type, in the host's order: subsystem above, NFT_MSG_… below.
        program.load8(5)
        program.isEqual(UInt32(NFNL_SUBSYS_NFTABLES), otherwise: "no")
        program.load8(4)
        for type in [NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET] {
            program.isEqual(type.rawValue, then: "yes")
        }
        program.place("no")
        program.end(0)
        program.place("yes")
        program.end(UInt32.max)
        try socket.filter(program)
        try socket.join(group: NFNLGRP_NFTABLES.rawValue)
        self.socket = socket
    }

    /// Readable when something was removed.
    public var raw: CInt { socket.raw }

    /// Drops what has come: what it was shows by a look at what there is.
    public func drain() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        var count = 0
        // Also where there was more than room for (ENOBUFS).
        repeat {
            count = recv(raw, &buffer, buffer.count, 0x60 /* MSG_DONTWAIT | MSG_TRUNC */)
        } while count > 0 || count < 0 && errno == ENOBUFS
    }
}
