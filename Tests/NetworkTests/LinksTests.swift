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
