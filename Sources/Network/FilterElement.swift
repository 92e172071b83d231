// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A part of a key or value in a set or map of nftables, as its data types have it (nft(8), "DATA TYPES").
public enum FilterField: Hashable, Sendable, CustomStringConvertible {
    /// `ipv4_addr`, `ipv6_addr`
    case address(IPAddress)
    /// `inet_proto`
    case transport(Transport)
    /// `inet_service`
    case port(UInt16)

    public enum Transport: UInt8, Sendable {
        /// IPPROTO_TCP, IPPROTO_UDP.
        case tcp = 6
        case udp = 17

        public var name: String { self == .tcp ? "tcp" : "udp" }
    }

    /// As nft(8) reads it.
    public var description: String {
        switch self {
        case .address(let address): address.description
        case .transport(let transport): transport.name
        case .port(let port): String(port)
        }
    }

    /// As the kernel has it: in the network's order, filled up to registers of 4 bytes.
    var bytes: [UInt8] {
        var bytes: [UInt8]
        switch self {
        case .address(let address): bytes = address.bytes
        case .transport(let transport): bytes = [transport.rawValue]
        case .port(let port): bytes = [UInt8(port >> 8), UInt8(port & 0xFF)]
        }
        return bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }
}

/// An element of one of ``FilterTable``'s sets or maps.
public struct FilterElement: Hashable, Sendable, CustomStringConvertible {
    /// Of what.
    public enum Container: String, Sendable, CaseIterable {
        /// Published ports, of every address of the host's.
        case any4, any6
        /// Published ports of one address.
        case at4, at6
    }

    public let container: Container
    public let key: [FilterField]
    /// Where one element at most can be.
    public struct Place: Hashable, Sendable {
        let container: Container
        let key: [FilterField]
    }

    public var place: Place { Place(container: container, key: key) }
    /// Of a map.
    public let value: [FilterField]

    private init(_ container: Container, _ key: [FilterField], _ value: [FilterField] = []) {
        self.container = container
        self.key = key
        self.value = value
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
