// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A part of a key or value in a set or map of nftables, as its data types have it (nft(8), "DATA TYPES").
public enum FilterField: Hashable, Sendable, CustomStringConvertible {
    /// `ifname`: at most 15 bytes.
    case link(String)
    /// `ether_addr`
    case mac(MACAddress)
    /// `ipv4_addr`, `ipv6_addr`
    case address(IPAddress)
    /// An address of IPv6 as it stands in a message, which nftables has no type for.
    case target(IPAddress)
    /// `inet_proto`
    case transport(Transport)
    /// `inet_service`
    case port(UInt16)

    public enum Transport: UInt8, Sendable {
        /// IPPROTO_TCP, IPPROTO_UDP.
        case tcp = 6
        case udp = 17
    }

    /// As nft(8) reads it.
    public var description: String {
        switch self {
        case .link(let name): "\"\(name)\""
        case .mac(let mac): mac.description
        case .address(let address): address.description
        case .target(let address):
            "0x" + address.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        case .transport(let transport): transport == .tcp ? "tcp" : "udp"
        case .port(let port): String(port)
        }
    }

    /// As the kernel has it: in the network's order, filled up to registers of 4 bytes.
    var bytes: [UInt8] {
        var bytes: [UInt8]
        switch self {
        case .link(let name):
            // IFNAMSIZ
            bytes = Array(name.utf8.prefix(15))
            bytes += [UInt8](repeating: 0, count: 16 - bytes.count)
        case .mac(let mac): bytes = mac.bytes
        case .address(let address), .target(let address): bytes = address.bytes
        case .transport(let transport): bytes = [transport.rawValue]
        case .port(let port): bytes = [UInt8(port >> 8), UInt8(port & 0xFF)]
        }
        return bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }
}

/// An element of one of ``FilterTable``'s sets or maps.
public struct FilterElement: Hashable, Sendable, CustomStringConvertible {
    /// Of what; those whose names begin so are in the table of that family.
    public enum Container: String, Sendable, CaseIterable {
        /// A zone's links.
        case links
        /// The one MAC address of each.
        case ports
        /// The addresses of each.
        case senders4, senders6
        /// Those of IPv6 for which each may say where they are, RFC 4861, 4.4.
        case targets6
        /// Published ports, of every address of the host's.
        case any4, any6
        /// Published ports of one address.
        case at4, at6

        var family: UInt8 {
            switch self {
            // NFPROTO_BRIDGE, NFPROTO_INET
            case .links, .ports, .senders4, .senders6, .targets6: 7
            case .any4, .any6, .at4, .at6: 1
            }
        }
    }

    public let container: Container
    public let key: [FilterField]
    /// Of a map.
    public let value: [FilterField]

    private init(_ container: Container, _ key: [FilterField], _ value: [FilterField] = []) {
        self.container = container
        self.key = key
        self.value = value
    }

    /// What may come from a zone's link: its MAC address with its addresses, and the one that follows from that.
    public static func sender(_ link: String, _ mac: MACAddress, _ addresses: [IPAddress]) -> [FilterElement] {
        let all = addresses + (mac.linkLocal.map { [$0] } ?? [])
        let six = all.filter { $0.family == .v6 }
        return [FilterElement(.links, [.link(link)]), FilterElement(.ports, [.link(link), .mac(mac)])]
            + all.map { address in
                FilterElement(
                    address.family == .v4 ? .senders4 : .senders6, [.link(link), .mac(mac), .address(address)])
            } + six.map { FilterElement(.targets6, [.link(link), .mac(mac), .target($0)]) }
    }

    /// A port of the host's that leads to a zone's. `host`: of this address of the host's alone; of the same family.
    public static func published(
        _ transport: FilterField.Transport, host: IPAddress?, port: UInt16, to address: IPAddress, port inner: UInt16
    ) -> FilterElement {
        let isFour = address.family == .v4
        let value: [FilterField] = [.address(address), .port(inner)]
        guard let host else {
            return FilterElement(isFour ? .any4 : .any6, [.transport(transport), .port(port)], value)
        }
        return FilterElement(
            isFour ? .at4 : .at6, [.address(host), .transport(transport), .port(port)], value)
    }

    public var description: String {
        let key = key.map(\.description).joined(separator: " . ")
        return value.isEmpty ? key : "\(key) : \(value.map(\.description).joined(separator: " . "))"
    }
}
