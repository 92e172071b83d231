// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import Network

/// What a port lets pass, as the kernel itself runs the program: on a socket that gets frames as its messages.
struct PortGuardTests {
    private static let mac = "02:5a:0a:40:00:02"
    private static let own4: [UInt8] = [10, 64, 0, 2]
    private static let own6 = IPAddress("fd00::2")?.bytes ?? []
    private static let linkLocal = IPAddress("fe80::5a:aff:fe40:2")?.bytes ?? []
    private static let none6 = [UInt8](repeating: 0, count: 16)
    private static let other6 = IPAddress("fd00::3")?.bytes ?? []

    private func port(
        _ addresses: [IPAddress] = ["10.64.0.2", "fd00::2"].compactMap { IPAddress($0) },
        open: Set<IPAddress.Family> = []
    ) throws -> PortGuard {
        PortGuard(mac: try #require(MACAddress(PortGuardTests.mac)), addresses: addresses, open: open)
    }

    /// Whether a frame passes.
    private func passes(_ frame: [UInt8], _ port: PortGuard) throws -> Bool {
        var code = try #require(port.program).flatMap(\.bytes)
        var ends: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
        defer { for end in ends { close(end) } }
        let result = code.withUnsafeMutableBytes { bytes in
            // struct sock_fprog: length, padding, instructions.
            var program = (length: UInt64(bytes.count / 8), instructions: UInt64(UInt(bitPattern: bytes.baseAddress)))
            return setsockopt(ends[1], SOL_SOCKET, 26 /* SO_ATTACH_FILTER */, &program, 16)
        }
        try #require(result == 0, "errno \(errno)")
        // A filter's result is how much of the message stays: all of it, or two bytes (TC_ACT_SHOT).
        _ = send(ends[0], frame, frame.count, 0)
        var buffer = [UInt8](repeating: 0, count: 2000)
        let count = recv(ends[1], &buffer, buffer.count, 0)
        #expect(count == frame.count || count == 2, "\(count)")
        return count == frame.count
    }

    // MARK: Frames

    private func frame(
        _ type: UInt16, _ payload: [UInt8], from mac: String = PortGuardTests.mac,
        to target: String = "02:00:00:00:00:09"
    ) throws -> [UInt8] {
        let (from, to) = (try #require(MACAddress(mac)), try #require(MACAddress(target)))
        return to.bytes + from.bytes + [UInt8(type >> 8), UInt8(type & 0xFF)] + payload
            + [UInt8](repeating: 0, count: 64)
    }

    private func arp(_ sender: [UInt8], mac: String = PortGuardTests.mac, operation: UInt8 = 2) throws -> [UInt8] {
        try frame(
            0x0806,
            [0, 1, 8, 0, 6, 4, 0, operation] + (try #require(MACAddress(mac))).bytes + sender
                + [UInt8](repeating: 9, count: 10))
    }

    private func four(
        from source: [UInt8] = PortGuardTests.own4, to target: [UInt8] = [10, 64, 0, 1], transport: UInt8 = 6,
        ports: [UInt8] = [0x9C, 0x40, 0, 80], fragment: [UInt8] = [0x40, 0], options: Int = 0
    ) throws -> [UInt8] {
        let header: [UInt8] = [UInt8(0x45 + options), 0, 0, 60, 0, 1] + fragment + [64, transport, 0, 0]
        return try frame(0x0800, header + source + target + [UInt8](repeating: 1, count: options * 4) + ports)
    }

    private func six(
        from source: [UInt8] = PortGuardTests.own6, next: UInt8 = 6, _ payload: [UInt8] = [0x9C, 0x40, 0, 80]
    ) throws -> [UInt8] {
        try frame(0x86DD, [0x60, 0, 0, 0, 0, 40, next, 255] + source + PortGuardTests.other6 + payload)
    }

    private func advertisement(_ target: [UInt8]) -> [UInt8] { [136, 0, 0, 0, 0x20, 0, 0, 0] + target }

    // MARK: What passes, and what does not

    @Test func framesAreOfTheZonesOwnStation() throws {
        let port = try port()
        #expect(try passes(four(), port))
        #expect(try !passes(frame(0x0800, Array(four().dropFirst(14)), from: "02:5a:0a:40:00:03"), port))
        #expect(try !passes(frame(0x0800, Array(four().dropFirst(14)), from: "02:5a:0a:40:01:02"), port))
        for group in ["01:80:c2:00:00:00", "01:80:c2:00:00:0e"] {
            #expect(try !passes(frame(0x0800, Array(four().dropFirst(14)), to: group), port))
        }
        // VLAN tags, LLDP, 802.1X, PPPoE, and a length in the place of a type.
        for type: UInt16 in [0x8100, 0x88A8, 0x88CC, 0x888E, 0x8863, 0x0026] {
            #expect(try !passes(frame(type, []), port))
        }
        // Too short for what it says it is.
        for length in [15, 20, 33] { #expect(try !passes(Array(four().prefix(length)), port)) }
        #expect(try !passes(Array(four(transport: 17, options: 10).prefix(40)), port))
        #expect(try passes(Array(four(transport: 17, ports: [0, 68, 0, 67]).prefix(42)), port))
        #expect(try !passes(Array(arp(PortGuardTests.own4).prefix(41)), port))
        for length in [40, 53] { #expect(try !passes(Array(six().prefix(length)), port)) }
        #expect(try passes(Array(six().prefix(54)), port))
        #expect(try !passes(Array(six(next: 58, advertisement(PortGuardTests.own6)).prefix(77)), port))
        #expect(try !passes(Array(six(next: 44, [17, 0, 0, 1, 0, 0, 0, 1]).prefix(62)), port))
        #expect(try passes(Array(six(next: 44, [17, 0, 8, 0, 0, 0, 0, 1]).prefix(63)), port))
    }

    @Test func addressesAreTheZonesOwn() throws {
        let port = try port()
        #expect(try passes(arp(PortGuardTests.own4), port))
        #expect(try passes(arp([0, 0, 0, 0], operation: 1), port))
        #expect(try !passes(arp([10, 64, 0, 3]), port))
        #expect(try !passes(arp(PortGuardTests.own4, mac: "02:5a:0a:40:00:03"), port))
        #expect(try !passes(four(from: [10, 64, 0, 3]), port))
        #expect(try !passes(four(from: [127, 0, 0, 1]), port))
        #expect(try !passes(four(to: [127, 0, 0, 1]), port))
        #expect(try passes(six(), port))
        #expect(try passes(six(from: PortGuardTests.linkLocal), port))
        #expect(try !passes(six(from: PortGuardTests.other6), port))
        #expect(try !passes(six(from: PortGuardTests.none6), port))
    }

    @Test func nobodyIsARouterOfGroups() throws {
        let port = try port()
        #expect(try !passes(four(transport: 2, ports: [0x11, 0, 0, 0]), port))
        #expect(try !passes(four(transport: 2, ports: [0x11, 0, 0, 0], options: 1), port))
        #expect(try passes(four(transport: 2, ports: [0x22, 0, 0, 0]), port))
        #expect(try !passes(four(from: [10, 64, 0, 3], transport: 2, ports: [0x22, 0, 0, 0]), port))
        #expect(try !passes(four(transport: 103), port) && !passes(six(next: 103), port))
    }

    @Test func nobodyIsADHCPServer() throws {
        let port = try port()
        let (server, client): ([UInt8], [UInt8]) = ([0, 67], [0, 68])
        #expect(try !passes(four(transport: 17, ports: server + client), port))
        #expect(try !passes(four(transport: 17, ports: server + client, options: 2), port))
        #expect(try passes(four(transport: 17, ports: client + server), port))
        #expect(try passes(four(from: [0, 0, 0, 0], transport: 17, ports: client + server), port))
        #expect(try !passes(four(from: [0, 0, 0, 0], transport: 17, ports: client + [0, 53]), port))
        #expect(try !passes(four(from: [0, 0, 0, 0], transport: 6, ports: client + server), port))
        // A fragment has no ports, and says who it is from all the same.
        #expect(try passes(four(transport: 17, ports: server + client, fragment: [0, 1]), port))
        #expect(try !passes(four(from: [0, 0, 0, 0], transport: 17, ports: client + server, fragment: [0, 1]), port))
        #expect(try !passes(six(next: 17, [2, 35, 2, 34]), port))
        #expect(try passes(six(next: 17, [2, 34, 2, 35]), port))
        #expect(try !passes(six(next: 44, [17, 0, 0, 1, 0, 0, 0, 0, 2, 35, 2, 34]), port))
    }

    @Test func neighboursSpeakForThemselves() throws {
        let port = try port()
        #expect(try passes(six(next: 58, advertisement(PortGuardTests.own6)), port))
        #expect(try passes(six(next: 58, advertisement(PortGuardTests.linkLocal)), port))
        #expect(try !passes(six(next: 58, advertisement(PortGuardTests.other6)), port))
        // Routers' messages.
        for type: UInt8 in [134, 137] { #expect(try !passes(six(next: 58, [type, 0, 0, 0]), port)) }
        // Whether an address is free, and groups.
        for type: UInt8 in [133, 135] {
            #expect(try passes(six(from: PortGuardTests.none6, next: 58, [type, 0, 0, 0]), port))
        }
        #expect(try !passes(six(from: PortGuardTests.none6, next: 58, [128, 0, 0, 0]), port))
        let report: [UInt8] = [58, 0, 5, 2, 0, 0, 1, 0, 143, 0]
        #expect(try passes(six(from: PortGuardTests.none6, next: 0, report), port))
        #expect(try passes(six(from: PortGuardTests.linkLocal, next: 0, report), port))
        #expect(try !passes(six(next: 0, [58, 0, 5, 2, 0, 0, 1, 0, 130, 0]), port))
        #expect(try passes(six(next: 58, [128, 0, 0, 0]), port))
    }

    /// What a system of its own says until it has its address of IPv6 (RFC 4861, 4862, 8415), and what a router would.
    @Test func whoAsksForAnAddressIsHeard() throws {
        let port = try port()
        let (routers, servers) = ("33:33:00:00:00:02", "33:33:00:01:00:02")
        func sends(
            _ next: UInt8, _ payload: [UInt8], from source: [UInt8], to target: String, by station: String = servers
        ) throws -> Bool {
            let address = try #require(IPAddress(target)).bytes
            let packet: [UInt8] = [0x60, 0, 0, 0, 0, 40, next, 255] + source + address + payload
            return try passes(frame(0x86DD, packet, to: station), port)
        }
        let (none, own, local) = (PortGuardTests.none6, PortGuardTests.own6, PortGuardTests.linkLocal)
        let stranger = try #require(IPAddress("fe80::3")).bytes
        let (solicit, reply): ([UInt8], [UInt8]) = ([2, 34, 2, 35, 0, 8, 0, 0, 1], [2, 35, 2, 34, 0, 8, 0, 0, 7])
        #expect(try sends(17, solicit, from: local, to: "ff02::1:2"))
        #expect(try sends(17, solicit, from: own, to: "ff02::1:2"))
        for source in [none, stranger, PortGuardTests.other6] {
            #expect(try !sends(17, solicit, from: source, to: "ff02::1:2"))
        }
        for source in [own, local] {
            #expect(try !sends(17, reply, from: source, to: "fe80::3"))
            #expect(try !sends(58, [134, 0, 0, 0, 64, 0x80, 7, 8], from: source, to: "ff02::1"))
            #expect(try sends(58, [133, 0, 0, 0, 0, 0, 0, 0], from: source, to: "ff02::2", by: routers))
            // For whom it looks.
            #expect(try sends(58, [135, 0, 0, 0, 0, 0, 0, 0] + stranger, from: source, to: "ff02::1:ff00:3"))
        }
        #expect(try sends(58, [133, 0, 0, 0, 0, 0, 0, 0], from: none, to: "ff02::2", by: routers))
        for target in [local, own] {
            #expect(try sends(58, [135, 0, 0, 0, 0, 0, 0, 0] + target, from: none, to: "ff02::1:ff40:2"))
            #expect(try sends(58, [136, 0, 0, 0, 0x20, 0, 0, 0] + target, from: local, to: "ff02::1"))
        }
        #expect(try !sends(58, [133, 0, 0, 0, 0, 0, 0, 0], from: stranger, to: "ff02::2", by: routers))
    }

    @Test func nothingHidesBehindOtherHeaders() throws {
        let port = try port()
        let router: [UInt8] = [134, 0, 0, 0, 0, 0, 0, 0]
        for header: UInt8 in [43, 60, 135, 139, 140, 253] {
            #expect(try !passes(six(next: header, [58, 0, 0, 0, 0, 0, 0, 0] + router), port))
        }
        #expect(try !passes(six(next: 0, [58, 0, 1, 4, 0, 0, 0, 0] + router), port))
        #expect(try !passes(six(next: 44, [58, 0, 0, 0, 0, 0, 0, 1] + router), port))
        #expect(try !passes(six(next: 44, [60, 0, 0, 1, 0, 0, 0, 1] + router), port))
        #expect(try !passes(six(next: 44, [58, 0, 0, 1, 0, 0, 0, 1] + advertisement(PortGuardTests.own6)), port))
        // A long echo, its first part and the next one.
        #expect(try passes(six(next: 44, [58, 0, 0, 1, 0, 0, 0, 1, 128, 0, 0, 0]), port))
        #expect(try passes(six(next: 44, [58, 0, 4, 1, 0, 0, 0, 1] + router), port))
        #expect(try !passes(six(from: PortGuardTests.other6, next: 44, [58, 0, 4, 1, 0, 0, 0, 1] + router), port))
    }

    @Test func whereOthersGiveAddressesTheStationIsVerified() throws {
        let port = try port([], open: [.v4, .v6])
        #expect(try passes(four(from: [192, 0, 2, 7]), port))
        #expect(try passes(six(from: PortGuardTests.other6), port))
        #expect(try passes(arp([192, 0, 2, 7]), port))
        #expect(try passes(six(next: 58, advertisement(PortGuardTests.other6)), port))
        #expect(try !passes(frame(0x0800, Array(four().dropFirst(14)), from: "02:5a:0a:40:00:03"), port))
        #expect(try !passes(arp([192, 0, 2, 7], mac: "02:5a:0a:40:00:03"), port))
        #expect(try !passes(six(next: 58, [134, 0, 0, 0]), port))
        #expect(try !passes(four(transport: 17, ports: [0, 67, 0, 68]), port))
        #expect(try !passes(four(from: [127, 0, 0, 1]), port))
    }

    @Test func manyAddressesAreAProgramTooOrNone() throws {
        let few = (2..<6).compactMap { IPAddress("fd00::\($0)") }
        #expect(try port(few).program != nil)
        #expect(try port((2..<80).compactMap { IPAddress("fd00::\($0)") }).program == nil)
    }
}
