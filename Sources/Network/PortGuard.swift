// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What may come from a zone's port: frames with its own MAC address, and with its own addresses in ARP, IPv4, IPv6 and
/// neighbour discovery; never what only routers and DHCP servers say (P15). It is a filter on the host's end of the link, so
/// it is there as long as the link is, whatever becomes of nftables' rules and of us.
///
/// Extension headers of IPv6 behind which a message could hide are refused but for fragments (RFC 7113); fragments of what is
/// not to be fragmented are (RFC 6980).
public struct PortGuard: Sendable, Equatable {
    /// TC_ACT_UNSPEC: what comes next decides. TC_ACT_SHOT.
    static let pass: UInt32 = 0xFFFF_FFFF
    static let drop: UInt32 = 2

    public var mac: MACAddress
    public var addresses: [IPAddress]
    /// Of these families any address may come, as where routers and other people's DHCP give them out.
    public var open: Set<IPAddress.Family>

    public init(mac: MACAddress, addresses: [IPAddress], open: Set<IPAddress.Family> = []) {
        self.mac = mac
        self.addresses = addresses
        self.open = open
    }

    private func own(_ family: IPAddress.Family) -> [IPAddress]? {
        if open.contains(family) { return nil }
        let all = addresses + (mac.linkLocal.map { [$0] } ?? [])
        return all.filter { $0.family == family }
    }

    /// `nil` where there are more addresses than a program has room for.
    var program: [PacketProgram.Instruction]? {
        var program = PacketProgram()
        // The shortest of ARP, IPv4 and IPv6.
        program.loadLength()
        program.isAtLeast(34, otherwise: "drop")
        program.load32(6)
        program.isEqual(word(mac.bytes, 0), otherwise: "drop")
        program.load16(10)
        program.isEqual(half(mac.bytes, 4), otherwise: "drop")
        // A tag of 802.1Q is beside the frame by now: SKF_AD_VLAN_TAG_PRESENT.
        program.load(ancillary: 48)
        program.isEqual(0, otherwise: "drop")
        // Of bridges among themselves, IEEE 802.1D: they would come up past the rules.
        program.load32(0)
        program.isEqual(0x0180_C200, then: "drop")
        program.load16(12)
        program.isEqual(0x0800, then: "four")
        program.isEqual(0x86DD, then: "six")
        program.isEqual(0x0806, then: "arp", otherwise: "drop")
        finish(&program)
        arp(&program)
        four(&program)
        six(&program)
        return program.assembled()
    }

    /// Both ends, near enough for what stands before.
    private func finish(_ program: inout PacketProgram) {
        program.place("drop")
        program.end(PortGuard.drop)
        program.place("pass")
        program.end(PortGuard.pass)
    }

    /// RFC 826, of Ethernet and IPv4.
    private func arp(_ program: inout PacketProgram) {
        program.place("arp")
        program.loadLength()
        program.isAtLeast(42, otherwise: "drop")
        program.load32(14)
        program.isEqual(0x0001_0800, otherwise: "drop")
        program.load16(18)
        program.isEqual(0x0604, otherwise: "drop")
        program.load32(22)
        program.isEqual(word(mac.bytes, 0), otherwise: "drop")
        program.load16(26)
        program.isEqual(half(mac.bytes, 4), otherwise: "drop")
        if let own = own(.v4) {
            program.load32(28)
            // Who asks whether an address is free has none yet, RFC 5227.
            program.isEqual(0, then: "pass")
            for address in own { program.isEqual(word(address.bytes, 0), then: "pass") }
        } else {
            program.load32(28)
            program.isEqual(0x7F00_0001, then: "drop", otherwise: "pass")
        }
        finish(&program)
    }

    private func four(_ program: inout PacketProgram) {
        program.place("four")
        // To 127.0.0.0/8: should the host route that from elsewhere, too.
        program.load8(30)
        program.isEqual(127, then: "drop")
        program.load8(23)
        // PIM, and questions about groups (RFC 3376, 4): who sends them is taken for a router.
        program.isEqual(103, then: "drop")
        program.isEqual(2, otherwise: "datagram")
        program.loadHeaderLength(14)
        program.reachesBehindHeader(15, otherwise: "drop")
        program.loadHeaderLength(14)
        program.load8(behindHeader: 14)
        program.isEqual(0x11, then: "drop", otherwise: "sender")
        program.place("datagram")
        program.isEqual(17, otherwise: "sender")
        // Fragments but for the first have no ports.
        program.load16(20)
        program.has(0x1FFF, then: "sender")
        program.loadHeaderLength(14)
        program.reachesBehindHeader(18, otherwise: "drop")
        program.loadHeaderLength(14)
        program.load16(behindHeader: 14)
        // A server of DHCP.
        program.isEqual(67, then: "drop")
        // Who asks one has no address yet, RFC 2131.
        program.isEqual(68, otherwise: "sender")
        program.load16(behindHeader: 16)
        program.isEqual(67, otherwise: "sender")
        program.load32(26)
        program.isEqual(0, then: "pass")
        program.place("sender")
        if let own = own(.v4) {
            program.load32(26)
            for address in own { program.isEqual(word(address.bytes, 0), then: "pass") }
        } else {
            program.load8(26)
            program.isEqual(127, then: "drop", otherwise: "pass")
        }
        finish(&program)
    }

    /// Headers behind which others could hide, and those of no use to zones: routing, destination options, PIM, mobility, HIP,
    /// Shim6, experiments (IANA, "Protocol Numbers").
    private static let hiding: [UInt32] = [43, 60, 103, 135, 139, 140, 253, 254]

    private func six(_ program: inout PacketProgram) {
        program.place("six")
        program.loadLength()
        program.isAtLeast(54, otherwise: "drop")
        program.load8(20)
        for header in PortGuard.hiding { program.isEqual(header, then: "drop") }
        for header: UInt32 in [0, 17, 44, 58] { program.isEqual(header, then: "inner") }
        program.jump("sender")

        // All that is looked at below but for the target of an advertisement.
        program.place("inner")
        program.loadLength()
        program.isAtLeast(58, otherwise: "drop")
        program.load8(20)
        program.isEqual(58, then: "icmp")
        program.isEqual(17, then: "udp")
        program.loadLength()
        program.isAtLeast(64, otherwise: "tiny")
        program.load8(20)
        program.isEqual(0, then: "hop", otherwise: "fragment")
        // Even the last fragment of a message, when that is none of those below, which begin with more.
        program.place("tiny")
        program.load8(20)
        program.isEqual(44, otherwise: "drop")
        program.load16(56)
        program.has(0xFFF8, then: "sender", otherwise: "drop")

        program.place("udp")
        program.load16(54)
        // A server of DHCPv6.
        program.isEqual(547, then: "drop", otherwise: "sender")

        // Hop by hop options: only what reports of groups have (RFC 3810, 5), and of those only a zone's.
        program.place("hop")
        program.load16(54)
        program.isEqual(0x3A00, otherwise: "drop")
        program.load8(62)
        for type: UInt32 in [131, 132, 143] { program.isEqual(type, then: "unsettled") }
        program.jump("drop")

        program.place("fragment")
        program.load8(54)
        for header in [0, 44] + PortGuard.hiding { program.isEqual(header, then: "drop") }
        program.load16(56)
        program.has(0xFFF8, then: "sender")
        program.load8(54)
        program.isEqual(17, otherwise: "unknown")
        program.load16(62)
        program.isEqual(547, then: "drop", otherwise: "sender")
        program.place("unknown")
        program.isEqual(58, otherwise: "sender")
        program.load8(62)
        for type in UInt32(133)...137 { program.isEqual(type, then: "drop") }
        program.jump("sender")

        program.place("icmp")
        program.load8(54)
        // Advertisements of routers, and their redirects, RFC 4861, 4.2 and 4.5.
        program.isEqual(134, then: "drop")
        program.isEqual(137, then: "drop")
        program.isEqual(136, then: "advertisement")
        program.isEqual(133, then: "unsettled")
        program.isEqual(135, then: "unsettled", otherwise: "sender")

        // Who says where an address is says so of its own, 4.4.
        program.place("advertisement")
        program.loadLength()
        program.isAtLeast(78, otherwise: "drop")
        if let own = own(.v6) { matches(&program, own, at: 62, then: "sender") } else { program.jump("sender") }
        program.jump("drop")

        // Who looks whether its address is free has none yet, RFC 4862, 5.4.
        program.place("unsettled")
        for offset: UInt32 in [22, 26, 30, 34] {
            program.load32(offset)
            program.isEqual(0, otherwise: "sender")
        }
        program.jump("pass")

        program.place("sender")
        if let own = own(.v6) { matches(&program, own, at: 22, then: "pass") } else { program.jump("pass") }
        finish(&program)
    }

    /// Compares 16 bytes with each address, and goes on behind all of them where it is none.
    private func matches(
        _ program: inout PacketProgram, _ addresses: [IPAddress], at offset: UInt32, then label: PacketProgram.Label
    ) {
        for address in addresses {
            for part in 0..<4 {
                program.load32(offset + UInt32(part) * 4)
                program.isEqual(
                    word(address.bytes, part * 4), then: part == 3 ? label : .next, otherwise: "another")
            }
            program.place("another")
        }
    }

    private func word(_ bytes: [UInt8], _ start: Int) -> UInt32 {
        bytes.dropFirst(start).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    private func half(_ bytes: [UInt8], _ start: Int) -> UInt32 {
        bytes.dropFirst(start).prefix(2).reduce(0) { $0 << 8 | UInt32($1) }
    }
}
