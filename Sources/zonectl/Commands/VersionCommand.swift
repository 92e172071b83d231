// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl version`
enum VersionCommand {
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["version"], group: .other, operands: "", summary: "Show the version",
        options: [json], needsRoot: false
    ) { (arguments, _) throws(ZoneError) in
        if arguments.flag(json) {
            var writer = JSONWriter(pretty: true)
            ["version": Version.number, "commit": Version.commit, "spec": Spec.version].write(to: &writer)
            writer.endText()
            try Output.write(writer.bytes)
        } else {
            // Exactly three lines of this form: engines parse them.
            try Output.write("zonectl version \(Version.number)\ncommit: \(Version.commit)\nspec: \(Spec.version)\n")
        }
        return 0
    }
}
