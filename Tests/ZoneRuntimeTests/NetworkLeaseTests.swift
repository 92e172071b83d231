// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Network
import Testing

@testable import ZoneRuntime

/// Lines of the script that udhcpc calls.
struct NetworkLeaseTests {
    private func read(_ fields: String...) -> NetworkLease? {
        NetworkLease(Array(fields.joined(separator: "\t").utf8)[...])
    }

    @Test func aLeaseIsRead() throws {
        let lease = try #require(
            read("bound", "192.0.2.50", "24", "192.0.2.1 192.0.2.2", "192.0.2.7 fd00::7", "lan.example"))
        #expect(lease.given?.address.description == "192.0.2.50" && lease.given?.length == 24)
        #expect(lease.routers.map(\.description) == ["192.0.2.1", "192.0.2.2"])
        #expect(lease.nameServers.map(\.description) == ["192.0.2.7", "fd00::7"] && lease.domain == "lan.example")
        #expect(read("deconfig", "", "", "", "", "")?.given == nil)
        #expect(read("nak", "192.0.2.50", "24", "", "", "")?.given == nil)
    }

    @Test func whatIsNoneIsLeftAlone() {
        #expect(read("udhcpc: started, v1.35.0") == nil && read("") == nil && read("bound", "192.0.2.50") == nil)
        #expect(read("reboot", "192.0.2.50", "24", "", "", "") == nil)
        for (address, length) in [
            ("", "24"), ("192.0.2", "24"), ("fd00::1", "24"), ("192.0.2.50", "0"), ("192.0.2.50", "33"),
            ("192.0.2.50", "x"),
        ] {
            #expect(read("bound", address, length, "", "", "")?.given == nil)
        }
        for domain in ["", "a b", "x\ny", String(repeating: "a", count: 254), "a;b"] {
            #expect(read("bound", "192.0.2.50", "24", "fd00::1", "x", domain)?.domain == nil)
        }
        #expect(read("bound", "192.0.2.50", "24", "fd00::1 y", "x", "")?.routers.isEmpty == true)
    }
}
