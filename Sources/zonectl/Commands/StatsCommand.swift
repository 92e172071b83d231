// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl stats [NAME…]`
enum StatsCommand {
    static let all = Option.flag("all", "a", "Also zones that do not run")
    static let noStream = Option.flag("no-stream", nil, "Print once and end")
    static let interval = Option.value("interval", nil, "TIME", "Time between two looks (default 1s)")
    static let json = Option.flag("json", nil, "Print JSON: a list on a line for each look")

    static let command = Command(
        names: ["stats"], group: .look, operands: "[NAME…]", summary: "Show what zones use, again and again",
        details: """
            CPU is percent of one CPU over the interval; memory is without what the kernel could drop at once; PSI is the
            percent of the last ten seconds in which something in the zone waited for CPU, memory or disks. A dash is
            what this host does not count.
            """,
        options: [all, noStream, interval, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let names = try mapping(arguments.operands) { (name) throws(ZoneError) in try context.store.find(name).name }
        let milliseconds = try milliseconds(arguments.value(interval))
        let isJSON = arguments.flag(json)
        let isOnce = arguments.flag(noStream)
        let wantsAll = arguments.flag(all)
        let isWanted = { (entry: ZoneStore.Entry) in
            names.isEmpty ? wantsAll || entry.state.process != nil : names.contains(entry.name)
        }
        var sampler = ZoneSampler(context.folders)
        _ = try sampler.sample(isWanted)
        let isScreen = Terminal.isTerminal(1) && !isJSON && !isOnce
        while true {
            pause(milliseconds: CInt(clamping: milliseconds))
            let usages = try sampler.sample(isWanted)
            if isScreen { try Output.write("\u{1B}[H\u{1B}[J") }
            if !isJSON {
                try show(usages)
            } else if isOnce {
                try Output.json(usages)
            } else {
                var writer = JSONWriter()
                usages.write(to: &writer)
                writer.endText()
                try Output.write(writer.bytes)
            }
            if isOnce { return 0 }
        }
    }

    private static func mapping(
        _ names: [String], _ find: (String) throws(ZoneError) -> String
    ) throws(ZoneError) -> [String] {
        var result: [String] = []
        for name in names { result.append(try find(name)) }
        return result
    }

    /// A time between two looks.
    static func milliseconds(_ text: String?) throws(ZoneError) -> Int {
        guard let text else { return 1000 }
        guard let milliseconds = TimeSpan.milliseconds(text), milliseconds >= 100 else {
            throw ZoneError(
                .invalid, "--interval \"\(text)\" is not a time of at least 100ms", hint: "such as 500ms, 5s or 1m30s")
        }
        return milliseconds
    }

    private static func show(_ usages: [ZoneUsage]) throws(ZoneError) {
        let host = HostUsage().memory
        // Most hosts have no machines.
        let guests = usages.contains { $0.guestMemory != nil }
        try Output.table(
            ["NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "PSI %"]
                + (guests ? ["GUEST MEM / OF"] : []),
            usages.map { usage in
                [
                    usage.name, UsageText.percent(usage.cpuPercent?.value),
                    usage.memory == nil ? "-" : UsageText.pair(usage.memory, usage.memoryLimit ?? host),
                    UsageText.percent(UsageText.memoryPercent(usage, host: host)),
                    UsageText.pair(usage.receivedBytes, usage.sentBytes),
                    UsageText.pair(usage.readBytes, usage.writtenBytes), usage.pids.map { String($0) } ?? "-",
                    UsageText.percent(usage.pressure?.value),
                ] + (guests ? [UsageText.guestMemory(usage)] : [])
            })
    }
}
