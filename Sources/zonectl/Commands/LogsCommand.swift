// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl logs NAME`
enum LogsCommand {
    static let follow = Option.flag("follow", "f", "Go on until the zone ends")
    static let since = Option.value(
        "since", nil, "TIME", "Only what was said from then on, such as 10m or 2026-01-31T08:00Z")
    static let until = Option.value("until", nil, "TIME", "Only what was said up to then")
    static let tail = Option.value("tail", "n", "NUMBER", "Only so many lines at the end, or all")
    static let timestamps = Option.flag("timestamps", "t", "Print when each line was said")
    static let json = Option.flag("json", nil, "Print each line as JSON")

    static let command = Command(
        names: ["logs"], group: .look, operands: "NAME",
        summary: "Show what a zone in the background has written",
        details: """
            What the zone wrote to stderr is written to stderr. TIME is how long ago (90s, 10m, 1h30m, 2d), a point in
            time (2026-01-31, 2026-01-31T08:00, with Z or +01:00 where it is not the local one), or seconds since 1970.
            With -f and Ctrl-C the exit status is 130.
            """,
        options: [follow, since, until, tail, timestamps, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "logs needs the name of one zone", hint: "'zonectl ls' lists all zones")
        }
        var request = ZoneLog.Request()
        request.since = try OptionValue.moment(arguments.value(since), "--since")
        request.until = try OptionValue.moment(arguments.value(until), "--until")
        request.last = try count(arguments.value(tail))
        request.follows = arguments.flag(follow)
        var printer = LogPrinter(hasTimes: arguments.flag(timestamps), isJSON: arguments.flag(json))
        do throws(ZoneError) {
            let isInterrupted = try ZoneLog(context.folders, name).read(request) { (line) throws(ZoneError) in
                try printer.show(line)
            } pause: { () throws(ZoneError) in
                try printer.flush()
            }
            return isInterrupted ? 130 : 0
        } catch {
            // `zonectl logs web | head` has what it wants: as if the signal had been let through.
            if printer.isReaderGone { return 128 + SIGPIPE }
            throw error
        }
    }

    private static func count(_ text: String?) throws(ZoneError) -> Int? {
        guard let text, text != "all" else { return nil }
        guard let number = Int(text) else {
            throw ZoneError(.invalid, "--tail \"\(text)\" is neither a number of lines nor \"all\"")
        }
        // As docker's: -1 is all.
        return number < 0 ? nil : number
    }
}

/// Writes lines of a log to the stream that they came from, many at once.
private struct LogPrinter {
    let hasTimes: Bool
    let isJSON: Bool
    private var stream = StandardStream.output
    private var bytes: [UInt8] = []
    /// Whether a line of this stream was begun and goes on.
    private var isOutputBegun = false
    private var isErrorBegun = false
    private(set) var isReaderGone = false

    init(hasTimes: Bool, isJSON: Bool) {
        self.hasTimes = hasTimes
        self.isJSON = isJSON
    }

    mutating func show(_ line: LogLine) throws(ZoneError) {
        if isJSON { return try showJSON(line) }
        let wanted: StandardStream = line.stream == .output ? .output : .error
        // In the order in which the lines were said, where both are the same terminal or file.
        if wanted != stream || bytes.count > 32 << 10 { try flush() }
        stream = wanted
        let isBegun = stream == .output ? isOutputBegun : isErrorBegun
        if hasTimes, !isBegun, let time = line.time { bytes += "\(PointInTime.rfc3339Nano(time)) ".utf8 }
        bytes += line.message
        if !line.isPartial { bytes.append(0x0A) }
        if stream == .output { isOutputBegun = line.isPartial } else { isErrorBegun = line.isPartial }
    }

    private mutating func showJSON(_ line: LogLine) throws(ZoneError) {
        var writer = JSONWriter()
        LogRecord(line).write(to: &writer)
        writer.endText()
        bytes += writer.bytes
        if bytes.count > 32 << 10 { try flush() }
    }

    mutating func flush() throws(ZoneError) {
        if bytes.isEmpty { return }
        do throws(SystemError) { try stream.write(bytes) } catch {
            isReaderGone = error.errno == .brokenPipe
            throw ZoneError(.system, "write to \(stream == .output ? "stdout" : "stderr"): \(error.errno.message)")
        }
        bytes.removeAll(keepingCapacity: true)
    }
}

/// A line as `logs --json` shows it.
struct LogRecord: JSONRecord {
    /// RFC 3339; none for a line that is damaged.
    var time: String?
    var stream = ""
    /// What is no UTF-8 is replaced.
    var message = ""
    /// Whether the line goes on in the next one of its stream.
    var isPartial = false

    init() {}

    init(_ line: LogLine) {
        time = line.time.map(PointInTime.rfc3339Nano)
        stream = line.stream.rawValue
        message = String(decoding: line.message, as: UTF8.self)
        isPartial = line.isPartial
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("time", &time)
        try visitor.required("stream", &stream)
        try visitor.required("message", &message)
        try visitor.field("partial", &isPartial)
    }
}
