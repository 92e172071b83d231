// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Network
public import OCI

/// A network of zones: STORE/networks/NAME/network.json. On the host it is a bridge, made when its first zone starts.
public struct NetworkRecord: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// Seconds since 1970.
    public var created: Int64 = 0
    /// One of IPv4, and perhaps one of IPv6.
    public var subnets: [String] = []
    /// The bridge's addresses; in a subnet where none is named, the first one.
    public var gateways: [String] = []
    /// Nothing goes in or out.
    public var isInternal = false
    /// Bytes; the kernel's default where nothing is said.
    public var mtu: Int64?
    /// A link of the host's, and a VLAN (IEEE 802.1Q) on it that the network extends to.
    public var parent: String?
    public var vlan: Int64?
    public var labels: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.required("subnets", &subnets)
        try visitor.field("gateways", &gateways)
        try visitor.field("internal", &isInternal)
        try visitor.field("mtu", &mtu)
        try visitor.field("parent", &parent)
        try visitor.field("vlan", &vlan)
        try visitor.field("labels", &labels)
    }

    var ranges: [Subnet] { subnets.compactMap { Subnet($0) } }
    /// The bridge's address in a subnet.
    func gateway(in range: Subnet) -> IPAddress? {
        gateways.lazy.compactMap { IPAddress($0) }.first { range.contains($0) } ?? range.host(1)
    }
    /// Where machines get their addresses of IPv6 by DHCPv6: dnsmasq has no shorter prefix than one of 64 bits.
    var leased: Subnet? {
        guard let six = ranges.first(where: { $0.base.family == .v6 }) else { return nil }
        return six.length >= 64 ? six : gateway(in: six).flatMap { Subnet($0, length: 64) }
    }
    /// All of them, with the length of their subnets.
    var bridgeAddresses: [(address: IPAddress, length: Int)] {
        ranges.compactMap { range in gateway(in: range).map { ($0, range.length) } }
    }
    /// The same as text.
    public var allGateways: [String] { bridgeAddresses.map(\.address.description) }
    /// Of the bridge: who finds it knows by that whose it is.
    var mac: MACAddress? {
        bridgeAddresses.first.flatMap { MACAddress(local: MACAddress.own + $0.address.bytes.suffix(4)) }
    }
}

extension MACAddress {
    /// What those begin with that zonectl gives out.
    static let own: [UInt8] = [0x02, 0x5a]
}

/// A network that a zone is in.
public struct NetworkAttachment: JSONRecord, Sendable, Equatable {
    /// That of a network of zones, or `bridge:LINK` or `macvlan:LINK`.
    public var name = ""
    /// Of the zone's in it, chosen by who made it or given out; they stay until it is removed. None where the network's own
    /// DHCP gives them.
    public var addresses: [String] = []
    /// Of the zone's end.
    public var mac = ""
    /// The zone's end, such as `eth0`.
    public var link = ""
    /// Whether somebody has chosen its addresses.
    public var isChosen = false
    /// Bits per second that may go into the zone, and come out of it.
    public var inRate: Int64?
    public var outRate: Int64?

    public init() {}

    public init(_ name: String) {
        self.name = name
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.field("addresses", &addresses)
        try visitor.field("mac", &mac)
        try visitor.field("link", &link)
        try visitor.field("chosen", &isChosen)
        try visitor.field("inRate", &inRate)
        try visitor.field("outRate", &outRate)
    }

    /// What a zone is connected to.
    public enum Kind: Equatable, Sendable {
        /// A network of zones.
        case zones
        /// A bridge of the host's, by its link.
        case bridge(String)
        /// A link of the host's, to whose network the zone has one of its own.
        case macvlan(String)
    }

    /// `nil` where the name is none.
    public var kind: Kind? {
        for (prefix, make) in [("bridge:", Kind.bridge), ("macvlan:", Kind.macvlan)] where name.hasPrefix(prefix) {
            let link = String(name.dropFirst(prefix.count))
            return NetworkAttachment.isLink(link) ? make(link) : nil
        }
        return ZoneName.isValid(name) ? .zones : nil
    }

    /// What the kernel takes as a link's name, dev_valid_name().
    static func isLink(_ name: String) -> Bool {
        (1...15).contains(name.utf8.count) && ![".", ".."].contains(name)
            && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    }

    /// The same for another zone: an address is one zone's.
    var anew: NetworkAttachment {
        var copy = self
        (copy.addresses, copy.mac, copy.isChosen) = ([], "", false)
        return copy
    }

    /// As a person writes it: without what was given out.
    var asWritten: NetworkAttachment {
        var copy = isChosen ? self : anew
        if let mac = MACAddress(copy.mac), Array(mac.bytes.prefix(2)) == MACAddress.own { copy.mac = "" }
        copy.isChosen = false
        copy.link = ""
        return copy
    }

    var ipAddresses: [IPAddress] { addresses.compactMap { IPAddress($0) } }
    var isOfZones: Bool { kind == .zones }
}

extension ZoneFolders {
    var networks: String { "\(store)/networks" }
    func network(_ name: String) -> String { "\(networks)/\(name)" }
    /// A file for each address, with the name of the zone that has it.
    func leases(_ network: String) -> String { "\(self.network(network))/leases" }
    /// No zone has a name that begins so.
    static var networksFolder: String { ".networks" }
    /// What a network's programs have while it is up.
    func volatileNetwork(_ name: String) -> String { "\(root)/\(ZoneFolders.networksFolder)/\(name)" }

    /// The name of the link that is a network's bridge. Roots must not meet, as with control groups.
    public func bridge(_ network: String) -> String {
        // Not what other links of ours begin with.
        let isOurs = ["zv", "zb", "zl", "zi"].contains { network.hasPrefix($0) }
        let isPlain = root == ZoneFolders.defaultRoot && network.utf8.count <= 15 && !isOurs
        return isPlain ? network : "zb" + digits(of: "\(root) \(network)")
    }

    /// The name of the host's end of a zone's link to a network: by its MAC address, of which a network has each once. So one
    /// that somebody still holds gives way to that of who has its address next.
    func link(_ attachment: NetworkAttachment) -> String {
        FilterTable.linkPrefix + digits(of: "\(root) \(attachment.name) \(attachment.mac)")
    }

    /// The link that is a network's VLAN.
    func vlanLink(_ network: String) -> String { "zl" + digits(of: "\(root) \(network)") }

    /// The link that holds back what comes out of a zone, where that is limited.
    func brake(_ attachment: NetworkAttachment) -> String {
        "zi" + digits(of: "\(root) \(attachment.name) \(attachment.mac)")
    }

    /// The name of the packet filter's tables.
    var filterTable: String { root == ZoneFolders.defaultRoot ? "zonectl" : "zonectl_" + digits(of: root) }

    /// FNV-1a, 48 bits of it: a name, not a secret. Links' names have at most 15 bytes.
    private func digits(of text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let text = String((hash ^ hash >> 48) & 0xffff_ffff_ffff, radix: 16)
        return String(repeating: "0", count: 12 - text.utf8.count) + text
    }
}
