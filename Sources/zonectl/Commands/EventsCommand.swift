// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl events [NAME…]`
enum EventsCommand {
    static let since = Option.value("since", nil, "TIME", "Also what happened from then on, such as 10m")
    static let until = Option.value("until", nil, "TIME", "End when this time has come")
    static let filter = Option.list("filter", "f", "NAME=VALUE", "Only some: event=die, zone=NAME")
    static let noFollow = Option.flag("no-follow", nil, "Only what has happened so far")
    static let json = Option.flag("json", nil, "Print each event as JSON")

    static let command = Command(
        names: ["events"], group: .look, operands: "[NAME…]", summary: "Show what happens to zones",
        details: """
            Events are \(ZoneEvent.Kind.allCases.map(\.rawValue).joined(separator: ", ")). TIME is as for
            'zonectl logs'. The last ones, some thousands, are kept until the host is started again.
            """,
        options: [since, until, filter, noFollow, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        var request = EventLog.Request()
        request.since = try OptionValue.moment(arguments.value(since), "--since")
        request.until = try OptionValue.moment(arguments.value(until), "--until")
        request.follows = !arguments.flag(noFollow)
        // Not looked up: zones that are gone have events, too.
        request.zones = arguments.operands
        for text in arguments.list(filter) { try apply(filter: text, to: &request) }
        let isJSON = arguments.flag(json)
        let isInterrupted = try EventLog(context.folders).read(request) { (event) throws(ZoneError) in
            if isJSON { try Output.write(event.serialized()) } else { try Output.write(text(event)) }
        }
        return isInterrupted ? 130 : 0
    }

    private static func apply(filter text: String, to request: inout EventLog.Request) throws(ZoneError) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        switch (parts[0], parts.count) {
        case ("event", 2):
            guard ZoneEvent.Kind(rawValue: parts[1]) != nil else {
                let kinds = ZoneEvent.Kind.allCases.map(\.rawValue).joined(separator: ", ")
                throw ZoneError(.invalid, "--filter \"\(text)\": there is no such event", hint: "there is \(kinds)")
            }
            request.kinds.append(parts[1])
        // docker's word, too.
        case ("zone", 2), ("container", 2): request.zones.append(parts[1])
        default: throw ZoneError(.invalid, "--filter \"\(text)\" is not known", hint: "there is event=… and zone=…")
        }
    }

    /// `2026-11-21T15:04:05.123456789Z container die web (exitCode=1)`, as docker's.
    private static func text(_ event: ZoneEvent) -> String {
        let attributes = event.attributes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        let more = attributes.isEmpty ? "" : " (\(attributes.joined(separator: ", ")))"
        return Output.printable("\(event.time) \(event.type) \(event.event) \(event.zone)\(more)") + "\n"
    }
}
