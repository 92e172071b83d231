// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import CNetlink
public import LinuxSystem

extension Links {
    /// Gives a link, which is down, another name.
    public func rename(_ index: Int32, to name: String) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_index = index
        message.append(header)
        message.put(IFLA_IFNAME, name)
        try socket.request(message, "rename", "link \(index) to \(name)")
    }
}
