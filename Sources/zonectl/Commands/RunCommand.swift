// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl run IMAGE [COMMAND…]`
enum RunCommand {
    static let interactive = Option.flag("interactive", "i", "Keep stdin open and pass it on")
    static let terminal = Option.flag("tty", "t", "Give the zone a terminal")
    static let remove = Option.flag("rm", nil, "Remove the zone when it ends")
    static let name = Option.value("name", nil, "NAME", "Name of the zone (made up if not given)")
    static let hostname = Option.value("hostname", "h", "NAME", "Host name (default: the zone's name)")
    static let environment = Option.list("env", "e", "NAME[=VALUE]", "Set an environment variable, or pass one on")
    static let environmentFile = Option.list("env-file", nil, "FILE", "Read environment variables from a file")
    static let workingDirectory = Option.value("workdir", "w", "DIR", "Working directory in the zone")
    static let user = Option.value("user", "u", "USER[:GROUP]", "User and group by name or number")
    static let volume = Option.list(
        "volume", "v", "SOURCE:TARGET[:OPTIONS]", "Mount a file or folder of the host's, or a volume")
    static let mount = Option.list(
        "mount", nil, "type=bind|volume|tmpfs,…", "Mount with src=, dst=, readonly, tmpfs-size=, tmpfs-mode=")
    static let tmpfs = Option.list("tmpfs", nil, "TARGET[:OPTIONS]", "Mount a tmpfs")
    static let readOnly = Option.flag("read-only", nil, "Make the root file system read-only")
    static let addCapability = Option.list("cap-add", nil, "CAPABILITY", "Add a capability, or ALL")
    static let dropCapability = Option.list("cap-drop", nil, "CAPABILITY", "Drop a capability, or ALL")
    static let security = Option.list(
        "security-opt", nil, "OPTION", "seccomp=unconfined, seccomp=FILE or no-new-privileges=false")
    static let limit = Option.list("ulimit", nil, "NAME=SOFT[:HARD]", "Resource limit, such as nofile=1024:4096")
    static let sysctl = Option.list("sysctl", nil, "NAME=VALUE", "Kernel parameter of the zone's namespaces")
    static let device = Option.list("device", nil, "SOURCE[:TARGET[:rwm]]", "Give the zone a device of the host's")
    static let usesInit = Option.flag("init", nil, "Run a small init that reaps processes and passes signals on")
    static let entrypoint = Option.value("entrypoint", nil, "PROGRAM", "Replace the image's entrypoint")
    static let label = Option.list("label", "l", "NAME=VALUE", "Note something on the zone")
    static let logDriver = Option.value(
        "log-driver", nil, "file|none", "Where what a zone in the background writes is kept")
    static let logOption = Option.list("log-opt", nil, "NAME=VALUE", "max-size=10m, max-file=3 of the log's files")

    static let storage = Option.value(
        "storage", nil, "SIZE", "How much the zone's own files may take, such as 2G (0: any)")

    static let proc = Option.value(
        "proc", nil, "auto|zone|host", "Whose memory and CPUs /proc shows (auto: the zone's where LXCFS is mounted)")

    static let detach = Option.flag("detach", "d", "Run the zone in the background and print its name")

    /// What makes a zone, for all verbs that do.
    static let definitionOptions: [Option] =
        [
            interactive, terminal, remove, name, hostname, environment, environmentFile, workingDirectory, user, volume,
            mount, tmpfs, readOnly, addCapability, dropCapability, security, limit, sysctl, device, usesInit,
            entrypoint, label, logDriver, logOption, proc, storage,
        ] + NetworkOptions.forRun + ResourceOptions.all + SupervisionOptions.all + SystemOptions.all
        + PullOptions.forRun + MachineOptions.all

    static let command = Command(
        names: ["run"], group: .run, operands: "IMAGE [COMMAND [ARGUMENT…]]",
        summary: "Make a zone from an image and run it, in the foreground or the background",
        details: """
            At a terminal, without -i and -t, both are implied; elsewhere the zone's stdin is empty unless -i is given.
            The exit status is the command's own, 128+n when signal n killed it, 127 when it was not found, 126 when it
            could not be executed, and 125 when zonectl failed. With -d it is 0 once the command runs; 'zonectl wait'
            tells how it ended, 'zonectl logs' what it said.

            A SOURCE of -v that is no path but a name is a volume ('zonectl volume'), which is made if there is none, and
            filled with what the image has at TARGET unless :nocopy is given. TARGET alone is a volume of the zone's own, which
            goes with a zone that is removed with its end (--rm).

            A zone is in the network zone0 where nothing else is said: it reaches the other zones of that by their names, and
            everything else through the host, and nothing reaches it but what is published (-p). An ordinary user's zones have
            no network.
            """,
        examples: """
            # A shell in a zone of which nothing is left
            zonectl run -it --rm busybox
            # From a registry; what is not there yet is pulled
            zonectl run --rm docker.io/library/alpine cat /etc/alpine-release
            # Its data outlives the zone
            zonectl run -d --name db -v data:/var/lib/db postgres
            # An image for another processor, by qemu-user where that is installed, else in a virtual machine (--vm)
            zonectl run --rm --arch arm64 docker.io/library/alpine uname -m
            # A web server at http://localhost:8080, with a folder of the host's and limits
            zonectl run -d --name web --restart always -p 8080:80 -v /srv/www:/www:ro -m 256M busybox httpd -f -h /www
            """,
        options: [detach, MachineOptions.dryRun] + definitionOptions, endsOptionsAtOperand: true, entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        var definition = try definition(arguments)
        if arguments.flag(MachineOptions.dryRun) {
            try Output.write(try MachinePreview.text(definition))
            return 0
        }
        do throws(ZoneError) {
            if arguments.flag(detach) {
                // Nobody is at the terminal.
                (definition.isInteractive, definition.hasTerminal) = (
                    arguments.flag(interactive), arguments.flag(terminal)
                )
                let zone = try PullOptions.providing(
                    definition.image, arguments, context, for: definition
                ) { () throws(ZoneError) in
                    try ZoneLifecycle(context.folders, report: Output.report).run(
                        definition, name: arguments.value(name))
                }
                try Output.write(zone + "\n")
                return 0
            }
            try SupervisionOptions.refuse(arguments)
            return try PullOptions.providing(
                definition.image, arguments, context, for: definition
            ) { () throws(ZoneError) in
                try ZoneRunner(context.folders) { Output.report($0) }.run(definition, name: arguments.value(name))
            }
        } catch {
            throw error.code == .notFound ? hinted(error, definition.image) : error
        }
    }

    /// `run NAME` in a bundle's folder may mean either: who types runc's words is told ours.
    static func hinted(_ error: ZoneError, _ image: String) -> ZoneError {
        guard (try? FileStatus.of("config.json")) != nil else { return error }
        return ZoneError(
            error.code, "\(error.detail): \"\(image)\" is read as an image's name",
            hint: "to run the bundle in this folder as \"\(image)\": zonectl run --bundle . \(image)")
    }

    /// Makes the definition that the words describe.
    static func definition(_ arguments: Arguments) throws(ZoneError) -> ZoneDefinition {
        guard let image = arguments.operands.first else {
            throw ZoneError(.invalid, "the name of an image is missing", hint: "'zonectl image ls' lists images")
        }
        var definition = ZoneDefinition()
        definition.image = image
        definition.command = Array(arguments.operands.dropFirst())
        definition.entrypoint = arguments.value(entrypoint)
        definition.hostname = try arguments.value(hostname).map(OptionValue.hostname)
        definition.environment = try OptionValue.environment(
            files: arguments.list(environmentFile), entries: arguments.list(environment))
        definition.workingDirectory = arguments.value(workingDirectory)
        definition.user = try arguments.value(user).map(OptionValue.user)
        (definition.isInteractive, definition.hasTerminal) = streams(arguments, interactive, terminal)
        definition.autoRemove = arguments.flag(remove)
        definition.runsInit = arguments.flag(usesInit)
        definition.isReadOnly = arguments.flag(readOnly)
        for text in arguments.list(volume) { definition.mounts.append(try MountValue.volume(text)) }
        for text in arguments.list(mount) { definition.mounts.append(try MountValue.mount(text)) }
        for text in arguments.list(tmpfs) { definition.mounts.append(try MountValue.tmpfs(text)) }
        definition.devices = try mapping(arguments.list(device), OptionValue.device)
        try NetworkOptions.apply(arguments, to: &definition)
        definition.resources = try ResourceOptions.change(arguments).applied(to: definition.resources)
        if let text = arguments.value(proc) { definition.procView = try OptionValue.proc(text) }
        if let text = arguments.value(storage) { definition.storage = try size(text, "--storage").positive }
        definition.addedCapabilities = try mapping(arguments.list(addCapability)) { (text) throws(ZoneError) in
            try OptionValue.capability(text, "--cap-add")
        }
        definition.droppedCapabilities = try mapping(arguments.list(dropCapability)) { (text) throws(ZoneError) in
            try OptionValue.capability(text, "--cap-drop")
        }
        for text in arguments.list(security) { try OptionValue.applySecurity(text, to: &definition) }
        definition.limits = try mapping(arguments.list(limit), OptionValue.limit)
        for text in arguments.list(sysctl) {
            let (key, value) = try OptionValue.sysctl(text, network: definition.network)
            definition.sysctls[key] = value
        }
        definition.labels = try labels(arguments)
        try SupervisionOptions.apply(arguments, to: &definition)
        definition.log = try OptionValue.log(driver: arguments.value(logDriver), options: arguments.list(logOption))
        try SystemOptions.apply(arguments, to: &definition)
        try MachineOptions.apply(arguments, to: &definition)
        return definition
    }

    /// Whether stdin is passed on and whether there is a terminal: as told, or as fits where zonectl was started.
    static func streams(_ arguments: Arguments, _ interactive: Option, _ terminal: Option) -> (Bool, Bool) {
        if arguments.value(interactive) == nil && arguments.value(terminal) == nil {
            let atTerminal = Terminal.isTerminal(0) && Terminal.isTerminal(1)
            return (atTerminal, atTerminal)
        }
        return (arguments.flag(interactive), arguments.flag(terminal))
    }

    /// The bytes of a size, 0 for any.
    static func size(_ text: String, _ option: String) throws(ZoneError) -> Int64 {
        guard let bytes = ByteSize.parse(text) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a size",
                hint: "give a number with k, M, G or T, such as 2G, or 0 for no limit")
        }
        return bytes
    }

    /// The labels of `--label NAME=VALUE`.
    static func labels(_ arguments: Arguments) throws(ZoneError) -> [String: String] {
        var labels: [String: String] = [:]
        for text in arguments.list(label) {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let key = parts.first, !key.isEmpty else {
                throw ZoneError(.invalid, "--label \"\(text)\" has no name")
            }
            labels[String(key)] = parts.count == 2 ? String(parts[1]) : ""
        }
        return labels
    }

    private static func mapping<Value>(
        _ texts: [String],
        _ parse: (String) throws(ZoneError) -> Value
    ) throws(ZoneError) -> [Value] {
        var values: [Value] = []
        for text in texts { values.append(try parse(text)) }
        return values
    }
}

extension Int64 {
    /// `nil` for 0, where that means that nothing is asked for.
    var positive: Int64? { self == 0 ? nil : self }
}
