// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import Namespaces

@Suite struct CPUSetTests {
    @Test(
        arguments: [
            ("0", [0]), ("3,1", [1, 3]), ("0-3,7", [0, 1, 2, 3, 7]), ("63-64", [63, 64]), ("8191", [8191]),
            ("1-1,1", [1]), ("007", [7]),
        ] as [(String, [Int])])
    func lists(_ text: String, _ cpus: [Int]) throws {
        let set = try #require(CPUSet(text))
        #expect((0..<8192).filter(set.contains) == cpus)
        #expect(!set.contains(-1) && !set.contains(8192))
    }

    @Test(arguments: [
        "", ",", "0,", ",0", "-", "0-", "-1", "3-1", "0--1", "+1", "a", "0-a", "8192", "0-8192", " 0", "0 ", "1-2-3",
        "99999999999999999999", "0x1", "0-3:1/2", "0\n", "٣",
    ])
    func whatIsNone(_ text: String) {
        #expect(CPUSet(text) == nil)
    }

    /// Each range used to take as many steps as it has CPUs.
    @Test func longListsTakeTimeInProportion() throws {
        let list = String(repeating: "0-8191,", count: 200_000) + "7"
        var set: CPUSet?
        let time = ContinuousClock().measure { set = CPUSet(list) }
        #expect(set?.contains(8191) == true)
        #expect(time < .seconds(15), "\(time)")
    }

    @Test func theCallersOwn() throws {
        let own = try CPUSet.current()
        #expect((0..<8192).contains(where: own.contains))
        // To the same again: nothing changes.
        #expect(try CPUSet.replace(by: own) == own)
        #expect(try CPUSet.replace(by: nil) == nil)
    }
}
