// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct TopViewTests {
    private func usage(_ name: String, cpu: UInt64? = nil, memory: UInt64? = nil, pids: UInt64? = nil) -> ZoneUsage {
        var usage = ZoneUsage()
        usage.name = name
        usage.status = "running"
        usage.cpuPercent = cpu.map { Decimal(hundredths: $0) }
        usage.memory = memory
        usage.pids = pids
        return usage
    }

    private func names(_ view: TopView) -> [String] {
        view.text().split(separator: "\n").dropFirst(2).compactMap { $0.split(separator: " ").first.map(String.init) }
    }

    private var view: TopView {
        var view = TopView()
        view.usages = [
            usage("a", cpu: 100, memory: 3, pids: 1), usage("b", cpu: 300, memory: 1, pids: 1),
            usage("c", cpu: nil, memory: 2, pids: 9),
        ]
        return view
    }

    @Test(arguments: [
        ("c", ["b", "a", "c"]), ("m", ["a", "c", "b"]), ("p", ["c", "a", "b"]), ("N", ["a", "b", "c"]),
        ("Nr", ["c", "b", "a"]), ("cr", ["c", "a", "b"]), ("i", ["a", "b", "c"]), ("n", ["a", "b", "c"]),
        ("x", ["b", "a", "c"]),
    ])
    func keysSort(_ keys: String, _ order: [String]) {
        var view = view
        view.type(Array(keys.utf8))
        #expect(names(view) == order)
        #expect(!view.isOver)
    }

    @Test(arguments: [[3], [4], [0x71], [0x1B, 0x5B, 0x41, 3]] as [[UInt8]]) func keysQuit(_ keys: [UInt8]) {
        var view = view
        view.type(keys)
        #expect(view.isOver)
    }

    @Test(
        arguments: [
            [0x1B], [0x1B, 0x5B], [0x1B, 0x4F], [0x1B, 0x5B, 0x39, 0x39], [0x1B, 0x1B, 0x1B], [0xFF, 0, 0x80],
            [0x1B, 0x5B, 0x41], [0x1B, 0x5B, 0x35, 0x7E], [0x1B, 0x5B, 0x31, 0x3B, 0x35, 0x43],
        ] as [[UInt8]])
    func otherKeysDoNothing(_ keys: [UInt8]) {
        var view = view
        view.type(keys)
        #expect(!view.isOver)
        #expect(names(view) == ["b", "a", "c"])
    }

    @Test func noScreenIsTooSmall() {
        var view = view
        view.usages += (0..<100).map { usage("zone-with-a-long-name-\($0)", cpu: .max / 2, memory: .max, pids: .max) }
        for rows in [0, 1, 2, 3, 5, 6, 24, 200] {
            for columns in [1, 2, 10, 20, 40, 79, 80, 81, 120, 300] {
                let lines = view.screen(rows: rows, columns: columns, hasAttributes: false)
                    .replacing("\u{1B}[K", with: "").replacing("\u{1B}[H", with: "").replacing("\u{1B}[J", with: "")
                    .split(separator: "\r\n", omittingEmptySubsequences: false)
                #expect(lines.count <= max(rows, 1))
                #expect(lines.allSatisfy { $0.count <= columns }, "\(rows) rows, \(columns) columns")
            }
        }
    }

    @Test func eightyColumnsShowWhatIsWanted() {
        var view = view
        let header = view.screen(rows: 24, columns: 80, hasAttributes: false).split(separator: "\r\n")[1]
        for title in ["NAME", "STATUS", "CPU%", "MEM", "MEM%", "IO-R/s", "IO-W/s", "RX/s", "TX/s", "PIDS", "PSI%"] {
            #expect(header.contains(title), "\(title)")
        }
    }

    @Test func arrowsScroll() {
        var view = view
        view.order = .name
        view.usages = (10..<60).map { usage("z\($0)") }
        let shown = { (view: inout TopView) -> String in
            let lines = view.screen(rows: 10, columns: 80, hasAttributes: false).split(separator: "\r\n")
            return String(lines[2].prefix(3))
        }
        #expect(shown(&view) == "z10")
        view.type([0x1B, 0x5B, 0x42])
        #expect(shown(&view) == "z11")
        view.type([0x1B, 0x5B, 0x36, 0x7E])
        #expect(shown(&view) == "z18")
        view.type(Array("G".utf8))
        #expect(shown(&view) == "z53")
        view.type([0x1B, 0x5B, 0x41, 0x1B, 0x4F, 0x41])
        #expect(shown(&view) == "z51")
        // Zones that have gone take their places with them.
        view.usages.removeLast(45)
        #expect(shown(&view) == "z10")
    }

    @Test(
        arguments: [
            (0, "0B"), (999, "999B"), (1000, "1.0K"), (1024, "1.0K"), (1_500_000, "1.4M"), (123 << 20, "123M"),
            (1 << 40, "1.0T"), (.max, "16.0E"),
        ] as [(UInt64, String)])
    func sizesAreShort(_ bytes: UInt64, _ text: String) {
        #expect(UsageText.short(bytes) == text)
    }
}
