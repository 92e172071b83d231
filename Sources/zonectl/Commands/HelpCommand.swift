// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl help [VERB]`
enum HelpCommand {
    static let manual = Option.flag("man", nil, "Print the manual page, for man(1) or a package")
    static let names = Option.flag("list", nil, "Print the names of all verbs, one a line")

    static let command = Command(
        names: ["help"], group: .other, operands: "[VERB]", summary: "Show what zonectl or a verb can do",
        examples: """
            zonectl help run
            # The manual page, where it is not installed
            zonectl help --man run | man -l -
            """,
        options: [manual, names], needsRoot: false
    ) { (arguments, _) throws(ZoneError) in
        if arguments.flag(names) {
            try ListCommand.refuseOperands(arguments)
            try Output.write(CommandTable.shown.map { $0.name + "\n" }.joined())
            return 0
        }
        return arguments.flag(manual) ? try showManual(arguments.operands) : try show(arguments.operands)
    }

    private static func showManual(_ words: [String]) throws(ZoneError) -> Int32 {
        guard let word = words.first else {
            try Output.write(Manual.overview())
            return 0
        }
        if words == ["oci"] {
            try Output.write(Manual.engine())
            return 0
        }
        guard let (command, rest) = CommandTable.find(words[...]), rest.isEmpty, !command.isHidden else {
            throw CommandTable.unknown(word, next: words.dropFirst().first)
        }
        try Output.write(Manual.text(command))
        return 0
    }

    static func show(_ words: [String]) throws(ZoneError) -> Int32 {
        guard let word = words.first else {
            try Output.write(Help.overview())
            return 0
        }
        let family = CommandTable.family(word)
        if words.count == 1, !family.isEmpty {
            try Output.write(family.map { Help.text($0) }.joined(separator: "\n"))
            return 0
        }
        guard let (command, _) = CommandTable.find(words[...]) else {
            if word == "oci" || EngineVerbs.find(word) != nil {
                let verb = word == "oci" ? words.dropFirst().first : word
                try Output.write(verb.flatMap(EngineVerbs.find).map(EngineHelp.text) ?? EngineHelp.overview())
                return 0
            }
            throw CommandTable.unknown(word, next: words.dropFirst().first)
        }
        try Output.write(Help.text(command))
        return 0
    }
}
