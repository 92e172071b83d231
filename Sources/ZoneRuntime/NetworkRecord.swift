// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Network
public import OCI

/// A network of zones: STORE/networks/NAME/network.json. On the host it is a bridge, made when its first zone starts.
public struct NetworkRecord: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// Seconds since 1970.
    public var created: Int64 = 0
    /// One of IPv4, and perhaps one of IPv6. The first host of each is the bridge.
    public var subnets: [String] = []
    /// Nothing goes in or out.
    public var isInternal = false
    /// Bytes; the kernel's default where nothing is said.
    public var mtu: Int64?
    public var labels: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.required("subnets", &subnets)
        try visitor.field("internal", &isInternal)
        try visitor.field("mtu", &mtu)
        try visitor.field("labels", &labels)
    }

    var ranges: [Subnet] { subnets.compactMap { Subnet($0) } }
    /// Of the bridge in each subnet.
    var gateways: [(address: IPAddress, length: Int)] {
        ranges.compactMap { range in range.host(1).map { ($0, range.length) } }
    }
    /// Of the bridge: who finds it knows by that whose it is.
    var mac: MACAddress? { gateways.first.flatMap { MACAddress(local: [0x02, 0x5a] + $0.address.bytes.suffix(4)) } }
}

/// A network that a zone is in.
public struct NetworkAttachment: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// Of the zone's in it, given out when the zone was made; they stay until it is removed.
    public var addresses: [String] = []
    /// Of the zone's end.
    public var mac = ""

    public init() {}

    public init(_ name: String) {
        self.name = name
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.field("addresses", &addresses)
        try visitor.field("mac", &mac)
    }
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
        let isPlain = root == ZoneFolders.defaultRoot && network.utf8.count <= 15
        return isPlain ? network : "zb" + digits(of: "\(root) \(network)")
    }

    /// The name of the host's end of a zone's link to a network.
    func link(_ zone: String, _ network: String) -> String {
        FilterTable.linkPrefix + digits(of: "\(root) \(network) \(zone)")
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
