// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import Images
import LinuxSystem
import Namespaces
import OCI

/// What a zone has that boots as a machine: systemd's container interface (systemd.io/CONTAINER_INTERFACE), which suits
/// other inits, too.
enum SystemZone {
    // MARK: When it is defined

    /// Finds out whether a zone's command is an init, and settles what follows from that.
    static func settle(_ definition: inout ZoneDefinition, _ image: Image, _ images: ImageStore) throws(ZoneError) {
        definition.initSystem = try initSystem(definition, image, images)
        if definition.initSystem == nil { return }
        // A machine has a console: what it says while it boots is the zone's log, and `attach` logs in there.
        definition.hasTerminal = true
        definition.isInteractive = true
        if definition.machineID == nil { definition.machineID = try newMachineID() }
    }

    private static func initSystem(
        _ definition: ZoneDefinition, _ image: Image, _ images: ImageStore
    ) throws(ZoneError) -> InitSystem? {
        if definition.systemMode == .never { return nil }
        if definition.runsInit {
            guard definition.systemMode == .always else { return nil }
            throw ZoneError(
                .invalid, "--init and --systemd=always contradict each other",
                hint: "an init wants to be the zone's first process, which with --init is another one")
        }
        let arguments = try definition.arguments(image.configuration.config ?? .init())
        let isAlways = definition.systemMode == .always
        guard InitSystem.isCandidate(arguments) else { return isAlways ? .systemd : nil }
        let lookup = LayerLookup(
            try attemptingImage { () throws(ImageError) in try images.layers(of: image) }, images.marks)
        return InitSystem.detect(arguments) { lookup.resolve($0) } ?? (isAlways ? .systemd : nil)
    }

    /// A random UUID, machine-id(5): never the host's or another zone's.
    static func newMachineID() throws(ZoneError) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        guard getentropy(&bytes, bytes.count) == 0 else {
            throw ZoneError(.system, "make a machine id: \(Errno(rawValue: errno).message)")
        }
        // Version 4, variant 1: RFC 9562.
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        return bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    // MARK: The configuration

    /// Added to the image's variables.
    static func environment(_ definition: ZoneDefinition) -> [String] {
        guard definition.initSystem != nil else { return [] }
        return ["container=zone"] + (definition.machineID.map { ["container_uuid=\($0)"] } ?? [])
    }

    /// Whether the zone may end and restart itself. In a pid namespace reboot(2) concerns that alone; what else the
    /// capability allows, kexec_load(2), the default filter refuses.
    static func mayReboot(_ definition: ZoneDefinition) -> Bool {
        definition.initSystem != nil && definition.seccompProfile == nil
            && !definition.droppedCapabilities.contains("ALL")
            && Capability.number(of: "CAP_SYS_BOOT").map { Capability.available >> UInt64($0) & 1 == 1 } ?? false
    }

    private static let managerFile = "container-manager"
    private static let machineFile = "container-uuid"
    private static let limitsFile = "limits.conf"

    /// Mounts besides those of every zone; a user's own at the same place comes instead.
    static func mounts(_ definition: ZoneDefinition, persistent: String) -> [Spec.Mount] {
        var mounts: [Spec.Mount] = []
        if definition.initSystem != nil {
            // What the image has there, such as folders that its services expect, comes along: podman's way.
            let options = ["nosuid", "nodev", "tmpcopyup"]
            mounts = [
                .init(destination: "/run", type: "tmpfs", source: "tmpfs", options: options + ["mode=755"]),
                .init(
                    destination: "/run/lock", type: "tmpfs", source: "tmpfs",
                    options: ["nosuid", "nodev", "noexec", "mode=1777", "size=5120k"]),
                .init(destination: "/tmp", type: "tmpfs", source: "tmpfs", options: options + ["mode=1777"]),
                file(managerFile, at: "/run/host/container-manager", persistent),
                file(machineFile, at: "/run/host/container-uuid", persistent),
            ]
        }
        if definition.maxUsers != nil {
            mounts.append(file(limitsFile, at: "/etc/security/limits.d/zonectl.conf", persistent))
        }
        return mounts.filter { mount in !definition.mounts.contains { $0.destination == mount.destination } }
    }

    private static func file(_ name: String, at target: String, _ persistent: String) -> Spec.Mount {
        .init(
            destination: target, type: "bind", source: "\(persistent)/\(name)",
            options: ["bind", "ro", "nosuid", "nodev", "noexec"])
    }

    /// Writes what ``mounts(_:persistent:)`` shows the zone.
    static func writeFiles(_ definition: ZoneDefinition, in persistent: borrowing Descriptor) throws(SystemError) {
        if definition.initSystem != nil {
            try persistent.replaceFile(managerFile, Array("zonectl\n".utf8))
            try persistent.replaceFile(machineFile, Array("\(definition.machineID ?? "")\n".utf8))
        }
        if let most = definition.maxUsers {
            // limits.conf(5): counts all sessions, and never keeps root out.
            try persistent.replaceFile(
                limitsFile, Array("# --max-users of zonectl\n*\t-\tmaxsyslogins\t\(most)\n".utf8))
        }
    }

    // MARK: Control groups

    /// Makes the group that the zone rules over; `nil` where it has none to give. The zone sees that one alone, also on a
    /// host with version 1 beside: an init can work with nothing else there.
    static func delegate(
        _ definition: ZoneDefinition, _ groups: any CGroupManager, _ spec: inout Spec
    ) throws(ZoneError) -> DelegatedCGroup? {
        guard definition.initSystem != nil, let delegated = DelegatedCGroup(of: groups.directories) else { return nil }
        try attempting("give zone \(definition.name) a control group of its own") { () throws(SystemError) in
            try delegated.create()
        }
        for index in spec.mounts.indices where spec.mounts[index].type == "cgroup" {
            spec.mounts[index].options.removeAll { $0 == "ro" }
        }
        return delegated
    }
}

extension DelegatedCGroup {
    /// What a process that is added to a running zone is put into, `nil` where the zone has no such group.
    static func open(
        _ definition: ZoneDefinition, _ groups: any CGroupManager, _ first: RecordedProcess
    ) throws(ZoneError) -> Descriptor? {
        guard definition.initSystem != nil, let delegated = DelegatedCGroup(of: groups.directories) else { return nil }
        return try attempting("open the control group of zone \(definition.name)") { () throws(SystemError) in
            try delegated.open(groupOf: first.pid)
        }
    }
}
