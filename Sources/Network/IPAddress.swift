// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// An address of IPv4 or IPv6.
public struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    public enum Family: Sendable {
        case v4, v6

        /// In an address.
        public var bits: Int { self == .v4 ? 32 : 128 }
        /// As system calls have it.
        var number: CInt { self == .v4 ? AF_INET : AF_INET6 }
    }

    public let family: Family
    /// 4 or 16, the most significant one first.
    public let bytes: [UInt8]

    /// `nil` unless there are 4 bytes or 16.
    public init?(bytes: [UInt8]) {
        switch bytes.count {
        case 4: family = .v4
        case 16: family = .v6
        default: return nil
        }
        self.bytes = bytes
    }

    /// Reads what inet_pton(3) reads: `192.0.2.1`, `2001:db8::1`; no scope, no prefix.
    public init?(_ text: String) {
        // A text that ends early would mean another address.
        if text.utf8.contains(0) { return nil }
        for family in [Family.v4, .v6] {
            var bytes = [UInt8](repeating: 0, count: family.bits / 8)
            if inet_pton(family.number, text, &bytes) == 1 {
                self.family = family
                self.bytes = bytes
                return
            }
        }
        return nil
    }

    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(family.number, bytes, &text, socklen_t(text.count)) != nil else { return "" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Whether the address is only for this host: 127.0.0.0/8, ::1.
    public var isLoopback: Bool {
        family == .v4 ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1
    }

    /// The address that many further on; `nil` beyond the last one.
    public func advanced(by distance: UInt64) -> IPAddress? {
        var bytes = bytes
        var carry = distance
        for index in bytes.indices.reversed() where carry > 0 {
            let sum = UInt64(bytes[index]) + (carry & 0xFF)
            bytes[index] = UInt8(truncatingIfNeeded: sum)
            carry = carry >> 8 + sum >> 8
        }
        return carry == 0 ? IPAddress(bytes: bytes) : nil
    }
}

/// A range of addresses that have their first bits in common: `192.0.2.0/24`.
public struct Subnet: Hashable, Sendable, CustomStringConvertible {
    /// The lowest address.
    public let base: IPAddress
    /// How many bits are common.
    public let length: Int

    /// The subnet that an address is in; `nil` where there is no prefix of that length.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.family.bits).contains(length) else { return nil }
        var bytes = address.bytes
        for index in bytes.indices {
            let kept = min(max(length - index * 8, 0), 8)
            bytes[index] &= kept == 0 ? 0 : 0xFF << UInt8(8 - kept)
        }
        guard let base = IPAddress(bytes: bytes) else { return nil }
        self.base = base
        self.length = length
    }

    /// Reads `ADDRESS/LENGTH`; the address may be any one in the subnet.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let address = IPAddress(String(parts[0])), let length = Int(parts[1])
        else { return nil }
        self.init(address, length: length)
    }

    public var description: String { "\(base)/\(length)" }

    public func contains(_ address: IPAddress) -> Bool {
        address.family == base.family && Subnet(address, length: length)?.base == base
    }

    /// Whether an address is in both.
    public func overlaps(_ other: Subnet) -> Bool {
        contains(other.base) || other.contains(base)
    }

    /// How many hosts may have an address; at most as many as are counted. Of IPv4 the lowest address is the network's and the
    /// highest for all (RFC 1122, 3.2.1.3); of IPv6 the lowest is any router's (RFC 4291, 2.6.1).
    public var hosts: UInt64 {
        let bits = base.family.bits - length
        if bits >= 63 { return .max >> 1 }
        let all = UInt64(1) << UInt64(bits)
        return base.family == .v4 ? (all > 2 ? all - 2 : 0) : all - 1
    }

    /// The address of a host, counted from 1; `nil` where there are not so many.
    public func host(_ number: UInt64) -> IPAddress? {
        number >= 1 && number <= hosts ? base.advanced(by: number) : nil
    }

    /// Which host has an address; `nil` where none can have it, or none that is counted.
    public func number(of address: IPAddress) -> UInt64? {
        guard contains(address) else { return nil }
        func low(_ address: IPAddress) -> UInt64 {
            address.bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
        }
        let number = low(address) &- low(base)
        return host(number) == address ? number : nil
    }

    /// Whether a host may have an address.
    public func isHost(_ address: IPAddress) -> Bool { number(of: address) != nil }
}

/// An Ethernet address.
public struct MACAddress: Hashable, Sendable, CustomStringConvertible {
    /// Six.
    public let bytes: [UInt8]

    init?(bytes: [UInt8]) {
        guard bytes.count == 6 else { return nil }
        self.bytes = bytes
    }

    /// Reads `02:42:ac:11:00:02`, also with `-`.
    public init?(_ text: String) {
        let parts = text.split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "-" }
        let bytes = parts.compactMap { part in
            part.utf8.count == 2 && part.utf8.allSatisfy(MACAddress.isDigit) ? UInt8(part, radix: 16) : nil
        }
        guard parts.count == 6, bytes.count == 6 else { return nil }
        self.bytes = bytes
    }

    /// An address that nobody has given out, by these six bytes: of a single station, locally administered (IEEE 802).
    public init?(local seed: [UInt8]) {
        guard seed.count == 6 else { return nil }
        bytes = [seed[0] & 0xFC | 0x02] + seed.dropFirst()
    }

    /// One that nobody has given out, by chance.
    public init() {
        bytes = [0x02] + (0..<5).map { _ in UInt8.random(in: 0...255) }
    }

    /// Whether one station can have it: neither a group's nor nothing.
    public var isStation: Bool { bytes[0] & 1 == 0 && bytes.contains { $0 != 0 } }

    /// The address of IPv6 that a link gives itself, RFC 4291, 2.5.6 and appendix A.
    public var linkLocal: IPAddress? {
        IPAddress(
            bytes: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, bytes[0] ^ 2, bytes[1], bytes[2], 0xff, 0xfe] + bytes.suffix(3))
    }

    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }
}
