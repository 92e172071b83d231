// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Network
public import OCI

/// Ports of the host's that lead to a zone's.
public struct PublishedPort: JSONRecord, Sendable, Equatable {
    public enum Transport: String, JSONCodable, CaseIterable, Sendable {
        case tcp, udp

        var number: FilterField.Transport { self == .tcp ? .tcp : .udp }
    }

    /// The host's; of its loopback, 127.0.0.1 and ::1, where none is named.
    public var address: String?
    /// The first one; 0 for one that is free, which is found when the zone is made and stays.
    public var hostPort: Int64 = 0
    /// The first one.
    public var zonePort: Int64 = 0
    public var transport = Transport.tcp
    /// How many there are, one after another.
    public var count: Int64 = 1

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("address", &address)
        try visitor.field("hostPort", &hostPort)
        try visitor.required("zonePort", &zonePort)
        try visitor.field("protocol", &transport)
        try visitor.field("count", &count)
    }

    /// Reads `[[ADDRESS:]HOST:]ZONE[/udp]`; ports may be ranges of one length, an address of IPv6 stands in brackets.
    public init(_ text: String) throws(ZoneError) {
        let fault = ZoneError(
            .invalid, "--publish \"\(text)\" is not [[ADDRESS:]HOST:]ZONE[/udp]",
            hint: "such as 8080:80, 0.0.0.0:8080:80, [::]:8080:80, 53:53/udp, 7000-7009:7000-7009")
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count <= 2, let transport = Transport(rawValue: halves.count == 2 ? String(halves[1]) : "tcp")
        else {
            throw fault
        }
        self.transport = transport
        var rest = halves[0]
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { throw fault }
            address = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
            guard rest.first == ":" else { throw fault }
            rest = rest.dropFirst()
        }
        var parts = rest.split(separator: ":", omittingEmptySubsequences: false)
        if address == nil, parts.count == 3 { address = String(parts.removeFirst()) }
        guard (1...2).contains(parts.count), let zone = parts.popLast().flatMap(PublishedPort.range) else {
            throw fault
        }
        zonePort = zone.first
        count = zone.count
        // None, or an empty one: any.
        if let host = parts.last, !host.isEmpty {
            guard let range = PublishedPort.range(host), range.count == count else { throw fault }
            hostPort = range.first
        }
        if let fault = self.fault {
            throw ZoneError(.invalid, "--publish \(text): \(fault.detail)", hint: fault.hint)
        }
    }

    private static func range(_ text: Substring) -> (first: Int64, count: Int64)? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { text in
            text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int64(text) : nil
        }
        guard ends.count <= 2, let first = ends.first ?? nil, let last = ends.last ?? nil, last >= first, first > 0,
            last <= 65535
        else { return nil }
        return (first, last - first + 1)
    }

    /// What is wrong with the values, `nil` where nothing is.
    var fault: (detail: String, hint: String?)? {
        if let address, IPAddress(address) == nil { return ("\"\(address)\" is not an address of the host's", nil) }
        guard (1...PublishedPort.most).contains(count) else {
            return ("\(count) is not a number of ports from 1 to \(PublishedPort.most)", nil)
        }
        for (port, least, what) in [(hostPort, Int64(0), "the host's"), (zonePort, 1, "the zone's")]
        where !(least...65535).contains(port) || port + count - 1 > 65535 {
            return ("\(port) is not a port of \(what)", "ports are numbers from 1 to 65535")
        }
        return nil
    }

    /// Each is held by sockets of the host's.
    static let most: Int64 = 4096

    /// `127.0.0.1:8080->80/tcp`, as `ls` shows it.
    public var text: String {
        let place = address.map { $0.utf8.contains(UInt8(ascii: ":")) ? "[\($0)]" : $0 } ?? "localhost"
        func range(_ first: Int64) -> String { count == 1 ? "\(first)" : "\(first)-\(first &+ count &- 1)" }
        return "\(place):\(range(hostPort))->\(range(zonePort))/\(transport.rawValue)"
    }

    /// Whether both would hold a port.
    func overlaps(_ other: PublishedPort) -> Bool {
        guard transport == other.transport, hostPort > 0, other.hostPort > 0,
            hostPort < other.hostPort &+ other.count, other.hostPort < hostPort &+ count
        else { return false }
        return addresses.contains { own in
            other.addresses.contains { $0.family == own.family && ($0 == own || $0.isAny || own.isAny) }
        }
    }

    /// Of the host's.
    var addresses: [IPAddress] {
        guard let address else { return ["127.0.0.1", "::1"].compactMap { IPAddress($0) } }
        return IPAddress(address).map { [$0] } ?? []
    }

    /// One by one.
    struct Single: Hashable, Sendable {
        let address: IPAddress
        let hostPort: UInt16
        let zonePort: UInt16
        let transport: FilterField.Transport

        /// Names it to a relay.
        var key: String { "\(address)/\(hostPort)/\(transport.name)" }
        var text: String {
            "\(address.family == .v6 ? "[\(address)]" : "\(address)"):\(hostPort)/\(transport.name)"
        }
    }

    var singles: [Single] {
        addresses.flatMap { address in
            (0..<max(0, min(count, PublishedPort.most))).map { step in
                Single(
                    address: address, hostPort: UInt16(clamping: hostPort &+ step),
                    zonePort: UInt16(clamping: zonePort &+ step), transport: transport.number)
            }
        }
    }
}

extension IPAddress {
    /// Stands for all of them: 0.0.0.0, ::.
    var isAny: Bool { bytes.allSatisfy { $0 == 0 } }
}
