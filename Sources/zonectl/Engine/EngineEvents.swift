// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `events`: statistics and what happens to a container, a line of JSON each.
enum EngineEvents {
    private static let stats = Option.flag("stats", nil, "Only the statistics of now")
    private static let interval = Option.value("interval", nil, "TIME", "Time between statistics (default 5s)")

    static let verb = EngineVerb(
        name: "events", operands: "ID", summary: "Show statistics and events of a container",
        options: [stats, interval]
    ) { (arguments, context) throws(ZoneError) in
        let id = try context.id(arguments, "events")
        let emit = { (type: String, data: JSON?) throws(ZoneError) in
            var writer = JSONWriter()
            writer.beginObject()
            writer.name("type")
            writer.string(type)
            writer.name("id")
            writer.string(id)
            if let data {
                writer.name("data")
                data.write(to: &writer)
            }
            writer.endObject()
            writer.endText()
            try Output.write(writer.bytes)
        }
        if arguments.flag(stats) {
            try emit("stats", try context.runtime.statistics(id))
            return 0
        }
        let text = arguments.value(interval) ?? "5s"
        guard let milliseconds = TimeSpan.milliseconds(text), milliseconds > 0 else {
            throw ZoneError(.invalid, "--interval \"\(text)\" is not a time", hint: "such as 500ms, 5s or 1m")
        }
        try context.runtime.watch(id, intervalMilliseconds: milliseconds, statistics: true, emit: emit)
        return 0
    }
}

/// Times as people write them.
enum TimeSpan {
    /// Parses `50ms`, `10s`, `5`, `1m`, `2h`; nil for anything else and for more than a day.
    static func milliseconds(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let units = ["ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000]
        guard let number = Int(digits), let unit = units[String(text.dropFirst(digits.count))],
            number <= 86_400_000 / unit
        else { return nil }
        return number * unit
    }
}
