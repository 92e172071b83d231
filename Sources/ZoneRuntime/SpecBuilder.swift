// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import Namespaces
import OCI

/// Makes the OCI configuration of a zone from its definition and its image.
struct SpecBuilder {
    let definition: ZoneDefinition
    let image: ImageConfiguration.Execution
    let volatile: String
    let persistent: String
    let cgroupsPath: String
    /// Gets warnings.
    var report: (String) -> Void = { _ in }

    func spec(windowSize: WindowSize?) throws(ZoneError) -> Spec {
        var spec = Spec()
        spec.process = try process(windowSize)
        spec.root = Spec.Root(path: "\(volatile)/rootfs", readonly: definition.isReadOnly)
        spec.hostname = hostname
        let machine = SystemZone.mounts(definition, persistent: persistent)
        spec.mounts = try mounts + LXCFS(report: report).mounts(for: definition.procView)
        spec.mounts += SpecBuilder.ordered(machine + networkFiles() + definition.mounts)
        spec.annotations = image.labels.merging(definition.labels) { $1 }
        var linux = Spec.Linux()
        linux.namespaces = DefaultProfile.namespaces.filter { $0.type != .network || definition.network == .none }
        linux.cgroupsPath = cgroupsPath
        linux.maskedPaths = DefaultProfile.maskedPaths
        linux.readonlyPaths = DefaultProfile.readonlyPaths
        linux.sysctl = definition.sysctls
        var resources = definition.resources
        resources.devices = DefaultProfile.deviceRules
        for request in definition.devices {
            let (device, rule) = try device(request)
            linux.devices.append(device)
            resources.devices.append(rule)
        }
        linux.resources = resources
        spec.linux = linux
        return spec
    }

    private var mounts: [Spec.Mount] {
        if !Rootless.isInside { return DefaultProfile.mounts }
        let groups = (try? UserNamespace.ranges("/proc/self/gid_map")) ?? []
        return DefaultProfile.mountsOfUsers(
            sharesNetwork: definition.network != .none,
            hasTerminalGroup: groups.contains { $0.inside <= 5 && 5 - $0.inside < $0.count })
    }

    private var hostname: String? {
        if let name = definition.hostname { return name }
        if definition.network != .host { return definition.name }
        // With the host's network goes the host's name, as docker does.
        guard let name = try? readHostFile("/proc/sys/kernel/hostname") else { return definition.name }
        return String(decoding: name.prefix { $0 != 0x0A }, as: UTF8.self)
    }

    private func process(_ windowSize: WindowSize?) throws(ZoneError) -> Spec.Process {
        var process = Spec.Process()
        process.terminal = definition.hasTerminal
        if definition.hasTerminal, let windowSize {
            process.consoleSize = Spec.ConsoleSize(height: windowSize.rows, width: windowSize.columns)
        }
        process.args = try definition.arguments(image)
        process.env = environment()
        let directory = definition.workingDirectory ?? image.workingDir ?? ""
        process.cwd = directory.isEmpty ? "/" : directory
        guard process.cwd.isAbsolutePath else {
            throw ZoneError(
                .invalid, "working directory \"\(process.cwd)\" is not an absolute path", hint: "it must begin with '/'"
            )
        }
        if let user = definition.user ?? image.user, !user.isEmpty { process.user.username = user }
        let names = try capabilities()
        process.capabilities = Spec.Capabilities()
        process.capabilities?.bounding = names
        process.capabilities?.effective = names
        process.capabilities?.permitted = names
        process.rlimits = definition.limits
        // Users of a machine's expect su and sudo.
        let isMachine = definition.initSystem != nil && !definition.forbidsNewPrivileges
        process.noNewPrivileges = !definition.allowsNewPrivileges && !isMachine
        return process
    }

    private func environment() -> [String] {
        var entries: [String] = []
        let name = { (entry: String) in entry.halves("=").0 }
        let defaults =
            [DefaultProfile.path, "HOSTNAME=\(hostname ?? "")"] + (definition.hasTerminal ? ["TERM=xterm"] : [])
        for entry in defaults + image.env + SystemZone.environment(definition) + definition.environment {
            if let index = entries.firstIndex(where: { name($0) == name(entry) }) {
                entries[index] = entry
            } else {
                entries.append(entry)
            }
        }
        return entries
    }

    private func capabilities() throws(ZoneError) -> [String] {
        var names = DefaultProfile.capabilities
        if definition.droppedCapabilities.contains("ALL") { names = [] }
        if definition.addedCapabilities.contains("ALL") {
            // Only what this machine has: giving more is refused by the kernel.
            let available = Capability.available
            names = (0..<64).filter { available >> UInt64($0) & 1 == 1 }.compactMap { Capability.name(of: $0) }
        }
        let dropped = definition.droppedCapabilities
        if SystemZone.mayReboot(definition), !names.contains("CAP_SYS_BOOT") { names.append("CAP_SYS_BOOT") }
        let added = definition.addedCapabilities.filter { $0 != "ALL" && !names.contains($0) }
        return names.filter { !dropped.contains($0) } + added
    }

    /// Outer before inner, else as given: a mount must not hide one below it.
    static func ordered(_ mounts: [Spec.Mount]) -> [Spec.Mount] {
        let depths = mounts.map { $0.destination.pathComponents.count }
        return mounts.indices.sorted { (depths[$0], $0) < (depths[$1], $1) }.map { mounts[$0] }
    }

    /// Files that tie names to addresses, kept on the disk outside the zone so that they can be changed while it runs.
    private func networkFiles() -> [Spec.Mount] {
        let taken = Set(definition.mounts.map(\.destination))
        // A folder of the user's in place of /etc is not to be littered with mount points.
        if taken.contains("/etc") { return [] }
        return NetworkFiles.names.filter { !taken.contains("/etc/\($0)") }.map { name in
            .init(
                destination: "/etc/\(name)", type: "bind", source: "\(persistent)/\(name)",
                options: ["bind", "nosuid", "nodev", "noexec"])
        }
    }

    private func device(_ request: ZoneDefinition.DeviceRequest) throws(ZoneError) -> (Spec.Device, Spec.DeviceRule) {
        let status: FileStatus
        do throws(SystemError) { status = try FileStatus.of(request.source) } catch {
            throw ZoneError("--device", error)
        }
        guard status.kind == .characterDevice || status.kind == .blockDevice else {
            throw ZoneError(.invalid, "--device \(request.source): not a device node")
        }
        let type = status.kind == .blockDevice ? "b" : "c"
        var device = Spec.Device(
            type: type, path: request.target, major: Int64(status.major), minor: Int64(status.minor),
            fileMode: status.mode & 0o777)
        device.uid = status.uid
        device.gid = status.gid
        let rule = Spec.DeviceRule(
            allow: true, type: type, major: device.major, minor: device.minor, access: request.access)
        return (device, rule)
    }
}

extension ZoneDefinition {
    /// What the zone executes. docker's rule: an entrypoint given by the user discards the image's command.
    func arguments(_ execution: ImageConfiguration.Execution) throws(ZoneError) -> [String] {
        let entrypoint = entrypoint.map { $0.isEmpty ? [] : [$0] } ?? execution.entrypoint ?? []
        let fallback = self.entrypoint == nil ? execution.cmd ?? [] : []
        let arguments = entrypoint + (command.isEmpty ? fallback : command)
        guard !arguments.isEmpty else {
            throw ZoneError(
                .invalid, "image \(image) names no command to run",
                hint: "give one: zonectl run \(image) COMMAND")
        }
        return arguments
    }
}

/// /etc/hostname, hosts and resolv.conf of a zone.
enum NetworkFiles {
    static let names = ["hostname", "hosts", "resolv.conf"]

    /// Writes the files into the zone's volatile folder. `gateways`: of the networks that it is in; `shared`: the folder of the
    /// zone whose network it shares.
    static func write(
        in volatile: borrowing Descriptor, hostname: String, _ definition: ZoneDefinition, gateways: [String],
        shared: String? = nil
    ) throws(SystemError) {
        try volatile.writeNew("hostname", hostname + "\n")
        let addresses = definition.networks.first?.addresses ?? []
        let own =
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            + (addresses.isEmpty ? ["127.0.1.1"] : addresses).map { "\($0)\t\(hostname)\n" }.joined()
        let added = definition.hosts.compactMap(ZoneDefinition.host).map { "\($0.address)\t\($0.name)\n" }.joined()
        let servers = definition.nameServers.map { "nameserver \($0)\n" }.joined()
        switch definition.network {
        case .none where !definition.networks.isEmpty:
            try volatile.writeNew("hosts", own + added)
            let domains = definition.networks.filter(\.isOfZones).map(\.name).joined(separator: " ")
            try volatile.writeNew(
                "resolv.conf",
                (domains.isEmpty ? "" : "search \(domains)\n")
                    + (servers.isEmpty ? gateways.map { "nameserver \($0)\n" }.joined() : servers))
        case .none:
            try volatile.writeNew("hosts", own + added)
            try volatile.writeNew("resolv.conf", servers.isEmpty ? "# this zone has no network\n" : servers)
        case .host:
            // The host's own answers; a host without these files has none to give.
            try volatile.writeNew("hosts", (text("/etc/hosts") ?? own) + added)
            try volatile.writeNew("resolv.conf", servers.isEmpty ? text("/etc/resolv.conf") ?? "" : servers)
        case .zone:
            // That zone's own, as they are now.
            guard let shared else { return }
            try volatile.writeNew("hosts", (text("\(shared)/hosts") ?? own) + added)
            try volatile.writeNew("resolv.conf", servers.isEmpty ? text("\(shared)/resolv.conf") ?? "" : servers)
        }
    }

    private static func text(_ path: String) -> String? {
        (try? readHostFile(path, limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
    }
}

extension Descriptor {
    /// Writes a small file that nobody reads before it is whole.
    fileprivate func writeNew(_ name: String, _ text: String) throws(SystemError) {
        let file = try open(name, [.writeOnly, .create, .truncate, .noFollow], mode: 0o644, resolve: .beneath)
        try file.writeAll(text, name)
    }
}
