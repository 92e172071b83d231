// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What the packet filter is to know of a network.
public struct FilteredNetwork: Sendable, Equatable {
    /// The bridge's link.
    public var bridge: String
    /// Of IPv4 and IPv6, at most one each; what zones send from them to the outside gets the host's address.
    public var subnets: [Subnet]
    /// The bridge's addresses.
    public var gateways: [IPAddress]
    /// Nothing goes in or out.
    public var isInternal = false

    public init(bridge: String, subnets: [Subnet], gateways: [IPAddress]) {
        self.bridge = bridge
        self.subnets = subnets
        self.gateways = gateways
    }
}

/// The rules of all networks of one root, as text for nft(8): one table of the family `inet`. It is made as a whole, by one
/// transaction; a zone that publishes ports adds elements to maps, see ``FilterElement``. What may come from a zone at all is
/// ``PortGuard``'s matter.
public struct FilterTable: Sendable, Equatable {
    /// What the names of zones' links on the host begin with.
    public static let linkPrefix = "zv"

    public var name: String
    public var networks: [FilteredNetwork]

    public init(name: String, networks: [FilteredNetwork]) {
        self.name = name
        self.networks = networks
    }

    /// Replaces the table, whatever was in it; without networks there is none.
    public func text(elements: [FilterElement] = []) -> String {
        let elements = Dictionary(grouping: elements, by: \.container).mapValues { $0.map(\.description) }
        // A table is made first so that it can be removed: its absence would be an error.
        let clean = "table inet \(name) {}\ndelete table inet \(name)\n"
        return networks.isEmpty ? clean : clean + inet(elements)
    }

    private func inet(_ elements: [FilterElement.Container: [String]]) -> String {
        let bridges = networks.map { "\"\($0.bridge)\"" }
        let inside = networks.filter(\.isInternal).map { "\"\($0.bridge)\"" }
        let pairs = bridges.map { "\($0) . \($0)" }
        var lines = ["table inet \(name) {"]
        lines += FilterTable.set("bridges", "ifname", bridges) + FilterTable.set("inside", "ifname", inside)
        lines += FilterTable.set("within", "ifname . ifname", pairs)
        for (type, any, at) in [
            ("ipv4_addr", FilterElement.Container.any4, FilterElement.Container.at4), ("ipv6_addr", .any6, .at6),
        ] {
            let target = "\(type) . inet_service"
            lines += FilterTable.map(any, "inet_proto . inet_service : \(target)", elements)
            lines += FilterTable.map(at, "\(type) . inet_proto . inet_service : \(target)", elements)
        }
        lines += gateways(.v4) + gateways(.v6)
        lines += [
            // What a port does not give its bridge it must not give anybody.
            "chain ports {", "type filter hook prerouting priority raw; policy accept;",
            "iifname \"\(FilterTable.linkPrefix)*\" drop", "}",
            "chain input {", "type filter hook input priority filter; policy accept;", "iifname != @bridges accept",
            "ct state established,related accept",
            // Another network's end is none of a zone's business; nor is a host that nothing is to get out by.
            "iifname @bridges ip daddr @gateways4 iifname . ip daddr != @own4 drop",
            "iifname @bridges ip6 daddr @gateways6 iifname . ip6 daddr != @own6 drop",
            // Of an internal network: its own end alone, for names and whether it is there.
            "iifname @inside iifname . ip daddr @own4 meta l4proto { tcp, udp } th dport 53 accept",
            "iifname @inside iifname . ip6 daddr @own6 meta l4proto { tcp, udp } th dport 53 accept",
            "iifname @inside udp sport 68 udp dport 67 accept",
            "iifname @inside ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept",
            "iifname @inside iifname . ip daddr @own4 meta l4proto icmp accept",
            "iifname @inside iifname . ip6 daddr @own6 meta l4proto ipv6-icmp accept",
            "iifname @inside ip6 daddr { fe80::/10, ff02::/16 } meta l4proto ipv6-icmp accept",
            "iifname @inside drop", "}",
            "chain publish {",
        ]
        for (protocols, version) in [("ip", 4), ("ip6", 6)] {
            // What asks for one address comes first.
            lines += [
                "meta l4proto { tcp, udp } dnat \(protocols) to \(protocols) daddr . meta l4proto . th dport map @at\(version)",
                "meta l4proto { tcp, udp } dnat \(protocols) to meta l4proto . th dport map @any\(version)",
            ]
        }
        lines += [
            "}", "chain prerouting {", "type nat hook prerouting priority dstnat; policy accept;",
            "fib daddr type local jump publish", "}",
            // Of the host's own programs. Its loopback leads nowhere else: there a relay answers.
            "chain output {", "type nat hook output priority -100; policy accept;",
            "ip daddr 127.0.0.0/8 return", "ip6 daddr ::1 return", "fib daddr type local jump publish", "}",
            "chain postrouting {", "type nat hook postrouting priority srcnat; policy accept;",
        ]
        for network in networks {
            let bridge = "\"\(network.bridge)\""
            for subnet in network.subnets {
                let family = subnet.base.family == .v4 ? "ip" : "ip6"
                if !network.isInternal {
                    lines.append("\(family) saddr \(subnet) oifname != \(bridge) masquerade")
                }
                // A zone that calls a published port, perhaps its own, must not be answered past the host.
                lines.append("oifname \(bridge) \(family) saddr \(subnet) ct status dnat masquerade")
            }
        }
        lines += [
            "}", "chain forward {", "type filter hook forward priority filter; policy accept;",
            "ct state established,related accept", "iifname . oifname @within accept", "iifname @inside drop",
            "oifname @inside drop", "oifname @bridges ct status dnat accept", "oifname @bridges drop", "}", "}",
        ]
        return lines.joined(separator: "\n") + "\n"
    }

    /// What all networks' ends of a family are, and whose each is.
    private func gateways(_ family: IPAddress.Family) -> [String] {
        let (version, type) = family == .v4 ? (4, "ipv4_addr") : (6, "ipv6_addr")
        var all: [String] = []
        var own: [String] = []
        for network in networks {
            for gateway in network.gateways where gateway.family == family {
                all.append(gateway.description)
                own.append("\"\(network.bridge)\" . \(gateway)")
            }
        }
        return FilterTable.set("gateways\(version)", type, all)
            + FilterTable.set("own\(version)", "ifname . \(type)", own)
    }

    private static func set(_ name: String, _ type: String, _ elements: [String]) -> [String] {
        ["set \(name) {", "type \(type)"] + list(elements) + ["}"]
    }

    private static func map(
        _ container: FilterElement.Container, _ type: String, _ elements: [FilterElement.Container: [String]]
    ) -> [String] {
        ["map \(container.rawValue) {", "type \(type)"] + list(elements[container] ?? []) + ["}"]
    }

    private static func list(_ elements: [String]) -> [String] {
        elements.isEmpty ? [] : ["elements = { \(elements.joined(separator: ", ")) }"]
    }
}
