// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// What is wrong with a definition, and where: for files, whose line it is told with.
public struct DefinitionFault: Error, Sendable {
    public let path: [JSONStep]
    public let detail: String
    public let hint: String?

    public init(_ path: [JSONStep], _ detail: String, hint: String? = nil) {
        self.path = path
        self.detail = detail
        self.hint = hint
    }

    init(_ name: String, _ detail: String, hint: String? = nil) {
        self.init([.name(name)], detail, hint: hint)
    }
}

extension ZoneDefinition {
    /// The same without what zonectl notes itself: as a person writes it, `inspect --as-definition` prints it and `apply`
    /// reads it.
    public var asWritten: ZoneDefinition {
        var copy = self
        copy.imageDigest = nil
        copy.base = nil
        copy.created = nil
        copy.initSystem = nil
        copy.machineID = nil
        copy.storageKind = nil
        copy.storageProject = nil
        copy.machine?.uuid = ""
        copy.machine?.user = 0
        copy.networks = networks.map(\.asWritten)
        copy.forgetAnonymousVolumes()
        return copy
    }

    /// Members that are not written by people.
    public static let madeMembers = [
        "imageDigest", "base", "created", "initSystem", "machineID", "storageKind", "storageProject",
    ]

    /// Makes sure of what the types alone do not say: values that make sense, and sense together.
    public func verify() throws(DefinitionFault) {
        try verifyValues()
        try verifyLists()
        try verifyLimits()
        if autoRemove, restart != .never {
            throw DefinitionFault(
                "restart", "\"autoRemove\" and \"restart\": \"\(restart.text)\" contradict each other",
                hint: "a zone that is removed with its end cannot be started again")
        }
        guard let health else { return }
        if health.command.isEmpty {
            var off = HealthPolicy()
            off.command = []
            if health != off {
                throw DefinitionFault(
                    [.name("health")], "an empty \"command\" means no checks, and contradicts the other keys")
            }
        }
        for (name, value, least) in [
            ("interval", health.interval, Int64(1)), ("timeout", health.timeout, 1), ("retries", health.retries, 1),
            ("startPeriod", health.startPeriod, 0),
        ] where value < least {
            throw DefinitionFault([.name("health"), .name(name)], "\(value) is less than \(least)")
        }
    }

    private func verifyValues() throws(DefinitionFault) {
        try verifyNetworks()
        guard ZoneName.isValid(name) else {
            throw DefinitionFault(
                "name", "\"\(name)\" is not a name for a zone",
                hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
        }
        guard ["container", "vm"].contains(type) else {
            throw DefinitionFault("type", "\"\(type)\" is not a type of zone", hint: "there are container and vm")
        }
        if (type == "vm") != (machine != nil) {
            throw DefinitionFault(
                "type", "a zone of the type vm has 'machine', and no other has", hint: "machine: {kind: micro}")
        }
        if image.isEmpty { throw DefinitionFault("image", "is empty", hint: "'zonectl image ls' lists images") }
        if let user {
            do throws(ZoneError) { try ZoneDefinition.validateUser(user) } catch {
                throw DefinitionFault([.name("user")], error.detail, hint: error.hint)
            }
        }
        if let workingDirectory, !workingDirectory.isAbsolutePath {
            throw DefinitionFault("workingDirectory", "\"\(workingDirectory)\" is not an absolute path")
        }
        if let stopSignal, SignalName.number(of: stopSignal) == nil {
            throw DefinitionFault(
                "stopSignal", "\"\(stopSignal)\" is not a signal", hint: "a name such as TERM or a number from 1 to 64")
        }
        if let storage { try StorageLimit.verify(storage) }
        if let stopTimeout, !(0...86_400).contains(stopTimeout) {
            throw DefinitionFault("stopTimeout", "\(stopTimeout) is not a number of seconds from 0 to 86400")
        }
        if let seccompProfile, seccompProfile != "unconfined", !seccompProfile.isAbsolutePath {
            throw DefinitionFault("seccompProfile", "\"\(seccompProfile)\" is neither unconfined nor an absolute path")
        }
    }

    private func verifyLists() throws(DefinitionFault) {
        for (index, entry) in environment.enumerated()
        where (entry.utf8.firstIndex(of: UInt8(ascii: "=")) ?? entry.utf8.startIndex) == entry.utf8.startIndex {
            throw DefinitionFault(
                [.name("environment"), .index(index)], "\"\(entry)\" is not an environment variable: NAME=VALUE")
        }
        for (index, mount) in mounts.enumerated() {
            let place: [JSONStep] = [.name("mounts"), .index(index)]
            do throws(ZoneError) { _ = try ZoneDefinition.mountTarget(mount.destination, "mount") } catch {
                throw DefinitionFault(place, error.detail, hint: error.hint)
            }
            switch mount.type {
            case "tmpfs": break
            case Spec.Mount.volumeType: try verifyVolume(mount, place)
            case "bind":
                guard mount.source?.isAbsolutePath == true else {
                    throw DefinitionFault(place, "a bind mount needs an absolute \"source\"")
                }
            default:
                throw DefinitionFault(
                    place, "type \"\(mount.type ?? "")\" is not a type of mount",
                    hint: "there is bind, volume and tmpfs")
            }
        }
        for (index, device) in devices.enumerated()
        where !device.source.isAbsolutePath || !device.target.isAbsolutePath || device.access.isEmpty
            || !device.access.utf8.allSatisfy("rwm".utf8.contains)
        {
            throw DefinitionFault(
                [.name("devices"), .index(index)],
                "\"\(device.source)\" is not a device, its path in the zone, and of rwm")
        }
        for (name, list) in [("addedCapabilities", addedCapabilities), ("droppedCapabilities", droppedCapabilities)] {
            for (index, capability) in list.enumerated()
            where capability != "ALL" && ZoneDefinition.capabilityName(capability) != capability {
                throw DefinitionFault(
                    [.name(name), .index(index)], "\"\(capability)\" is not a capability",
                    hint: "capabilities(7) lists them; ALL means every one")
            }
        }
        for name in sysctls.keys.sorted() {
            do throws(ZoneError) { try ZoneDefinition.validateSysctl(name, network: network) } catch {
                throw DefinitionFault([.name("sysctls"), .name(name)], error.detail, hint: error.hint)
            }
        }
    }

    private func verifyVolume(_ mount: Spec.Mount, _ place: [JSONStep]) throws(DefinitionFault) {
        if let name = mount.volumeName, !ZoneName.isValid(name) {
            throw DefinitionFault(
                place, "\"\(name)\" is not a name for a volume",
                hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
        }
        if let option = mount.options.first(where: { !VolumeOption.all.contains($0) }) {
            throw DefinitionFault(
                place, "unknown option \"\(option)\" of a volume",
                hint: "there is \(VolumeOption.all.dropFirst().joined(separator: ", "))")
        }
    }

    private func verifyLimits() throws(DefinitionFault) {
        for (index, limit) in limits.enumerated() {
            let place: [JSONStep] = [.name("limits"), .index(index)]
            guard let short = limit.type.after("RLIMIT_"), ResourceLimits.shortNames.contains(short.lowercased()) else {
                throw DefinitionFault(place, "\"\(limit.type)\" is not a resource limit", hint: "such as RLIMIT_NOFILE")
            }
            if limit.soft > limit.hard { throw DefinitionFault(place, "the soft limit is above the hard limit") }
        }
        let place: (String, String) -> [JSONStep] = { [.name("resources"), .name($0), .name($1)] }
        if let cpu = resources.cpu, let burst = cpu.burst, burst > 0 {
            guard let quota = cpu.quota, quota > 0 else {
                throw DefinitionFault(
                    place("cpu", "burst"), "a burst needs a cap that it may exceed", hint: "give \"cpus\" as well")
            }
            if burst > UInt64(quota) {
                throw DefinitionFault(
                    place("cpu", "burst"), "the burst of \(burst) µs is above the quota of \(quota) µs in each period",
                    hint: "the kernel takes a burst up to the quota: lower it, or raise \"cpus\"")
            }
        }
        guard let memory = resources.memory, let limit = memory.limit, limit > 0 else { return }
        if let reservation = memory.reservation, reservation > limit {
            throw DefinitionFault(
                place("memory", "reservation"),
                "the soft limit of \(ByteSize.text(reservation)) is above the limit of \(ByteSize.text(limit))")
        }
        if let swap = memory.swap, swap != -1, swap < limit {
            throw DefinitionFault(
                place("memory", "swap"),
                "memory and swap together, \(ByteSize.text(swap)), are less than memory alone, \(ByteSize.text(limit))")
        }
    }

    /// The members that differ, by name.
    func differences(from other: ZoneDefinition) -> [String] {
        let (mine, others) = (members, other.members)
        return ZoneDefinition.memberNames.filter { name in
            mine.first { $0.name == name }?.value != others.first { $0.name == name }?.value
        }
    }

    private var members: [JSON.Member] {
        // Our own text is JSON.
        guard case .object(let members)? = try? JSON(parsing: asWritten.serialized()) else { return [] }
        return members
    }
}
