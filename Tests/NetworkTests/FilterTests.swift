// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import Network

/// The rules, as nft itself understands them, in network namespaces of the tests' own.
@Suite(
    .enabled(
        if: geteuid() == 0 && (try? HostProgram.find("nft")) != nil,
        "needs root, and Debian's package nftables"))
struct FilterTests {
    private func table() throws -> FilterTable {
        var inside = FilteredNetwork(
            bridge: "zt1", subnets: [try #require(Subnet("10.2.0.0/24"))],
            gateways: [try #require(IPAddress("10.2.0.254"))])
        inside.isInternal = true
        let subnets = [try #require(Subnet("10.1.0.0/20")), try #require(Subnet("fd00:1::/64"))]
        let gateways = subnets.compactMap { $0.host(1) }
        let outer = FilteredNetwork(bridge: "zt0", subnets: subnets, gateways: gateways)
        return FilterTable(name: "zonetest", networks: [outer, inside])
    }

    private func elements() throws -> [FilterElement] {
        let (four, six) = (try #require(IPAddress("10.1.0.2")), try #require(IPAddress("fd00:1::2")))
        return [
            .published(.tcp, host: nil, port: 8080, to: four, port: 80),
            .published(.udp, host: IPAddress("fd00:9::1"), port: 53, to: six, port: 53),
        ]
    }

    /// Runs nft in a new network namespace, and returns all the rules that are there then.
    private func nft(_ texts: String...) throws -> String {
        let own = try Descriptor.open("/proc/thread-self/ns/net", [.readOnly])
        try check(zn_unshare(CLONE_NEWNET), "unshare")
        defer { _ = zn_setns(own.raw, CLONE_NEWNET) }
        for text in texts {
            var program = try HostProgram("nft", ["-f", "-"])
            program.input = Array(text.utf8)
            let outcome = try program.run()
            #expect(outcome.status == .exited(0), "\(outcome.reason)")
        }
        let listed = try HostProgram("nft", ["list", "ruleset"]).run()
        return String(decoding: listed.output, as: UTF8.self)
    }

    @Test func nftTakesTheTables() throws {
        let table = try table()
        let elements = try elements()
        let ruleset = try nft(table.text(elements: elements))
        for part in [
            "table inet zonetest", "tcp . 8080 : 10.1.0.2 . 80", "fd00:9::1 . udp . 53 : fd00:1::2 . 53",
            "\"zt1\" . 10.2.0.254",
            "ip saddr 10.1.0.0/20 oifname != \"zt0\" masquerade",
            "ip6 saddr fd00:1::/64 oifname != \"zt0\" masquerade",
        ] {
            #expect(ruleset.contains(part), "\(part) in \(ruleset)")
        }
        #expect(!ruleset.contains("oifname != \"zt1\""))
    }

    @Test func itTakesThePlaceOfAnOlderOne() throws {
        let table = try table()
        let none = FilterTable(name: "zonetest", networks: [])
        let ruleset = try nft(table.text(), "table inet others {}", none.text())
        #expect(ruleset.contains("table inet others") && !ruleset.contains("zonetest"))
    }

    @Test func elementsComeAndGoWithoutNft() throws {
        let (table, elements) = (try table(), try elements())
        let own = try Descriptor.open("/proc/thread-self/ns/net", [.readOnly])
        try check(zn_unshare(CLONE_NEWNET), "unshare")
        defer { _ = zn_setns(own.raw, CLONE_NEWNET) }
        func nft(_ words: String..., input: String = "") throws -> String {
            var program = try HostProgram("nft", words)
            program.input = Array(input.utf8)
            let outcome = try program.run()
            #expect(outcome.status == .exited(0), "\(outcome.reason)")
            return String(decoding: outcome.output, as: UTF8.self)
        }
        _ = try nft("-f", "-", input: table.text(elements: elements))
        let wanted = try nft("list", "ruleset")
        _ = try nft("-f", "-", input: table.text())
        let empty = try nft("list", "ruleset")
        let filter = try PacketFilter()
        #expect(try filter.has("zonetest") && !filter.has("zonetest2"))
        try filter.change("zonetest", add: elements)
        #expect(try nft("list", "ruleset") == wanted)
        try filter.change("zonetest", remove: elements)
        #expect(try nft("list", "ruleset") == empty)
        // All or nothing.
        try filter.change("zonetest", add: Array(elements.prefix(1)))
        let before = try nft("list", "ruleset")
        #expect(throws: SystemError.self) {
            try filter.change("zonetest", remove: elements)
        }
        #expect(try nft("list", "ruleset") == before)
        _ = try nft("flush", "ruleset")
        let gone = #expect(throws: SystemError.self) { try filter.change("zonetest", add: elements) }
        #expect(gone?.errno == .noEntry)
        #expect(try !filter.has("zonetest"))
    }
}
