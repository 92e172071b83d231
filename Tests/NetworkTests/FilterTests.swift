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
        var inside = FilteredNetwork(bridge: "zt1", subnets: [try #require(Subnet("10.2.0.0/24"))])
        inside.isInternal = true
        let subnets = [try #require(Subnet("10.1.0.0/20")), try #require(Subnet("fd00:1::/64"))]
        return FilterTable(name: "zonetest", networks: [FilteredNetwork(bridge: "zt0", subnets: subnets), inside])
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
        let elements = [
            "any4": ["tcp . 8080 : 10.1.0.2 . 80"], "at6": ["::1 . udp . 53 : fd00:1::2 . 53"],
            "links": ["\"zv1\""], "ports": ["\"zv1\" . 02:00:00:00:00:02"],
            "senders4": ["\"zv1\" . 02:00:00:00:00:02 . 10.1.0.2"],
        ]
        let ruleset = try nft(table.text(elements: elements))
        for part in [
            "table inet zonetest", "table bridge zonetest", "tcp . 8080 : 10.1.0.2 . 80",
            "::1 . udp . 53 : fd00:1::2 . 53",
            "\"zv1\" . 02:00:00:00:00:02 . 10.1.0.2",
            "iifname \"zt0\" oifname != \"zt0\" ip saddr 10.1.0.0/20 masquerade",
            "ip6 saddr fd00:1::/64 masquerade",
        ] {
            #expect(ruleset.contains(part), "\(part) in \(ruleset)")
        }
        #expect(!ruleset.contains("iifname \"zt1\" oifname != \"zt1\""))
    }

    @Test func itTakesThePlaceOfAnOlderOne() throws {
        let table = try table()
        let none = FilterTable(name: "zonetest", networks: [])
        let ruleset = try nft(table.text(), "table inet others {}", none.text())
        #expect(!ruleset.contains("zt0") && ruleset.contains("table inet others") && ruleset.contains("zonetest"))
    }
}
