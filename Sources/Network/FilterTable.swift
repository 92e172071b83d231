// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What the packet filter is to know of a network.
public struct FilteredNetwork: Sendable, Equatable {
    /// The bridge's link.
    public var bridge: String
    /// Of IPv4 and IPv6, at most one each; what zones send from them to the outside gets the host's address.
    public var subnets: [Subnet]
    /// Nothing goes in or out.
    public var isInternal = false

    public init(bridge: String, subnets: [Subnet]) {
        self.bridge = bridge
        self.subnets = subnets
    }
}

/// The rules of all networks of one root, as text for nft(8): two tables of one name, of the families `inet` and `bridge`.
/// They are made as a whole, by one transaction; a zone only adds elements to sets and maps.
///
/// What is in them beside rules is ``FilterElement``'s matter; `ports` and `senders` are what P15 asks for.
public struct FilterTable: Sendable, Equatable {
    /// What the names of zones' links on the host begin with.
    public static let linkPrefix = "zv"

    public var name: String
    public var networks: [FilteredNetwork]

    public init(name: String, networks: [FilteredNetwork]) {
        self.name = name
        self.networks = networks
    }

    /// Replaces the tables, whatever was in them; without networks there are none.
    public func text(elements: [FilterElement] = []) -> String {
        let elements = Dictionary(grouping: elements, by: \.container).mapValues { $0.map(\.description) }
        // A table is made first so that it can be removed: its absence would be an error.
        let clean = ["inet", "bridge"].map { "table \($0) \(name) {}\ndelete table \($0) \(name)\n" }.joined()
        return networks.isEmpty ? clean : clean + inet(elements) + bridge(elements)
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
            // Frames for a bridge's own group addresses (IEEE 802.1D) come up by the port, past what is verified below.
            "chain ports {", "type filter hook prerouting priority raw; policy accept;",
            "iifname \"\(FilterTable.linkPrefix)*\" drop", "}",
            "chain input {", "type filter hook input priority filter; policy accept;",
            // Another network's end is none of a zone's business; nor is a host that nothing is to get out by.
            "iifname @bridges ip daddr @gateways4 iifname . ip daddr != @own4 drop",
            "iifname @bridges ip6 daddr @gateways6 iifname . ip6 daddr != @own6 drop",
            "iifname @inside meta l4proto { icmp, ipv6-icmp } accept",
            "iifname @inside meta l4proto { tcp, udp } th dport 53 accept",
            "iifname @inside ct state established,related accept", "iifname @inside drop", "}",
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
            // Of the host's own programs.
            "chain output {", "type nat hook output priority -100; policy accept;", "fib daddr type local jump publish",
            "}", "chain postrouting {", "type nat hook postrouting priority srcnat; policy accept;",
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
            // 127.0.0.1 means another host there.
            lines.append("oifname \(bridge) ip saddr 127.0.0.0/8 masquerade")
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
            for subnet in network.subnets where subnet.base.family == family {
                guard let gateway = subnet.host(1) else { continue }
                all.append(gateway.description)
                own.append("\"\(network.bridge)\" . \(gateway)")
            }
        }
        return FilterTable.set("gateways\(version)", type, all)
            + FilterTable.set("own\(version)", "ifname . \(type)", own)
    }

    private func bridge(_ elements: [FilterElement.Container: [String]]) -> String {
        var lines = ["table bridge \(name) {"]
        for (container, type) in [
            (FilterElement.Container.links, "ifname"), (.ports, "ifname . ether_addr"),
            (.senders4, "ifname . ether_addr . ipv4_addr"), (.senders6, "ifname . ether_addr . ipv6_addr"),
        ] {
            lines += FilterTable.set(container.rawValue, type, elements[container] ?? [])
        }
        lines += ["set targets6 {", "typeof iifname . ether saddr . @th,64,128"]
        lines += FilterTable.list(elements[.targets6] ?? []) + ["}"]
        lines += [
            "chain prerouting {", "type filter hook prerouting priority 0; policy accept;",
            // Not by the bridge's name, which only kernels with nft_meta_bridge can tell.
            "iifname != @links accept", "iifname . ether saddr != @ports drop",
            // A zone is no router and gives out no addresses.
            "ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop", "ether type ip udp sport 67 drop",
            "ether type ip6 udp sport 547 drop",
            "icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @targets6 drop",
            "ether type arp iifname . arp saddr ether . arp saddr ip @senders4 accept",
            "ether type ip iifname . ether saddr . ip saddr @senders4 accept",
            "ether type ip6 iifname . ether saddr . ip6 saddr @senders6 accept",
            // Who asks for an address has none yet: DHCP (RFC 2131), duplicate address detection (RFC 4862, 5.4).
            "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
            "ether type arp arp saddr ip 0.0.0.0 accept",
            "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept",
            "drop",
            "}", "}",
        ]
        return lines.joined(separator: "\n") + "\n"
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
