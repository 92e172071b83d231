// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import Network

@Suite struct AddressTests {
    @Test(
        arguments: [
            ("192.0.2.1", "192.0.2.1"), ("2001:DB8:0:0::1", "2001:db8::1"), ("::", "::"), ("0.0.0.0", "0.0.0.0"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ])
    func addressesAreReadAndWritten(_ text: String, _ written: String) {
        #expect(IPAddress(text)?.description == written)
    }

    @Test(
        arguments: [
            "", "192.0.2", "192.0.2.256", "192.0.2.1/24", "192.0.2.01", " 192.0.2.1", "fe80::1%eth0", "::g",
            "1.2.3.4\0",
        ])
    func otherTextsAreNoAddresses(_ text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func addressesAreCounted() throws {
        func next(_ text: String, _ distance: UInt64) -> String? {
            IPAddress(text)?.advanced(by: distance)?.description
        }
        #expect(next("192.0.2.255", 1) == "192.0.3.0")
        #expect(next("10.0.0.0", 0x01_02_03) == "10.1.2.3")
        #expect(next("fd00::ffff:ffff:ffff:fffe", 3) == "fd00:0:0:1::1")
        #expect(next("255.255.255.255", 1) == nil && next("255.255.255.255", 0) == "255.255.255.255")
        #expect(next("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1) == nil)
        #expect(next("0.0.0.0", .max) == nil && next("::", .max) == "::ffff:ffff:ffff:ffff")
    }

    @Test(
        arguments: [
            ("10.1.2.3/8", "10.0.0.0/8"), ("192.0.2.129/25", "192.0.2.128/25"), ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.1/32", "192.0.2.1/32"), ("2001:db8:ffff::1/33", "2001:db8:8000::/33"),
            ("fd00::1/128", "fd00::1/128"),
        ])
    func subnetsBeginAtTheirLowestAddress(_ text: String, _ written: String) {
        #expect(Subnet(text)?.description == written)
    }

    @Test(arguments: [
        "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "/8", "x/8", "10.0.0.0/+8",
    ])
    func otherTextsAreNoSubnets(_ text: String) {
        #expect(Subnet(text) == nil)
    }

    @Test func subnetsKnowTheirHosts() throws {
        let small = try #require(Subnet("192.0.2.8/29"))
        #expect(small.hosts == 6 && small.host(1)?.description == "192.0.2.9")
        #expect(small.host(6)?.description == "192.0.2.14" && small.host(7) == nil && small.host(0) == nil)
        #expect(Subnet("192.0.2.1/32")?.hosts == 0 && Subnet("192.0.2.0/31")?.hosts == 0)
        let large = try #require(Subnet("fd00::/64"))
        #expect(large.hosts == .max >> 1 && large.host(0x1_0000)?.description == "fd00::1:0")
        #expect(Subnet("fd00::/127")?.hosts == 1)
    }

    @Test func subnetsKnowEachOther() throws {
        let wide = try #require(Subnet("10.0.0.0/8"))
        let narrow = try #require(Subnet("10.200.0.0/16"))
        let other = try #require(Subnet("11.0.0.0/16"))
        let six = try #require(Subnet("::/0"))
        #expect(wide.overlaps(narrow) && narrow.overlaps(wide) && !wide.overlaps(other) && !six.overlaps(wide))
        #expect(wide.contains(try #require(IPAddress("10.255.255.255"))))
        #expect(!wide.contains(try #require(IPAddress("::1"))))
    }

    @Test func loopbackIsKnown() {
        #expect(IPAddress("127.1.2.3")?.isLoopback == true && IPAddress("::1")?.isLoopback == true)
        #expect(IPAddress("128.0.0.1")?.isLoopback == false && IPAddress("::2")?.isLoopback == false)
    }

    @Test func hardwareAddresses() throws {
        #expect(MACAddress("02:42:AC-11-00:0f")?.description == "02:42:ac:11:00:0f")
        for text in [
            "", "02:42:ac:11:00", "02:42:ac:11:00:0g", "02:42:ac:11:00:001", "02:42:ac:11:00:0f:", "+2:42:ac:11:00:0f",
        ] {
            #expect(MACAddress(text) == nil)
        }
        let local = try #require(MACAddress(local: [0xFF, 1, 2, 3, 4, 5]))
        #expect(local.description == "fe:01:02:03:04:05" && local.isStation)
        #expect(MACAddress("02:5a:0a:40:0b:4c")?.linkLocal?.description == "fe80::5a:aff:fe40:b4c")
        #expect(
            MACAddress("01:00:5e:00:00:01")?.isStation == false && MACAddress("00:00:00:00:00:00")?.isStation == false)
    }

    @Test func attributesOfAnyBytesAreRead() {
        let one: [UInt8] = [6, 0, 3, 0, 7, 8, 0, 0, 5, 0, 4, 0x80, 9]
        #expect(NetlinkReply.attribute(3, in: one[...]) == [7, 8])
        #expect(NetlinkReply.attribute(4, in: one[...]) == [9])
        #expect(NetlinkReply.attribute(5, in: one[...]) == nil)
        for bytes: [UInt8] in [[], [1], [0, 0, 3, 0], [3, 0, 3, 0], [5, 0, 3, 0], [255, 255, 3, 0, 1]] {
            #expect(NetlinkReply.attribute(3, in: bytes[...]) == nil)
        }
    }
}
