// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl shell NAME [COMMAND…]`
enum ShellCommand {
    static let user = Option.value("user", "u", "USER", "Who logs in, by name or number (default root)")

    static let command = Command(
        names: ["shell"], group: .run, operands: "NAME [COMMAND [ARGUMENT…]]",
        summary: "Log in to a running zone",
        details: """
            Starts the user's login shell, as the zone's own /etc/passwd has it, in the user's home. With words behind the
            name the shell executes them as one line, as ssh does: 'zonectl shell web "ls | wc -l"'. A zone with --max-users
            lets no more in than that; 'zonectl exec' works in zones without shells or users, too.
            """,
        options: [
            user, ExecCommand.interactive, ExecCommand.terminal, ExecCommand.environment, ExecCommand.environmentFile,
        ],
        endsOptionsAtOperand: true, entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        guard let zone = arguments.operands.first else {
            throw ZoneError(.invalid, "shell needs the name of a zone", hint: "'zonectl ls' lists all zones")
        }
        var request = LoginRequest()
        request.user = arguments.value(user)
        request.line = arguments.operands.dropFirst().joined(separator: " ")
        request.environment = try OptionValue.environment(
            files: arguments.list(ExecCommand.environmentFile), entries: arguments.list(ExecCommand.environment))
        (request.isInteractive, request.hasTerminal) = RunCommand.streams(
            arguments, ExecCommand.interactive, ExecCommand.terminal)
        // A shell without words to execute reads what it is to do.
        if request.line.isEmpty { request.isInteractive = true }
        return try ZoneLogin(context.folders) { Output.report($0) }.login(request, to: zone)
    }
}
