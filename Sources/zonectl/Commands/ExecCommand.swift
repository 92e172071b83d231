// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl exec NAME COMMAND…`
enum ExecCommand {
    static let interactive = Option.flag("interactive", "i", "Keep stdin open and pass it on")
    static let terminal = Option.flag("tty", "t", "Give the process a terminal")
    static let environment = Option.list("env", "e", "NAME[=VALUE]", "Set an environment variable, or pass one on")
    static let environmentFile = Option.list("env-file", nil, "FILE", "Read environment variables from a file")
    static let workingDirectory = Option.value("workdir", "w", "DIR", "Working directory in the zone")
    static let user = Option.value("user", "u", "USER[:GROUP]", "User and group by name or number")

    static let command = Command(
        names: ["exec"], group: .run, operands: "NAME COMMAND [ARGUMENT…]",
        summary: "Execute a command in a running zone",
        details: "Terminal, stdin and exit status are as for 'zonectl run'.",
        examples: """
            zonectl exec web ls -l /www
            zonectl exec -it web sh
            # What comes down a pipe goes in
            tar -c . | zonectl exec -i web tar -x -C /tmp
            """,
        options: [interactive, terminal, environment, environmentFile, workingDirectory, user],
        endsOptionsAtOperand: true, entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        guard let zone = arguments.operands.first else { throw ZoneError(.invalid, "exec needs the name of a zone") }
        var request = ExecRequest()
        request.arguments = Array(arguments.operands.dropFirst())
        if request.arguments.isEmpty {
            throw ZoneError(.invalid, "exec needs a command", hint: "zonectl exec -it \(zone) sh")
        }
        request.environment = try OptionValue.environment(
            files: arguments.list(environmentFile), entries: arguments.list(environment))
        request.workingDirectory = arguments.value(workingDirectory)
        request.user = try arguments.value(user).map(OptionValue.user)
        (request.isInteractive, request.hasTerminal) = RunCommand.streams(arguments, interactive, terminal)
        return try ZoneExecutor(context.folders) { Output.report($0) }.exec(request, in: zone)
    }
}
