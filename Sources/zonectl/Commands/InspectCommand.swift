// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import OCI
import ZoneRuntime

/// `zonectl inspect NAME…`
enum InspectCommand {
    static let asDefinition = Option.flag(
        "as-definition", nil, "Show only what the zones are, as 'zonectl apply' takes it")

    static let command = Command(
        names: ["inspect"], group: .look, operands: "NAME…", summary: "Show all that is known of zones, as JSON",
        options: [asDefinition], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let store = context.store
        if arguments.flag(asDefinition) { return try showDefinitions(arguments.operands, store) }
        let status = try forEach(arguments.operands) { (name) throws(ZoneError) in
            let entry = try store.find(name)
            var definition = try? store.definition(of: entry.name)
            // Which layers of its own are between is nobody's matter.
            if let known = definition ?? nil, known.base != nil { definition?.base = try? store.linkedBase(of: known) }
            var view = ZoneView(entry, store).detailed(
                configuration: try? store.configuration(of: entry.name),
                definition: definition,
                cgroups: entry.record?.cgroups.map(\.path) ?? [],
                // What cannot be read is for 'snapshot ls' to report.
                snapshots: (try? store.snapshots(of: entry.name)) ?? [])
            if let definition = definition ?? nil {
                if definition.machine == nil {
                    view.rootKind = store.rootKind(of: definition)
                } else if case .running = entry.state {
                    // One that does not answer is shown without.
                    view.machine = try? MachineVerbs(store.folders).status(of: entry.name)
                }
                view.imageUpdate = ZoneUpdates(store.folders).available(for: definition)?.digest.description
            }
            return view
        }
        try Output.json(status.results)
        return status.exitCode
    }

    private static func showDefinitions(_ names: [String], _ store: ZoneStore) throws(ZoneError) -> Int32 {
        let (definitions, status) = try forEach(names) { (name) throws(ZoneError) in
            let entry = try store.find(name)
            guard let definition = try store.definition(of: entry.name) else {
                throw ZoneError(
                    .unsupported,
                    "inspect: zone \(entry.name) has no definition: it is an engine's, or its making was interrupted")
            }
            return definition.asWritten
        }
        if let only = definitions.first, definitions.count == 1 {
            try Output.write(only.serialized(pretty: true))
        } else if !definitions.isEmpty {
            try Output.json(definitions)
        }
        return status
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
