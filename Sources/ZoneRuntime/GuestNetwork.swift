// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network
import OCI

/// The network cards of a guest.
enum GuestNetwork {
    /// How long a card may take to appear, in milliseconds.
    private static let patience: Int64 = 5_000

    /// Names the cards and gives them their addresses and routes; loopback goes up in any case.
    static func configure(_ interfaces: [GuestInterface]) throws(ZoneError) {
        let links = try attempting("open the guest's network") { () throws(SystemError) in try Links() }
        try attempting("bring up loopback") { () throws(SystemError) in
            if let loopback = try links.link("lo") { try links.bringUp(loopback.index) }
        }
        for interface in interfaces {
            try configure(interface, links)
        }
    }

    private static func configure(_ interface: GuestInterface, _ links: borrowing Links) throws(ZoneError) {
        let subject = "network card \(interface.mac)"
        guard let mac = MACAddress(interface.mac) else { throw ZoneError(.invalid, "\(subject): is no MAC address") }
        let addresses = try interface.addresses.map { (text) throws(ZoneError) in try address(text) }
        let gateways = try interface.gateways.map { (text) throws(ZoneError) in try gateway(text) }
        let routes = try interface.routes.map { (route) throws(ZoneError) in
            let (base, length) = try address(route.destination)
            let by = try route.gateway.map { (text) throws(ZoneError) in try gateway(text) }
            return Links.Route(
                to: length == 0 ? nil : Links.Address(address: base, length: length), by: by, family: base.family)
        }
        try attempting("set up \(subject)") { () throws(SystemError) in
            let link = try find(mac, links)
            if link.name != interface.name { try links.rename(link.index, to: interface.name) }
            if let mtu = interface.mtu.flatMap({ UInt32(exactly: $0) }) { try links.setMTU(link.index, mtu) }
            // Nobody else has its address: without the search for one that has, it can be used at once.
            let dad = "/proc/sys/net/ipv6/conf/\(interface.name)/accept_dad"
            try? Descriptor.open(dad, [.writeOnly]).writeOnce("0", dad)
            // It has its routes from here, too: what routers advertise is for systems of their own.
            if addresses.contains(where: { $0.0.family == .v6 }) {
                let routers = "/proc/sys/net/ipv6/conf/\(interface.name)/accept_ra"
                try? Descriptor.open(routers, [.writeOnly]).writeOnce("0", routers)
            }
            for (address, length) in addresses { try links.addAddress(address, length: length, to: link.index) }
            try links.bringUp(link.index)
            for route in routes { try links.add(route, on: link.index) }
            for gateway in gateways { try links.setDefaultRoute(by: gateway, on: link.index) }
        }
    }

    private static func find(_ mac: MACAddress, _ links: borrowing Links) throws(SystemError) -> Links.Link {
        let begin = MonotonicClock.milliseconds
        while true {
            if let link = try links.all().first(where: { $0.mac == mac }) { return link }
            if MonotonicClock.milliseconds - begin > patience { throw SystemError("find", "\(mac)", .noDevice) }
            pause(milliseconds: 2)
        }
    }

    private static func gateway(_ text: String) throws(ZoneError) -> IPAddress {
        guard let gateway = IPAddress(text) else { throw ZoneError(.invalid, "gateway \(text): is no address") }
        return gateway
    }

    /// `10.88.0.2/16`.
    static func address(_ text: String) throws(ZoneError) -> (IPAddress, Int) {
        let (first, second) = text.halves("/")
        if let address = IPAddress(first), let second, let length = Int(second), second.utf8.count <= 3,
            (0...address.family.bits).contains(length)
        {
            return (address, length)
        }
        throw ZoneError(
            .invalid, "address \(text): an address and the length of its prefix are wanted, as in 10.0.0.2/24")
    }
}
