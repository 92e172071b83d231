// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// What `top` shows: which zones in which order, as lines of text.
struct TopView {
    enum Order: String, CaseIterable {
        case name, cpu, memory, io, network, pids
    }

    var order = Order.cpu
    var isReversed = false
    /// Whether zones are shown that do not run.
    var showsAll = false
    /// How many zones are above the first that is shown.
    private(set) var offset = 0
    private(set) var isOver = false
    private var pageSize = 1

    var usages: [ZoneUsage] = []
    var host = HostUsage()
    var hostPercent: Double?
    var running = 0
    var all = 0

    // MARK: Keys

    /// Follows what was typed; unknown keys do nothing.
    mutating func type(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            switch byte {
            // Ctrl-C, Ctrl-D.
            case 3, 4, UInt8(ascii: "q"), UInt8(ascii: "Q"): isOver = true
            case UInt8(ascii: "c"): order = .cpu
            case UInt8(ascii: "m"): order = .memory
            case UInt8(ascii: "i"): order = .io
            case UInt8(ascii: "n"): order = .network
            case UInt8(ascii: "p"): order = .pids
            case UInt8(ascii: "N"): order = .name
            case UInt8(ascii: "r"): isReversed.toggle()
            case UInt8(ascii: "a"): showsAll.toggle()
            case UInt8(ascii: "k"): scroll(-1)
            case UInt8(ascii: "j"): scroll(1)
            case UInt8(ascii: "g"): offset = 0
            case UInt8(ascii: "G"): scroll(.max)
            case 0x1B: escape(&rest)
            default: break
            }
        }
    }

    /// `ESC [ A`, `ESC O A`, `ESC [ 5 ~`: what terminals send for keys without a letter.
    private mutating func escape(_ rest: inout ArraySlice<UInt8>) {
        guard let kind = rest.first, kind == UInt8(ascii: "[") || kind == UInt8(ascii: "O") else { return }
        rest.removeFirst()
        let digits = rest.prefix { $0 >= 0x30 && $0 <= 0x3B }
        rest = rest.dropFirst(digits.count)
        switch (rest.popFirst(), digits.first) {
        case (UInt8(ascii: "A"), _): scroll(-1)
        case (UInt8(ascii: "B"), _): scroll(1)
        case (UInt8(ascii: "H"), _), (UInt8(ascii: "~"), UInt8(ascii: "1")): offset = 0
        case (UInt8(ascii: "F"), _), (UInt8(ascii: "~"), UInt8(ascii: "4")): scroll(.max)
        case (UInt8(ascii: "~"), UInt8(ascii: "5")): scroll(-pageSize)
        case (UInt8(ascii: "~"), UInt8(ascii: "6")): scroll(pageSize)
        default: break
        }
    }

    private mutating func scroll(_ lines: Int) {
        let wanted = lines == .max ? .max : offset + lines
        offset = max(0, min(wanted, usages.count - pageSize))
    }

    // MARK: Lines

    private struct Column {
        let title: String
        let width: Int
        /// Narrow windows lack those with high numbers.
        let rank: Int
        let order: Order?
        let text: (ZoneUsage) -> String
    }

    private var columns: [Column] {
        let memory = host.memory
        return [
            Column(title: "TYPE", width: 9, rank: 9, order: nil) { $0.type },
            Column(title: "STATUS", width: 8, rank: 5, order: nil) { $0.status },
            Column(title: "CPU%", width: 6, rank: 0, order: .cpu) { UsageText.percent($0.cpuPercent?.value) },
            Column(title: "MEM", width: 6, rank: 1, order: .memory) { UsageText.short($0.memory) },
            Column(title: "MEM%", width: 5, rank: 4, order: nil) {
                UsageText.percent(UsageText.memoryPercent($0, host: memory))
            },
            Column(title: "IO-R/s", width: 6, rank: 6, order: .io) { UsageText.short($0.readRate) },
            Column(title: "IO-W/s", width: 6, rank: 6, order: .io) { UsageText.short($0.writeRate) },
            Column(title: "RX/s", width: 6, rank: 7, order: .network) { UsageText.short($0.receiveRate) },
            Column(title: "TX/s", width: 6, rank: 7, order: .network) { UsageText.short($0.sendRate) },
            Column(title: "PIDS", width: 5, rank: 2, order: .pids) { $0.pids.map { String($0) } ?? "-" },
            Column(title: "PSI%", width: 5, rank: 3, order: nil) { UsageText.percent($0.pressure?.value) },
        ]
    }

    private static let narrowestName = 10

    /// The columns that fit beside names.
    private func columns(in width: Int) -> [Column] {
        var shown = columns
        while !shown.isEmpty, shown.reduce(TopView.narrowestName, { $0 + $1.width + 1 }) > width {
            let last = shown.map(\.rank).max()
            shown.removeAll { $0.rank == last }
        }
        return shown
    }

    private var sorted: [ZoneUsage] {
        let key: (ZoneUsage) -> UInt64 =
            switch order {
            case .name: { _ in 0 }
            case .cpu: { $0.cpuPercent?.hundredths ?? 0 }
            case .memory: { $0.memory ?? 0 }
            case .io: { ($0.readRate ?? 0) &+ ($0.writeRate ?? 0) }
            case .network: { ($0.receiveRate ?? 0) &+ ($0.sendRate ?? 0) }
            case .pids: { $0.pids ?? 0 }
            }
        // Most of something first, names from A to Z; equal ones by name, or they would change places all the time.
        let result = usages.sorted { (key($1), $0.name) < (key($0), $1.name) }
        return isReversed ? result.reversed() : result
    }

    /// Of the host.
    var summary: String {
        var parts: [String] = []
        if !host.load.isEmpty { parts.append("load " + host.load.joined(separator: " ")) }
        parts.append("CPU \(UsageText.percent(hostPercent))% of \(host.cpus)")
        if let memory = host.memory, let available = host.availableMemory {
            parts.append("memory \(UsageText.short(memory - min(memory, available)))/\(UsageText.short(memory))")
        }
        parts.append("zones \(all), \(running) running")
        return parts.joined(separator: "   ")
    }

    /// The header and the zones in columns; `width`: at most so many characters.
    private func table(_ zones: some Sequence<ZoneUsage>, width: Int?, names: Int) -> [String] {
        let shown = width.map { columns(in: $0) } ?? columns
        let room = width.map { max(1, $0 - shown.reduce(0) { $0 + $1.width + 1 }) } ?? names
        let line = { (name: String, cell: (Column) -> String) in
            let text = shown.reduce(TopView.fitted(name, min(room, max(names, TopView.narrowestName)), isLeft: true)) {
                $0 + " " + TopView.fitted(cell($1), $1.width)
            }
            return width.map { String(text.prefix($0)) } ?? text
        }
        return [line("NAME") { $0.title }] + zones.map { zone in line(zone.name) { $0.text(zone) } }
    }

    private static func fitted(_ text: String, _ width: Int, isLeft: Bool = false) -> String {
        if text.count > width { return String(text.prefix(width)) }
        let space = String(repeating: " ", count: width - text.count)
        return isLeft ? text + space : space + text
    }

    /// Everything, for scripts.
    func text() -> String {
        let zones = sorted
        let names = zones.map(\.name.count).max() ?? 0
        return ([summary] + table(zones, width: nil, names: max(names, TopView.narrowestName))).joined(separator: "\n")
            + "\n"
    }

    /// A whole screen: `rows` lines of at most `columns` characters. `hasAttributes`: the header is set off.
    mutating func screen(rows: Int, columns: Int, hasAttributes: Bool) -> String {
        let rows = max(1, rows)
        let hasHelp = rows >= 6
        pageSize = max(1, rows - (hasHelp ? 3 : 2))
        offset = max(0, min(offset, usages.count - pageSize))
        let zones = sorted
        let names = zones.map(\.name.count).max() ?? 0
        var lines = [String(summary.prefix(columns))]
        var body = table(zones.dropFirst(offset).prefix(pageSize), width: columns, names: names)
        if hasAttributes { body[0] = "\u{1B}[7m\(TopView.fitted(body[0], columns, isLeft: true))\u{1B}[0m" }
        lines += body
        if hasHelp {
            lines += [String](repeating: "", count: max(0, rows - 1 - lines.count))
            let help = "q quit  sort: c m i n p N (\(order.rawValue))  r reverse  a all  arrows scroll"
            lines.append(String(help.prefix(columns)))
        }
        return "\u{1B}[H" + lines.prefix(rows).joined(separator: "\u{1B}[K\r\n") + "\u{1B}[K\u{1B}[J"
    }
}
