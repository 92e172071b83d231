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
        let views = try store.list().filter(isWanted).map { ZoneView($0, store) }
        if arguments.flag(json) {
            try Output.json(views)
        } else if arguments.flag(quiet) {
            try Output.write(views.map { $0.name + "\n" }.joined())
        } else {
            try Output.table(
                ["NAME", "STATUS", "PID", "IMAGE", "CREATED", "COMMAND"],
                views.map { view in
                    [
                        view.name, view.statusText, view.pid == 0 ? "-" : String(view.pid), view.image,
                        view.created.seconds.map { Age.text(since: $0) } ?? "-",
                        view.command.joined(separator: " ").shortened(to: 40),
                    ]
                })
        }
        return 0
    }

    /// For verbs that take no operands.
    static func refuseOperands(_ arguments: Arguments) throws(ZoneError) {
        if let word = arguments.operands.first { throw ZoneError(.invalid, "\"\(word)\" is one word too many") }
    }
}
