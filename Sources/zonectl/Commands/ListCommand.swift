// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import OCI
import ZoneRuntime

/// `zonectl ls`
enum ListCommand {
    static let quiet = Option.flag("quiet", "q", "Print names only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["ls", "list"], group: .look, operands: "", summary: "List all zones, stopped ones too",
        options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        if arguments.flag(quiet), !arguments.flag(json) {
            try refuseOperands(arguments)
            try Output.write(try context.store.names().map { $0 + "\n" }.joined())
            return 0
        }
        return try show(arguments, context) { _ in true }
    }

    /// Lists the zones that are wanted.
    static func show(
        _ arguments: Arguments, _ context: Context, _ isWanted: (ZoneStore.Entry) -> Bool
    ) throws(ZoneError) -> Int32 {
        try refuseOperands(arguments)
        let store = context.store
        let found = try store.summaries()
        if arguments.flag(json) {
            try Output.json(found.filter(isWanted).map { ZoneView($0, store) })
        } else if arguments.flag(quiet) {
            try Output.write(found.filter(isWanted).map { $0.name + "\n" }.joined())
        } else {
            var rows: [[String]] = []
            rows.reserveCapacity(found.count)
            // A view has room for a whole configuration: a thousand at once are megabytes to be mapped.
            for entry in found where isWanted(entry) { rows.append(row(ZoneView(entry, store))) }
            // Where no zone publishes any, there is nothing to show.
            let titles = ["NAME", "STATUS", "PID", "IMAGE", "CREATED", "COMMAND", "PORTS"]
            let hasPorts = rows.contains { $0[6] != "-" }
            try Output.table(hasPorts ? titles : Array(titles.dropLast()), hasPorts ? rows : rows.map { $0.dropLast() })
        }
        return 0
    }

    private static func row(_ view: ZoneView) -> [String] {
        [
            view.name, view.statusText, view.pid == 0 ? "-" : String(view.pid), view.image,
            view.created.seconds.map { Age.text(since: $0) } ?? "-",
            view.command.joined(separator: " ").shortened(to: 40),
            view.ports.isEmpty ? "-" : view.ports.joined(separator: ", "),
        ]
    }

    /// For verbs that take no operands.
    static func refuseOperands(_ arguments: Arguments) throws(ZoneError) {
        if let word = arguments.operands.first { throw ZoneError(.invalid, "\"\(word)\" is one word too many") }
    }
}
