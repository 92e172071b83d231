// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import CNetlink
import Glibc
public import LinuxSystem

/// The links, addresses and routes of a network namespace, rtnetlink(7). Errors are those of the kernel, with its words.
public struct Links: ~Copyable {
    let socket: NetlinkSocket

    /// Of the namespace that the calling thread is in.
    public init() throws(SystemError) {
        socket = try NetlinkSocket(NETLINK_ROUTE)
    }

    /// Of another namespace, which is entered for a moment. The corresponding system call is `setns`.
    public init(of namespace: borrowing Descriptor) throws(SystemError) {
        socket = try NetworkNamespace.inside(namespace) { () throws(SystemError) in
            try NetlinkSocket(NETLINK_ROUTE)
        }
    }

    /// A link as it was found.
    public struct Link: Sendable, Equatable {
        public let index: Int32
        public let name: String
        public let isUp: Bool
        /// Something is at its other end, IFF_LOWER_UP.
        public let hasCarrier: Bool
        /// The bridge that it is a port of.
        public let master: Int32?
        public let mac: MACAddress?
        public let mtu: UInt32
        /// `bridge`, `veth` and so on; `nil` for hardware.
        public let kind: String?
    }

    // MARK: Looking

    /// The link of a name, `nil` where there is none.
    public func link(_ name: String) throws(SystemError) -> Link? {
        // It is answered by one message, and then acknowledged.
        var message = try NetlinkMessage(CInt(RTM_GETLINK), flags: NLM_F_ACK)
        message.append(ifinfomsg())
        message.put(IFLA_IFNAME, name)
        var found: Link?
        do throws(SystemError) {
            try socket.exchange(message, "look at link", name, family: MemoryLayout<ifinfomsg>.size) {
                found = Links.link($0)
            }
        } catch {
            guard error.errno == .noDevice else { throw error }
        }
        return found
    }

    /// All links.
    public func all() throws(SystemError) -> [Link] {
        var message = try NetlinkMessage(CInt(RTM_GETLINK), flags: NLM_F_DUMP)
        message.append(ifinfomsg())
        var links: [Link] = []
        try socket.exchange(message, "list links", "", family: MemoryLayout<ifinfomsg>.size) { reply in
            if let link = Links.link(reply) { links.append(link) }
        }
        return links
    }

    /// The corresponding C constant is `IFF_LOWER_UP`.
    private static let lowerUp: UInt32 = 1 << 16

    private static func link(_ reply: NetlinkReply) -> Link? {
        guard let header = reply.header(ifinfomsg.self), let name = reply.attribute(IFLA_IFNAME) else { return nil }
        let info = reply.attribute(IFLA_LINKINFO)
        let kind = info.flatMap { NetlinkReply.attribute(UInt16(IFLA_INFO_KIND), in: $0) }
        return Link(
            index: header.ifi_index, name: text(name), isUp: header.ifi_flags & UInt32(IFF_UP) != 0,
            hasCarrier: header.ifi_flags & Links.lowerUp != 0,
            master: reply.attribute(IFLA_MASTER).flatMap(number).map { Int32(bitPattern: $0) },
            mac: reply.attribute(IFLA_ADDRESS).flatMap { MACAddress(bytes: Array($0)) },
            mtu: reply.attribute(IFLA_MTU).flatMap(number) ?? 0, kind: kind.map(text))
    }

    /// The destinations that the namespace's main routes lead to, without the default route.
    public func routedSubnets() throws(SystemError) -> [Subnet] {
        var subnets: [Subnet] = []
        try forEachRoute { route, reply in
            guard let bytes = reply.attribute(RTA_DST.rawValue), let address = IPAddress(bytes: Array(bytes)),
                let subnet = Subnet(address, length: Int(route.rtm_dst_len))
            else { return }
            subnets.append(subnet)
        }
        return subnets
    }

    /// The names of the links that default routes of the main table lead to.
    public func defaultLinks() throws(SystemError) -> [String] {
        var indices: Set<UInt32> = []
        try forEachRoute { route, reply in
            guard route.rtm_dst_len == 0, let link = reply.attribute(RTA_OIF.rawValue).flatMap(Links.number) else {
                return
            }
            indices.insert(link)
        }
        return try all().filter { indices.contains(UInt32(bitPattern: $0.index)) }.map(\.name)
    }

    /// Of the main table.
    func forEachRoute(_ body: (rtmsg, NetlinkReply) -> Void) throws(SystemError) {
        for family in [IPAddress.Family.v4, .v6] {
            var message = try NetlinkMessage(CInt(RTM_GETROUTE), flags: NLM_F_DUMP)
            var header = rtmsg()
            header.rtm_family = UInt8(family.number)
            message.append(header)
            try socket.exchange(message, "list routes", "", family: MemoryLayout<rtmsg>.size) { reply in
                guard let route = reply.header(rtmsg.self), route.rtm_table == UInt8(RT_TABLE_MAIN.rawValue) else {
                    return
                }
                body(route, reply)
            }
        }
    }

    // MARK: Making

    /// Makes a bridge, which is down.
    public func makeBridge(_ name: String, mac: MACAddress, mtu: UInt32? = nil) throws(SystemError) {
        var message = try new()
        message.put(IFLA_IFNAME, name)
        message.put(IFLA_ADDRESS, bytes: mac.bytes)
        if let mtu { message.put(IFLA_MTU, mtu) }
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in message.put(IFLA_INFO_KIND, "bridge") }
        try socket.request(message, "make bridge", name)
    }

    /// One end of a pair, or the other.
    public struct End: Sendable {
        public var name: String
        public var mac: MACAddress?

        public init(name: String, mac: MACAddress? = nil) {
            self.name = name
            self.mac = mac
        }
    }

    /// Makes two links that are each other's cable, veth(4): `own` here, up and a port of a bridge, and `other` in another
    /// namespace, down.
    public func makePair(
        _ own: End, _ other: End, in namespace: borrowing Descriptor, bridge: Int32, mtu: UInt32? = nil
    ) throws(SystemError) {
        var message = try new(up: true)
        let raw = UInt32(bitPattern: namespace.raw)
        Links.put(own, mtu, into: &message)
        message.put(IFLA_MASTER, UInt32(bitPattern: bridge))
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in
            message.put(IFLA_INFO_KIND, "veth")
            try message.nest(IFLA_INFO_DATA) { (message) throws(SystemError) in
                try message.nest(VETH_INFO_PEER) { (message) throws(SystemError) in
                    message.append(ifinfomsg())
                    Links.put(other, mtu, into: &message)
                    message.put(IFLA_NET_NS_FD, raw)
                }
            }
        }
        try socket.request(message, "make link", own.name)
    }

    /// Makes a link in another namespace, down, that has its own MAC address in the network of a link here, and reaches others
    /// of its kind there, MACVLAN_MODE_BRIDGE.
    public func makeMacvlan(
        _ end: End, in namespace: borrowing Descriptor, parent: Int32
    ) throws(SystemError) {
        var message = try new()
        let raw = UInt32(bitPattern: namespace.raw)
        Links.put(end, nil, into: &message)
        message.put(IFLA_LINK, UInt32(bitPattern: parent))
        message.put(IFLA_NET_NS_FD, raw)
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in
            message.put(IFLA_INFO_KIND, "macvlan")
            try message.nest(IFLA_INFO_DATA) { (message) throws(SystemError) in
                message.put(IFLA_MACVLAN_MODE, UInt32(MACVLAN_MODE_BRIDGE.rawValue))
            }
        }
        try socket.request(message, "make link", end.name)
    }

    /// Makes a VLAN on a link, IEEE 802.1Q, up and a port of a bridge.
    public func makeVLAN(_ name: String, number: UInt16, on parent: Int32, bridge: Int32) throws(SystemError) {
        var message = try new(up: true)
        message.put(IFLA_IFNAME, name)
        message.put(IFLA_LINK, UInt32(bitPattern: parent))
        message.put(IFLA_MASTER, UInt32(bitPattern: bridge))
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in
            message.put(IFLA_INFO_KIND, "vlan")
            try message.nest(IFLA_INFO_DATA) { (message) throws(SystemError) in message.put(IFLA_VLAN_ID, number) }
        }
        try socket.request(message, "make VLAN \(number)", name)
    }

    private static func put(_ end: End, _ mtu: UInt32?, into message: inout NetlinkMessage) {
        message.put(IFLA_IFNAME, end.name)
        if let mac = end.mac { message.put(IFLA_ADDRESS, bytes: mac.bytes) }
        if let mtu { message.put(IFLA_MTU, mtu) }
    }

    private func new(up: Bool = false) throws(SystemError) -> NetlinkMessage {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)
        var header = ifinfomsg()
        if up {
            header.ifi_flags = UInt32(IFF_UP)
            header.ifi_change = header.ifi_flags
        }
        message.append(header)
        return message
    }

    // MARK: Changing

    /// Brings a link up.
    public func bringUp(_ index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_index = index
        header.ifi_flags = UInt32(IFF_UP)
        header.ifi_change = header.ifi_flags
        message.append(header)
        try socket.request(message, "bring up", "link \(index)")
    }

    /// Sets the largest packet, in bytes.
    public func setMTU(_ index: Int32, _ bytes: UInt32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_index = index
        message.append(header)
        message.put(IFLA_MTU, bytes)
        try socket.request(message, "set MTU", "link \(index)")
    }

    /// Makes a link a port of a bridge.
    public func join(_ index: Int32, bridge: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_index = index
        message.append(header)
        message.put(IFLA_MASTER, UInt32(bitPattern: bridge))
        try socket.request(message, "join bridge", "link \(index)")
    }

    /// Lets a bridge send what has come by a port back by the same port.
    public func setHairpin(_ index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_index = index
        message.append(header)
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in
            message.put(IFLA_INFO_SLAVE_KIND, "bridge")
            try message.nest(IFLA_INFO_SLAVE_DATA) { (message) throws(SystemError) in
                message.put(IFLA_BRPORT_MODE, UInt8(1))
            }
        }
        try socket.request(message, "set hairpin", "link \(index)")
    }

    /// Removes a link, and with it its addresses and routes; succeeds where there is none of the name.
    public func remove(_ name: String) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_DELLINK), flags: NLM_F_ACK)
        message.append(ifinfomsg())
        message.put(IFLA_IFNAME, name)
        do throws(SystemError) { try socket.request(message, "remove link", name) } catch {
            guard error.errno == .noDevice else { throw error }
        }
    }

    /// Gives a link an address in a subnet of that length. An address of IPv6 can be used at once: who gives it knows that
    /// nobody else has it.
    public func addAddress(_ address: IPAddress, length: Int, to index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(
            CInt(RTM_NEWADDR), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)
        var header = ifaddrmsg()
        header.ifa_family = UInt8(address.family.number)
        header.ifa_prefixlen = UInt8(clamping: length)
        header.ifa_flags = address.family == .v6 ? UInt8(IFA_F_NODAD) : 0
        header.ifa_index = UInt32(bitPattern: index)
        message.append(header)
        message.put(IFA_LOCAL, bytes: address.bytes)
        message.put(IFA_ADDRESS, bytes: address.bytes)
        try socket.request(message, "add address", "\(address)/\(length)")
    }

    /// Takes a link's addresses of a family, but for one.
    public func removeAddresses(
        of index: Int32, _ family: IPAddress.Family, except kept: IPAddress? = nil
    ) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_GETADDR), flags: NLM_F_DUMP)
        var header = ifaddrmsg()
        header.ifa_family = UInt8(family.number)
        message.append(header)
        var found: [(address: IPAddress, length: UInt8)] = []
        try socket.exchange(message, "list addresses", "", family: MemoryLayout<ifaddrmsg>.size) { reply in
            guard let header = reply.header(ifaddrmsg.self), header.ifa_index == UInt32(bitPattern: index),
                let bytes = reply.attribute(IFA_LOCAL) ?? reply.attribute(IFA_ADDRESS),
                let address = IPAddress(bytes: Array(bytes)), address != kept
            else { return }
            found.append((address, header.ifa_prefixlen))
        }
        for (address, length) in found {
            var message = try NetlinkMessage(CInt(RTM_DELADDR), flags: NLM_F_ACK)
            var header = ifaddrmsg()
            header.ifa_family = UInt8(family.number)
            header.ifa_prefixlen = length
            header.ifa_index = UInt32(bitPattern: index)
            message.append(header)
            message.put(IFA_LOCAL, bytes: address.bytes)
            do throws(SystemError) { try socket.request(message, "remove address", address.description) } catch {
                guard error.errno == .addressUnavailable else { throw error }
            }
        }
    }

    /// Lets everything else go through a gateway, and no longer through another one.
    public func setDefaultRoute(by gateway: IPAddress, on index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(
            CInt(RTM_NEWROUTE), flags: NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK)
        var header = rtmsg()
        header.rtm_family = UInt8(gateway.family.number)
        header.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
        header.rtm_protocol = UInt8(RTPROT_STATIC)
        header.rtm_scope = UInt8(RT_SCOPE_UNIVERSE.rawValue)
        header.rtm_type = UInt8(RTN_UNICAST)
        message.append(header)
        message.put(RTA_GATEWAY.rawValue, bytes: gateway.bytes)
        message.put(RTA_OIF.rawValue, UInt32(bitPattern: index))
        try socket.request(message, "set default route", "by \(gateway)")
    }

    // MARK: Values

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    static func number(_ bytes: ArraySlice<UInt8>) -> UInt32? {
        bytes.withUnsafeBytes { $0.count == 4 ? $0.loadUnaligned(as: UInt32.self) : nil }
    }
}
