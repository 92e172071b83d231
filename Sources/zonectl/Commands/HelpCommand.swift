// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl help [VERB]`
enum HelpCommand {
    static let command = Command(
        names: ["help"], group: .other, operands: "[VERB]", summary: "Show what zonectl or a verb can do",
        options: [], needsRoot: false
    ) { (arguments, _) throws(ZoneError) in
        try show(arguments.operands)
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
