// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl ps`
enum PsCommand {
    static let all = Option.flag("all", "a", "Also zones that do not run")

    static let command = Command(
        names: ["ps"], group: .look, operands: "", summary: "List the zones that run",
        details: "'zonectl ps ID' shows the processes of a container, as engines call it.",
        options: [all, ListCommand.quiet, ListCommand.json],
        // What follows is an engine's.
        endsOptionsAtOperand: true, needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.show(arguments, context) { arguments.flag(all) || $0.state.process != nil }
    }
}
