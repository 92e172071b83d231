// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import LinuxSystem

/// Brings up `lo` in the current network namespace, as every new one starts with it down.
///
/// One rtnetlink message through libnl-3: RTM_NEWLINK for index 1, which `lo` always has (rtnetlink(7)). The kernel
/// adds 127.0.0.1 and ::1 by itself.
enum Loopback {
    static func bringUp() throws(LaunchFailure) {
        guard let socket = nl_socket_alloc() else { throw LaunchFailure(.loopback, .noMemory) }
        defer { nl_socket_free(socket) }
        try succeed(nl_connect(socket, NETLINK_ROUTE))
        guard let message = nlmsg_alloc_simple(CInt(RTM_NEWLINK), CInt(NLM_F_REQUEST | NLM_F_ACK)) else {
            throw LaunchFailure(.loopback, .noMemory)
        }
        defer { nlmsg_free(message) }
        var link = ifinfomsg()
        link.ifi_index = 1
        link.ifi_flags = 1  // IFF_UP
        link.ifi_change = 1
        try succeed(nlmsg_append(message, &link, MemoryLayout<ifinfomsg>.size, CInt(NLMSG_ALIGNTO)))
        try succeed(nl_send_auto(socket, message))
        try succeed(nl_wait_for_ack(socket))
    }

    private static func succeed(_ result: CInt) throws(LaunchFailure) {
        if result >= 0 { return }
        // libnl's own numbers (netlink/errno.h); the two that can come here by name, the rest as I/O errors.
        switch -result {
        case NLE_PERM: throw LaunchFailure(.loopback, .notPermitted)
        case NLE_NOMEM: throw LaunchFailure(.loopback, .noMemory)
        case NLE_NODEV, NLE_OBJ_NOTFOUND: throw LaunchFailure(.loopback, .noDevice)
        default: throw LaunchFailure(.loopback, .ioError)
        }
    }
}
