// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@testable import ZoneRuntime

struct PublishedPortTests {
    @Test(arguments: [
        ("8080:80", "localhost:8080->80/tcp"), ("80", "localhost:0->80/tcp"), (":80/udp", "localhost:0->80/udp"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080->80/tcp"), ("[::]:53:53/udp", "[::]:53->53/udp"),
        ("192.0.2.1:7000-7009:8000-8009", "192.0.2.1:7000-7009->8000-8009/tcp"),
        ("[fd00::1]::80", "[fd00::1]:0->80/tcp"),
    ])
    func texts(_ text: String, _ shown: String) throws {
        #expect(try PublishedPort(text).text == shown)
    }

    @Test(arguments: [
        "", ":", "a:b", "80:", "0", "80:0", "65536:1", "8080:80/sctp", "8080:80/", "1:2:3", "::1:80:80", "[::1]80:80",
        "[x]:80:80", "1-2:3", "2-1:2-1", "1-5000:1-5000", "65535-65536:1-2", "-1:80", "80:+80", "8080:80:90:100",
        "[::1:80",
        "99999999999999999999:1",
    ])
    func badTexts(_ text: String) {
        #expect(throws: ZoneError.self) { _ = try PublishedPort(text) }
    }

    @Test(arguments: [Int64.max, .min, 0, 65537, -1])
    func valuesOfAFileAreAnError(_ number: Int64) throws {
        for member in ["hostPort", "zonePort", "count"] where !(member == "hostPort" && number == 0) {
            var values = ["hostPort": Int64(80), "zonePort": 80, "count": 1]
            values[member] = number
            let members = values.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
            let port = try PublishedPort(parsing: Array("{\(members)}".utf8))
            #expect(port.fault != nil)
            // Shown, compared and counted all the same.
            #expect(!port.text.isEmpty && port.singles.count <= 8192)
            _ = port.overlaps(try PublishedPort("1:1"))
        }
    }

    @Test func whatOverlaps() throws {
        func overlap(_ one: String, _ other: String) throws -> Bool {
            try PublishedPort(one).overlaps(PublishedPort(other))
        }
        #expect(
            try overlap("80:80", "80:81") && overlap("80:80", "127.0.0.1:80:80") && overlap("80:80", "0.0.0.0:80:80"))
        #expect(try overlap("80-90:80-90", "[::]:85:80"))
        #expect(try !overlap("80:80", "80:80/udp") && !overlap("80:80", "192.0.2.1:80:80"))
        #expect(try !overlap("0.0.0.0:80:80", "[::]:80:80") && !overlap("80:80", "81:80") && !overlap("80", "80"))
    }

    @Test(arguments: [
        ("10mbit", Int64(10_000_000)), ("1gbit", 1_000_000_000), ("8000", 8000), ("1GBIT", 1_000_000_000),
    ])
    func rates(_ text: String, _ bits: Int64) {
        #expect(BitRate.parse(text) == bits)
        #expect(BitRate.parse(BitRate.text(bits)) == bits)
    }

    @Test(arguments: [
        "", "mbit", "-1mbit", "1.5mbit", "101gbit", "99999999999999999999", "1tbit", "9999999999999999gbit",
    ])
    func badRates(_ text: String) {
        #expect(BitRate.parse(text) == nil)
    }
}
