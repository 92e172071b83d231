// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import ZoneRuntime

/// `zonectl network lease ZONE NETWORK ACTION`, as udhcpc calls it by a script: what it has got is in the environment.
enum NetworkLeaseCommand {
    static let command = Command(
        names: ["network lease"], group: .networks, operands: "ZONE NETWORK ACTION",
        summary: "Give a zone the address that a DHCP server has given it", options: [], isHidden: true
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 3 else {
            throw ZoneError(.invalid, "network lease takes a zone, a network and what udhcpc says")
        }
        var lease = NetworkLease()
        lease.action = arguments.operands[2]
        lease.address = variable("ip")
        lease.length = variable("mask")
        lease.routers = words("router")
        lease.nameServers = words("dns")
        lease.domain = variable("domain")
        try lease.settle(arguments.operands[0], arguments.operands[1], context.folders)
        return 0
    }

    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    private static func words(_ name: String) -> [String] {
        variable(name)?.split(separator: " ").map(String.init) ?? []
    }
}
