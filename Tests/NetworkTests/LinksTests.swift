// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import Network

/// Links in network namespaces that the tests make themselves.
@Suite(.enabled(if: geteuid() == 0, "only root may make links"))
struct LinksTests {
    /// Calls `body` in a new network namespace.
    private func isolated(_ body: () throws -> Void) throws {
        let own = try Descriptor.open("/proc/thread-self/ns/net", [.readOnly])
        try check(zn_unshare(CLONE_NEWNET), "unshare")
        defer { _ = zn_setns(own.raw, CLONE_NEWNET) }
        try body()
    }

    private func here() throws -> Descriptor { try Descriptor.open("/proc/thread-self/ns/net", [.readOnly]) }

    @Test func aZoneIsAPortOfABridge() throws {
        try isolated {
            let zone = try here()
            try isolated {
                let links = try Links()
                let mac = try #require(MACAddress("02:00:00:00:00:01"))
                try links.makeBridge("zb0", mac: mac, mtu: 1400)
                let bridge = try #require(try links.link("zb0"))
                #expect(bridge.kind == "bridge" && bridge.mac == mac && bridge.mtu == 1400 && !bridge.isUp)
                let gateway = try #require(IPAddress("192.0.2.1"))
                let gateway6 = try #require(IPAddress("fd00:1::1"))
                try links.addAddress(gateway, length: 24, to: bridge.index)
                try links.addAddress(gateway6, length: 64, to: bridge.index)
                try links.bringUp(bridge.index)
                let own = Links.End(name: "zv0")
                let other = Links.End(name: "eth0", mac: MACAddress("02:00:00:00:00:02"))
                try links.makePair(own, other, in: zone, bridge: bridge.index, mtu: 1400)
                let port = try #require(try links.link("zv0"))
                #expect(port.master == bridge.index && port.isUp && port.kind == "veth" && port.mtu == 1400)

                let inside = try Links(of: zone)
                let link = try #require(try inside.link("eth0"))
                #expect(link.mac?.description == "02:00:00:00:00:02" && !link.isUp && link.mtu == 1400)
                #expect(try inside.link("zv0") == nil && links.link("eth0") == nil)
                try inside.bringUp(link.index)
                try inside.addAddress(try #require(IPAddress("192.0.2.7")), length: 24, to: link.index)
                try inside.addAddress(try #require(IPAddress("fd00:1::7")), length: 64, to: link.index)
                try inside.setDefaultRoute(by: gateway, on: link.index)
                try inside.setDefaultRoute(by: gateway6, on: link.index)
                #expect(try inside.routedSubnets().contains(try #require(Subnet("192.0.2.0/24"))))
                #expect(try links.routedSubnets().contains(try #require(Subnet("fd00:1::/64"))))
                #expect(Set(try links.all().map(\.name)).isSuperset(of: ["lo", "zb0", "zv0"]))

                // With one end the other goes.
                try links.remove("zv0")
                #expect(try inside.link("eth0") == nil)
                try links.remove("zv0")
            }
        }
    }

    @Test(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0, "there is no /dev/net/tun"))
    func machinesAreOnTheSameSegment() throws {
        try isolated {
            let links = try Links()
            let mac = try #require(MACAddress("02:00:00:00:00:01"))
            try links.makeBridge("zb0", mac: mac)
            let bridge = try #require(try links.link("zb0"))
            try links.bringUp(bridge.index)
            let own = try #require(MACAddress("02:00:00:00:00:02"))
            let one = try Tap.make("zv0")
            let other = try Tap.make("zv1")
            #expect((try? Tap.make("zv1")) == nil)
            for name in ["zv0", "zv1"] {
                let port = try #require(try links.link(name))
                #expect(port.kind == "tun")
                try links.join(port.index, bridge: bridge.index)
                try links.setMTU(port.index, 1400)
                if name == "zv0" {
                    let address = try #require(IPAddress("192.0.2.2"))
                    // The second one takes the place of the first.
                    try links.guardPort(port.index, PortGuard(mac: mac, addresses: []))
                    try links.guardPort(port.index, PortGuard(mac: own, addresses: [address]))
                }
                try links.bringUp(port.index)
            }
            // Questions for the owner of 192.0.2.9: of the zone, of another station, of another address.
            func question(_ mac: MACAddress, _ last: UInt8) -> [UInt8] {
                [UInt8](repeating: 0xFF, count: 6) + mac.bytes + [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] + mac.bytes
                    + [192, 0, 2, last, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9] + [UInt8](repeating: last, count: 18)
            }
            let stranger = try #require(MACAddress("02:00:00:00:00:03"))
            let frames = [question(stranger, 2), question(own, 3), question(own, 2)]
            // Each behind a virtio_net_hdr, which asks for nothing.
            let header = [UInt8](repeating: 0, count: 10)
            for frame in frames {
                let words = header + frame
                try #require(write(one.raw, words, words.count) == words.count)
            }
            var seen: [[UInt8]] = []
            var buffer = [UInt8](repeating: 0, count: 2000)
            while try waitReadable(other.raw, milliseconds: seen.contains(frames[2]) ? 50 : 2000) {
                let count = read(other.raw, &buffer, buffer.count)
                try #require(count > 0)
                seen.append(Array(buffer.prefix(count).dropFirst(header.count)))
            }
            #expect(seen.contains(frames[2]) && !seen.contains(frames[0]) && !seen.contains(frames[1]))
        }
    }

    @Test(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0, "there is no /dev/net/tun"))
    func linksOfOthersBecomeMachinesCards() throws {
        try isolated {
            let links = try Links()
            let namespace = try NetworkNamespace.make()
            let inside = try Links(of: namespace)
            let mac = try #require(MACAddress("02:00:00:00:00:01"))
            try links.makeBridge("zb0", mac: mac)
            let bridge = try #require(try links.link("zb0"))
            let own = try #require(MACAddress("02:00:00:00:00:02"))
            try links.makePair(
                .init(name: "zv0"), .init(name: "eth0", mac: own), in: namespace, bridge: bridge.index, mtu: 1400)
            let link = try #require(try inside.link("eth0"))
            try inside.bringUp(link.index)
            let address = try #require(IPAddress("192.0.2.2"))
            let gateway = try #require(IPAddress("192.0.2.1"))
            let beyond = try #require(IPAddress("198.51.100.1"))
            let other = try #require(IPAddress("203.0.113.0"))
            let six = try #require(IPAddress("2001:db8::2"))
            try inside.addAddress(address, length: 24, to: link.index)
            try inside.addAddress(six, length: 64, to: link.index)
            let routes = [
                Links.Route(to: .init(address: beyond, length: 32), by: nil, family: .v4),
                Links.Route(to: .init(address: other, length: 24), by: beyond, family: .v4),
                Links.Route(to: nil, by: gateway, family: .v4),
            ]
            for route in routes { try inside.add(route, on: link.index) }
            #expect(
                try inside.addresses(of: link.index) == [
                    .init(address: address, length: 24), .init(address: six, length: 64),
                ])
            // Connected routes are the kernel's own matter.
            let found = try inside.routes(by: link.index)
            #expect(found.count == 3 && found.first == routes[0])
            for route in routes { #expect(found.contains(route)) }

            // Attached to by a descriptor that was opened before, and gone with it.
            let card = try NetworkNamespace.inside(namespace) { () throws(SystemError) in
                try Tap.make("zt0", for: 0)
                return try Tap.open()
            }
            let made = try #require(try inside.link("zt0"))
            try inside.bringUp(made.index)
            #expect(try inside.link("zt0")?.hasCarrier == false)
            try Tap.attach(card.raw, "zt0")
            #expect(try inside.link("zt0")?.hasCarrier == true)
            try inside.couple(link.index, made.index)
            try links.bringUp(bridge.index)
            let port = try #require(try links.link("zv0"))
            try links.bringUp(port.index)

            // What the bridge says is heard by the card.
            let peer = try Tap.make("zt1")
            let second = try #require(try links.link("zt1"))
            try links.join(second.index, bridge: bridge.index)
            try links.bringUp(second.index)
            let header = [UInt8](repeating: 0, count: 10)
            let there: [UInt8] = own.bytes + [2, 0, 0, 0, 0, 9, 0x88, 0xB5] + [UInt8](repeating: 7, count: 50)
            let back: [UInt8] = [2, 0, 0, 0, 0, 9] + own.bytes + [0x88, 0xB5] + [UInt8](repeating: 8, count: 50)
            for (from, to, frame) in [(peer.raw, card.raw, there), (card.raw, peer.raw, back)] {
                let words = header + frame
                try #require(write(from, words, words.count) == words.count)
                var hasCome = false
                var buffer = [UInt8](repeating: 0, count: 2000)
                while !hasCome, try waitReadable(to, milliseconds: 2000) {
                    let count = read(to, &buffer, buffer.count)
                    try #require(count > 0)
                    hasCome = Array(buffer.prefix(count).dropFirst(header.count)) == frame
                }
                #expect(hasCome)
            }
            close(card)
            #expect(try inside.link("zt0") == nil)
        }
    }

    @Test func errorsAreTheKernels() throws {
        try isolated {
            let links = try Links()
            let mac = try #require(MACAddress("02:00:00:00:00:01"))
            try links.makeBridge("zb0", mac: mac)
            func error(_ body: () throws(SystemError) -> Void) -> SystemError? {
                do throws(SystemError) { try body() } catch { return error }
                return nil
            }
            #expect(error { () throws(SystemError) in try links.makeBridge("zb0", mac: mac) }?.errno == .exists)
            let group = try #require(MACAddress("01:00:00:00:00:01"))
            #expect(error { () throws(SystemError) in try links.makeBridge("zb1", mac: group) } != nil)
            let long = error { () throws(SystemError) in
                try links.makeBridge("a-name-that-is-longer-than-the-kernel-takes", mac: mac)
            }
            #expect(long != nil && (try? links.all().count) != nil)
            #expect(throws: SystemError.self) { _ = try Tap.make("a-name-that-is-too-long") }
            let address = try #require(IPAddress("192.0.2.1"))
            #expect(
                error { () throws(SystemError) in try links.addAddress(address, length: 24, to: 4711) }?.errno
                    == .noDevice)
            let refused = error { () throws(SystemError) in try links.setDefaultRoute(by: address, on: 1) }
            // The kernel's own words come along.
            #expect(refused?.subject.contains("192.0.2.1: ") == true)
        }
    }
}

private func close(_ descriptor: consuming Descriptor) {}
