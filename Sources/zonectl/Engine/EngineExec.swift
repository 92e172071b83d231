// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `exec ID COMMAND…`, or `exec --process FILE ID`.
enum EngineExec {
    private static let process = Option.value(
        "process", "p", "FILE", "Read the process from a file (config.json's form)")
    static let interactive = Option.flag("interactive", "i", "Accepted; stdin is always passed on")
    private static let directory = Option.value("cwd", nil, "DIR", "Working directory")
    private static let environment = Option.list("env", "e", "NAME=VALUE", "Set an environment variable")
    private static let terminal = Option.flag("tty", "t", "Give the process a terminal")
    private static let user = Option.value("user", "u", "UID[:GID]", "User and group")
    private static let groups = Option.list("additional-gids", "g", "GID", "Further groups")
    private static let label = Option.value("process-label", nil, "LABEL", "SELinux label")
    private static let apparmor = Option.value("apparmor", nil, "PROFILE", "AppArmor profile")
    private static let noNewPrivileges = Option.flag("no-new-privs", nil, "Set no_new_privs")
    private static let capability = Option.list("cap", "c", "CAPABILITY", "Add a capability")
    private static let cgroup = Option.value("cgroup", nil, "PATH", "A control group below the container's")
    private static let ignorePaused = Option.flag("ignore-paused", nil, "Add it to a paused container too")

    static let verb = EngineVerb(
        name: "exec", operands: "ID COMMAND [ARGUMENT…]", summary: "Execute a program in a running container",
        options: [
            process, interactive, directory, environment, terminal, user, groups, label, apparmor, noNewPrivileges,
            capability,
            cgroup, ignorePaused, EngineOption.consoleSocket, EngineOption.pidfdSocket, EngineOption.pidFile,
            EngineOption.preserve, EngineOption.detach, EngineOption.noSubreaper,
        ],
        endsOptionsAtOperand: true, entersZone: true, failure: 255
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.exec(try request(arguments))
    }

    static func request(_ arguments: Arguments) throws(ZoneError) -> BundleExec {
        guard let id = arguments.operands.first else { throw ZoneError(.invalid, "exec: a container ID is wanted") }
        var request = BundleExec()
        request.id = id
        request.arguments = Array(arguments.operands.dropFirst())
        // `exec ID -- COMMAND` too.
        if request.arguments.first == "--" { request.arguments.removeFirst() }
        request.processFile = arguments.value(process)
        request.environment = arguments.list(environment)
        request.workingDirectory = arguments.value(directory)
        request.user = arguments.value(user)
        for text in arguments.list(groups) {
            guard let group = UInt32(text), group != .max else {
                throw ZoneError(.invalid, "--additional-gids \"\(text)\" is not a number from 0 to 4294967294")
            }
            request.additionalGroups.append(group)
        }
        request.hasTerminal = arguments.flag(terminal)
        if arguments.value(noNewPrivileges) != nil { request.noNewPrivileges = arguments.flag(noNewPrivileges) }
        request.capabilities = arguments.list(capability)
        request.apparmorProfile = arguments.value(apparmor)
        request.selinuxLabel = arguments.value(label)
        request.cgroup = arguments.value(cgroup)
        request.isDetached = arguments.flag(EngineOption.detach)
        request.ignoresPause = arguments.flag(ignorePaused)
        request.pidFile = arguments.value(EngineOption.pidFile)
        request.consoleSocket = arguments.value(EngineOption.consoleSocket)
        request.pidfdSocket = arguments.value(EngineOption.pidfdSocket)
        request.preservedDescriptors = try EngineOption.number(
            arguments.value(EngineOption.preserve), EngineOption.preserve)
        return request
    }
}
