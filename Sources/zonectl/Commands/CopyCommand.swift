// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl cp ZONE:PATH PATH`, `zonectl cp PATH ZONE:PATH`, `zonectl cp ZONE:PATH ZONE:PATH`
enum CopyCommand {
    static let archive = Option.flag("archive", "a", "Keep owners, set-id bits, file capabilities and device nodes")
    static let followsLink = Option.flag("follow-link", "L", "Copy what a symbolic link leads to, not the link")
    static let quiet = Option.flag("quiet", "q", "Do not tell what was left out")

    static let command = Command(
        names: ["cp"], group: .run, operands: "[ZONE:]PATH [ZONE:]PATH",
        summary: "Copy files between a zone and the host, or two zones",
        details: """
            A directory is copied into the target if that is a directory, and under the target's name if there is nothing yet;
            PATH/. means what is in it. A lone - stands for a tar archive from stdin or to stdout, whose owners are kept.
            Copies belong to root in a zone, and to the caller on the host. A path of the host's with a colon in it begins
            with / or ./ . The zone may be running or stopped.
            """,
        examples: """
            zonectl cp index.html web:/www/
            zonectl cp web:/var/log/. logs
            # From one zone to another
            zonectl cp web:/etc/passwd database:/tmp
            """,
        options: [archive, followsLink, quiet]
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 2 else {
            throw ZoneError(.invalid, "cp takes a source and a target", hint: "zonectl cp web:/etc/hosts .")
        }
        let isQuiet = arguments.flag(quiet)
        var copy = ZoneCopy(context.folders) { if !isQuiet { Output.report($0) } }
        copy.keepsOwners = arguments.flag(archive)
        copy.followsLink = arguments.flag(followsLink)
        try copy.copy(from: end(arguments.operands[0]), to: end(arguments.operands[1]))
        return 0
    }

    /// What an operand means, as docker reads it: what begins with a slash or a dot is the host's, colon or not.
    static func end(_ word: String) -> ZoneCopy.End {
        if word == "-" { return .stream }
        let (name, path) = word.halves(":")
        guard let path, !word.hasPrefix("/"), !word.hasPrefix("."), !name.isEmpty, !name.contains("/") else {
            return .host(word)
        }
        return .zone(name, path: path)
    }

    /// The zone of a command line; `nil` where there is none.
    static func zone(_ arguments: Arguments) -> String? {
        for word in arguments.operands { if case .zone(let name, _) = end(word) { return name } }
        return nil
    }
}
