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
            throw ZoneError(
                .invalid, "--interval \"\(text)\" is not a time", hint: "such as 500ms, 5s or 1m30s, at most a day")
        }
        try context.runtime.watch(id, intervalMilliseconds: milliseconds, statistics: true, emit: emit)
        return 0
    }
}

/// Times between two looks.
enum TimeSpan {
    private static let day: Int64 = 86_400_000

    /// Parses `50ms`, `10s`, `5`, `1m30s`, `1.5h`; nil for anything else and for more than a day. A part below one
    /// millisecond is dropped.
    static func milliseconds(_ text: String) -> Int? {
        guard let milliseconds = Duration.milliseconds(text), milliseconds <= day else { return nil }
        return Int(milliseconds)
    }
}
