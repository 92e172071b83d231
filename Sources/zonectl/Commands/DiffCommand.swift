// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl diff NAME`
enum DiffCommand {
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["diff"], group: .look, operands: "NAME",
        summary: "Show what a zone has changed in the files of its image",
        details: "A was added, C was changed, D was deleted. What is mounted into the zone is not looked at.",
        options: [json]
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "diff takes the name of one zone", hint: "'zonectl ls' lists all zones")
        }
        let changes = try ZoneDiff(context.folders).changes(of: name)
        if arguments.flag(json) {
            try Output.json(changes)
        } else {
            try Output.write(changes.map { "\($0.change.letter) \(Output.printable($0.path))\n" }.joined())
        }
        return 0
    }
}
