// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Help texts, made from the tables of commands.
enum Help {
    static func overview() -> String {
        var text = """
            zonectl runs isolated machines from images: zones.

            Usage: zonectl [--root DIR] [--store DIR] VERB [OPTIONS] …

            """
        for group in Command.Group.allCases {
            text += "\n\(group.rawValue):\n"
            text += columns(CommandTable.shown.filter { $0.group == group }.map { ($0.name, $0.summary) })
        }
        text += "\nOptions:\n" + options(GlobalOption.all)
        text += "\n'zonectl help VERB' tells more about a verb. Start with: zonectl run busybox\n"
        text += "zonectl is an OCI runtime, too: 'zonectl oci help' lists what engines call.\n"
        return text
    }

    static func text(_ command: Command) -> String {
        let operands = command.operands.isEmpty ? "" : " \(command.operands)"
        var text = "Usage: zonectl \(command.name)\(command.options.isEmpty ? "" : " [OPTIONS]")\(operands)\n\n"
        text += command.summary + ".\n"
        if !command.details.isEmpty { text += "\n\(command.details)\n" }
        let others = command.names.dropFirst()
        if !others.isEmpty { text += "\nAlso called: \(others.joined(separator: ", "))\n" }
        text += "\nOptions:\n" + options(command.options + [GlobalOption.help])
        if !command.examples.isEmpty {
            let lines = command.examples.split(separator: "\n", omittingEmptySubsequences: false)
            text += "\nExamples:\n" + lines.map { $0.isEmpty ? "\n" : "  \($0)\n" }.joined()
        }
        return text
    }

    static func options(_ options: [Option]) -> String {
        columns(
            options.map { option in
                let short = option.short.map { "-\($0), " } ?? "    "
                let value =
                    switch option.kind {
                    case .flag: ""
                    case .value(let valueName): " \(valueName)"
                    case .optional(let valueName, _): "[=\(valueName)]"
                    }
                return ("\(short)--\(option.name)\(value)", option.help + (option.repeats ? " (may be repeated)" : ""))
            })
    }

    static func columns(_ rows: [(String, String)]) -> String {
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { "  \($0)\(String(repeating: " ", count: width - $0.count))   \($1)\n" }.joined()
    }
}
