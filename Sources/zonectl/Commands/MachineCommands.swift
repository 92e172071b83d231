// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl` as the first process of a machine.
enum MachineCommand {
    static let monitorVerb = MachineMonitor.verb

    static func monitor(_ words: ArraySlice<String>) -> Int32 {
        guard let number = words.first.flatMap({ Int32($0) }), number > 2 else { return 125 }
        return MachineMonitor.main(descriptor: number)
    }
}

/// `zonectl screenshot NAME FILE`
enum ScreenshotCommand {
    static let command = Command(
        names: ["screenshot"], group: .look, operands: "NAME FILE",
        summary: "Write what is on a machine's screen to a file, as PNG", details: "The FILE - is stdout.", options: []
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 2 else {
            throw ZoneError(.invalid, "screenshot needs the name of a zone and of a file")
        }
        try MachineVerbs(context.folders).screenshot(of: arguments.operands[0], to: arguments.operands[1])
        return 0
    }
}

/// `zonectl sendkey NAME KEYS…`
enum SendKeyCommand {
    static let text = Option.flag("text", nil, "Type the words, on a keyboard of the United States")

    static let command = Command(
        names: ["sendkey"], group: .run, operands: "NAME KEYS…", summary: "Press keys on a machine's keyboard",
        examples: """
            zonectl sendkey win ctrl-alt-delete
            zonectl sendkey --text win 'hello' && zonectl sendkey win ret
            """,
        options: [text]
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count > 1 else {
            throw ZoneError(
                .invalid, "sendkey needs the name of a zone and keys", hint: "such as ctrl-alt-delete, ret, f1")
        }
        try MachineVerbs(context.folders).sendKeys(
            Array(arguments.operands.dropFirst()), types: arguments.flag(text), to: arguments.operands[0])
        return 0
    }
}

/// `zonectl reset NAME`
enum ResetCommand {
    static let command = Command(
        names: ["reset"], group: .run, operands: "NAME…", summary: "Press a machine's reset button",
        details: "What it has not written is lost. 'zonectl restart' asks it to end first.", options: []
    ) { (arguments, context) throws(ZoneError) in
        if arguments.operands.isEmpty { throw ZoneError(.invalid, "reset needs the name of a zone") }
        for name in arguments.operands { try MachineVerbs(context.folders).reset(name) }
        return 0
    }
}
