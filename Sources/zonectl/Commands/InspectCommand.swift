// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl inspect NAME…`
enum InspectCommand {
    static let command = Command(
        names: ["inspect"], group: .look, operands: "NAME…", summary: "Show all that is known of zones, as JSON",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let store = context.store
        let status = try forEach(arguments.operands) { (name) throws(ZoneError) in
            let entry = try store.find(name)
            return try ZoneView(entry, context.folders).detailed(
                configuration: try? store.configuration(of: entry.name),
                definition: try? store.definition(of: entry.name),
                cgroups: entry.record?.cgroups.map(\.path) ?? [])
        }
        try Output.json(status.results)
        return status.exitCode
    }

    /// Does something with each name; errors are reported and the rest goes on.
    static func forEach<Result>(
        _ names: [String],
        _ body: (String) throws(ZoneError) -> Result
    ) throws(ZoneError) -> (results: [Result], exitCode: Int32) {
        if names.isEmpty { throw ZoneError(.invalid, "give the name of a zone", hint: "'zonectl ls' lists all zones") }
        var results: [Result] = []
        var exitCode: Int32 = 0
        for name in names {
            do throws(ZoneError) { results.append(try body(name)) } catch {
                Output.report(error)
                exitCode = error.exitCode
            }
        }
        return (results, exitCode)
    }
}
