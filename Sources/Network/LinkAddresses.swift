// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import Glibc
public import LinuxSystem

/// What somebody else has given a link: to tell it to another kernel.
extension Links {
    /// An address with the length of its subnet's prefix.
    public struct Address: Sendable, Equatable {
        public let address: IPAddress
        public let length: Int

        public init(address: IPAddress, length: Int) {
            self.address = address
            self.length = length
        }
    }

    /// The addresses of a link but for those that IPv6 makes by itself on it.
    public func addresses(of index: Int32) throws(SystemError) -> [Address] {
        var found: [Address] = []
        for family in [IPAddress.Family.v4, .v6] {
            var message = try NetlinkMessage(CInt(RTM_GETADDR), flags: NLM_F_DUMP)
            var header = ifaddrmsg()
            header.ifa_family = UInt8(family.number)
            message.append(header)
            try socket.exchange(message, "list addresses", "", family: MemoryLayout<ifaddrmsg>.size) { reply in
                guard let header = reply.header(ifaddrmsg.self), header.ifa_index == UInt32(bitPattern: index),
                    header.ifa_scope != UInt8(RT_SCOPE_LINK.rawValue),
                    let bytes = reply.attribute(IFA_LOCAL) ?? reply.attribute(IFA_ADDRESS),
                    let address = IPAddress(bytes: Array(bytes))
                else { return }
                found.append(Address(address: address, length: Int(header.ifa_prefixlen)))
            }
        }
        return found
    }

    /// A route by a link.
    public struct Route: Sendable, Equatable {
        /// Where to, with the length of the prefix; nil: everything else.
        public var destination: Address?
        /// Nil: what it leads to is on the link.
        public var gateway: IPAddress?
        public var family: IPAddress.Family

        public init(to destination: Address?, by gateway: IPAddress?, family: IPAddress.Family) {
            self.destination = destination
            self.gateway = gateway
            self.family = family
        }
    }

    /// The routes of the main table by a link, those first that need no gateway; without those that the kernel makes by itself.
    public func routes(by index: Int32) throws(SystemError) -> [Route] {
        var found: [Route] = []
        try forEachRoute { route, reply in
            guard reply.attribute(RTA_OIF.rawValue).flatMap(Links.number) == UInt32(bitPattern: index),
                route.rtm_type == UInt8(RTN_UNICAST), route.rtm_protocol != UInt8(RTPROT_KERNEL)
            else { return }
            let bytes = reply.attribute(RTA_DST.rawValue)
            let destination = bytes.flatMap { IPAddress(bytes: Array($0)) }
            // One that cannot be read is none of everything.
            if (bytes == nil) != (destination == nil) || (destination == nil && route.rtm_dst_len != 0) { return }
            found.append(
                Route(
                    to: destination.map { Address(address: $0, length: Int(route.rtm_dst_len)) },
                    by: reply.attribute(RTA_GATEWAY.rawValue).flatMap { IPAddress(bytes: Array($0)) },
                    family: route.rtm_family == UInt8(IPAddress.Family.v6.number) ? .v6 : .v4))
        }
        return found.filter { $0.gateway == nil } + found.filter { $0.gateway != nil }
    }

    /// Adds a route by a link; one that is there already for the same destination gives way.
    public func add(_ route: Route, on index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWROUTE), flags: NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK)
        var header = rtmsg()
        header.rtm_family = UInt8(route.family.number)
        header.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
        header.rtm_protocol = UInt8(RTPROT_STATIC)
        let isOnLink = route.gateway == nil && route.family == .v4
        header.rtm_scope = UInt8((isOnLink ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE).rawValue)
        header.rtm_type = UInt8(RTN_UNICAST)
        header.rtm_dst_len = UInt8(clamping: route.destination?.length ?? 0)
        // The gateway may be outside of all subnets of the link: who has made the route knows that it is there.
        if route.gateway != nil { header.rtm_flags = UInt32(RTNH_F_ONLINK) }
        message.append(header)
        if let destination = route.destination { message.put(RTA_DST.rawValue, bytes: destination.address.bytes) }
        if let gateway = route.gateway { message.put(RTA_GATEWAY.rawValue, bytes: gateway.bytes) }
        message.put(RTA_OIF.rawValue, UInt32(bitPattern: index))
        let subject = route.destination.map { "\($0.address)/\($0.length)" } ?? "default"
        try socket.request(message, "add route", subject)
    }
}
