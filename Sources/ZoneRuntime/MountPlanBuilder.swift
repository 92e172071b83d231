// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI

/// Plans a zone's mounts (config.md "Mounts"), and opens on the host what they show of it.
struct MountPlanBuilder {
    let linux: Spec.Linux
    /// The bundle's folder, to which sources are relative.
    let bundle: String?
    let cgroups: any CGroupManager
    let warn: (String) -> Void

    /// File systems that show the namespaces of who mounts them, or hold nothing: the child makes them. All others
    /// need a device or a path of the host's, so the parent does.
    private static let ofTheZone = [
        "proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "hugetlbfs", "binfmt_misc", "securityfs", "debugfs",
        "tracefs", "configfs", "fusectl", "bpf", "pstore", "efivarfs", "rpc_pipefs", "selinuxfs", "devtmpfs",
    ]

    func add(_ mounts: [Spec.Mount], to plan: inout LaunchPlan) throws(ZoneError) {
        if let text = linux.rootfsPropagation, !text.isEmpty {
            plan.rootPropagation = try MountPropagation(rootfs: text)
        }
        if hasMountLabel, !SecurityModules.hasSELinux {
            warn("linux.mountLabel: is left out, as SELinux is not active on this machine")
        }
        for (index, mount) in mounts.enumerated() {
            try add(mount, "mounts[\(index)]", to: &plan)
        }
    }

    /// Whether a mount brings the host's or another zone's /dev, in which nothing is to be made.
    static func bringsDevices(_ mounts: [Spec.Mount]) -> Bool {
        mounts.contains { mount in
            mount.destination.pathComponents == ["dev"]
                && (mount.type == "bind" || mount.options.contains("bind") || mount.options.contains("rbind"))
                && !mount.options.contains("remount")
        }
    }

    /// The path without empty parts, `.` and `..`, as far as its text tells.
    static func cleaned(_ path: String) -> String {
        var parts: [String] = []
        for part in path.pathComponents where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return parts.absolutePath
    }

    private func add(_ mount: Spec.Mount, _ place: String, to plan: inout LaunchPlan) throws(ZoneError) {
        guard !mount.destination.isEmpty else { throw ZoneError(.invalid, "\(place).destination: is empty") }
        var target = mount.destination
        if !target.isAbsolutePath {
            // config.md "Mounts": old, but to be taken as below the root.
            warn("\(place).destination: \"\(target)\" is not an absolute path: /\(target) is meant")
            target = "/" + target
        }
        target = MountPlanBuilder.cleaned(target)
        let options: MountOptions
        do throws(ZoneError) { options = try MountOptions(mount.options) } catch {
            throw ZoneError(error.code, "\(place).options: \(error.detail)", hint: error.hint)
        }
        let isBind = options.isBind || mount.type == "bind"
        guard isBind || options.idMapping == nil && mount.uidMappings.isEmpty && mount.gidMappings.isEmpty else {
            throw ZoneError(.unsupported, "\(place): only bind mounts can be id-mapped")
        }
        guard !options.copiesUp || mount.type == "tmpfs" && !isBind else {
            throw ZoneError(.invalid, "\(place).options: tmpcopyup: is for mounts of type tmpfs")
        }
        if options.isRemount { return addRemount(target, options, isBind, to: &plan) }
        if isBind { return try addBind(mount, target, options, place, to: &plan) }
        guard let type = mount.type, !type.isEmpty, type != "none" else {
            throw ZoneError(
                .invalid, "\(place).type: is missing", hint: "name a file system, or add the option bind or rbind")
        }
        if type == "cgroup" || type == "cgroup2" { return try addGroups(target, options, to: &plan) }
        try addFileSystem(type, mount, target, options, place, to: &plan)
    }

    private var hasMountLabel: Bool { !(linux.mountLabel ?? "").isEmpty }

    // MARK: Kinds of mounts

    private func addRemount(_ target: String, _ options: MountOptions, _ isBind: Bool, to plan: inout LaunchPlan) {
        var settings: [(key: String, value: String?)] = []
        if !isBind {
            // Without `bind` it is the file system that changes: mount(8).
            settings = options.superblock.map { ($0, nil) } + options.data.map { ($0.key, $0.value) }
            if options.changes.set.contains(.readOnly) { settings.append(("ro", nil)) }
            if options.changes.clear.contains(.readOnly) { settings.append(("rw", nil)) }
        }
        plan.mounts.append(
            MountPlan(target: target, source: .remount(options: settings), changes: options.changes))
    }

    private func addFileSystem(
        _ type: String,
        _ mount: Spec.Mount,
        _ target: String,
        _ options: MountOptions,
        _ place: String,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        var settings: [(key: String, value: String?)] =
            options.superblock.map { ($0, nil) } + options.data.map { ($0.key, $0.value) }
        if let label = linux.mountLabel, hasMountLabel, SecurityModules.hasSELinux,
            ["tmpfs", "devpts", "mqueue", "ramfs"].contains(type),
            !settings.contains(where: { $0.key == "context" })
        {
            settings.append(("context", label))
        }
        guard MountPlanBuilder.ofTheZone.contains(type) else {
            return try addFromHost(type, settings, mount, target, options, place, to: &plan)
        }
        // What is mounted below it wants mount points in it first.
        let seals = type == "tmpfs" && options.attributes.contains(.readOnly)
        var entry = MountPlan(
            target: target, source: .fileSystem(type: type, options: settings), changes: options.changes,
            sealsAtEnd: seals)
        entry.device = mount.source.flatMap { $0.isEmpty ? nil : $0 }
        entry.copiesUp = options.copiesUp
        plan.mounts.append(entry)
    }

    /// A file system on a device, on the network, or of layers: its source and its options name things of the host's.
    private func addFromHost(
        _ type: String,
        _ settings: [(key: String, value: String?)],
        _ mount: Spec.Mount,
        _ target: String,
        _ options: MountOptions,
        _ place: String,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        do throws(SystemError) {
            let tree = try MountPlanBuilder.detached(type, mount.source, settings, options)
            if let propagation = options.changes.propagation { try tree.setPropagation(propagation) }
            plan.mounts.append(
                MountPlan(target: target, source: .tree(plan.descriptors.adopt(tree), isDirectory: true)))
        } catch {
            throw ZoneError(
                .system, "\(place): mount on \(target): \(error)",
                hint: error.errno == .noDevice ? "the kernel may lack the file system \(type)" : nil)
        }
    }

    private static func detached(
        _ type: String, _ source: String?, _ settings: [(key: String, value: String?)], _ options: MountOptions
    ) throws(SystemError) -> Descriptor {
        if LongMount.isNeeded(settings) {
            return try LongMount.make(type, source: source, options: settings, changes: options.changes)
        }
        let context = try FileSystemContext(type, source: source)
        for setting in settings { try context.set(setting.key, setting.value) }
        // A device that may not be written to can only be mounted so.
        if options.attributes.contains(.readOnly) { try context.set("ro") }
        return try context.mount(options.attributes)
    }

    private func addBind(
        _ mount: Spec.Mount,
        _ target: String,
        _ options: MountOptions,
        _ place: String,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        let source = try hostPath(mount.source ?? "", place)
        for option in options.data {
            // mount(2) passes over them too, and configurations have them.
            warn("\(place): a bind mount takes no option \"\(option.key)\": it is left out")
        }
        let map = try idMapping(mount, options, place, plan)
        do throws(SystemError) {
            if options.copiesSymlink, let text = try MountPlanBuilder.symlink(source) {
                plan.mounts.append(MountPlan(target: target, source: .symlink(text)))
                return
            }
            var changes = options.changes
            let isUnbindable = changes.propagation?.kind == .unbindable
            if isUnbindable { changes.propagation = nil }
            let tree = try Descriptor.cloneTree(source, recursive: options.isRecursive, changes: changes)
            if let map {
                try tree.mapIDs(by: try map.userNamespace(), recursive: map.isRecursive, source)
            }
            let isDirectory = try tree.stat().kind == .directory
            var entry = MountPlan(target: target, source: .tree(tree.raw, isDirectory: isDirectory))
            entry.keepsOrder = bundle != nil && isDirectory
            if isUnbindable, let propagation = options.changes.propagation {
                if entry.keepsOrder {
                    entry.changes.propagation = propagation
                } else {
                    try tree.setPropagation(propagation)
                }
            }
            _ = plan.descriptors.adopt(tree)
            plan.mounts.append(entry)
        } catch {
            var hint = ZoneError.hint(for: error.errno)
            if error.errno == .noEntry { hint = "make it first, or give another source" }
            if map != nil, error.operation == "id-mapped mount" {
                hint = "the file system that holds it may not support id-mapped mounts, or is in use so already"
            }
            throw ZoneError(.system, "mount on \(target): \(error)", hint: hint)
        }
    }

    private func hostPath(_ path: String, _ place: String) throws(ZoneError) -> String {
        if path.isAbsolutePath { return path }
        guard !path.isEmpty, let bundle else {
            throw ZoneError(.invalid, "\(place): source \"\(path)\" is not an absolute path")
        }
        return "\(bundle)/\(path)"
    }

    /// The text of a symbolic link; nil where the path is something else.
    private static func symlink(_ path: String) throws(SystemError) -> String? {
        guard try FileStatus.of(path, followLinks: false).kind == .symlink else { return nil }
        return try Descriptor.open(path, [.path, .noFollow]).readLink("")
    }

    /// The zone's own groups at /sys/fs/cgroup, as bind mounts of just their directories: nothing above them can be
    /// reached, also where the kernel knows no cgroup namespaces (CVE-2023-25809).
    private func addGroups(
        _ target: String,
        _ options: MountOptions,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        let directories = cgroups.directories
        let single = directories.count == 1 && directories[0].hierarchy.isEmpty
        if cgroups is SystemdScope {
            // systemd makes the group only when there is a process for it: the child mounts what it then is in.
            guard plan.newNamespaces.contains(.cgroup) else {
                throw ZoneError(
                    .unsupported, "mount on \(target): with --systemd-cgroup it needs a new cgroup namespace",
                    hint: "add one to linux.namespaces")
            }
            plan.mounts.append(
                MountPlan(
                    target: target, source: .fileSystem(type: "cgroup2", options: []), changes: options.changes))
            return
        }
        if !single {
            plan.mounts.append(
                MountPlan(
                    target: target,
                    source: .fileSystem(type: "tmpfs", options: [("mode", "755")]),
                    changes: options.changes, sealsAtEnd: true))
        }
        for directory in directories {
            let name = directory.hierarchy.isEmpty ? "unified" : directory.hierarchy
            let tree = try attempting("show the zone its control groups") { () throws(SystemError) in
                try Descriptor.cloneTree(directory.path, recursive: false, changes: options.changes)
            }
            plan.mounts.append(
                MountPlan(
                    target: single ? target : "\(target)/\(name)",
                    source: .tree(plan.descriptors.adopt(tree), isDirectory: true)))
        }
    }

    // MARK: Id-mapped mounts

    private enum MapSource {
        case ids(IDMap)
        /// A user namespace's file.
        case file(String)
    }

    private struct MountMap {
        let source: MapSource
        let isRecursive: Bool

        func userNamespace() throws(SystemError) -> Descriptor {
            switch source {
            case .ids(let map): try map.makeUserNamespace()
            case .file(let path): try Descriptor.open(path, [.readOnly, .nonBlocking])
            }
        }
    }

    /// The mount's own maps, else those of the zone's user namespace.
    private func idMapping(
        _ mount: Spec.Mount,
        _ options: MountOptions,
        _ place: String,
        _ plan: borrowing LaunchPlan
    ) throws(ZoneError) -> MountMap? {
        let isMapped = !mount.uidMappings.isEmpty || !mount.gidMappings.isEmpty
        guard isMapped || options.idMapping != nil else { return nil }
        // The kernel wants a right over the file system itself.
        if Rootless.isInside, bundle == nil {
            throw ZoneError(
                .notPermitted, "mount on \(mount.destination): an ordinary user's mounts cannot be id-mapped",
                hint: "leave out idmap: all zones of a user see the same owners")
        }
        let isRecursive = options.idMapping == .tree
        if isMapped {
            for (name, list) in [("uidMappings", mount.uidMappings), ("gidMappings", mount.gidMappings)] {
                guard list.allSatisfy({ $0.size > 0 }) else {
                    throw ZoneError(.invalid, "\(place).\(name): a range of size 0")
                }
            }
            guard !mount.uidMappings.isEmpty, !mount.gidMappings.isEmpty else {
                throw ZoneError(.invalid, "\(place): needs both uidMappings and gidMappings, or neither")
            }
            let map = IDMap(
                users: mount.uidMappings.map(IDMap.Range.init), groups: mount.gidMappings.map(IDMap.Range.init))
            return MountMap(source: .ids(map), isRecursive: isRecursive)
        }
        for namespace in linux.namespaces where namespace.type == .user {
            if let path = namespace.path, !path.isEmpty {
                return MountMap(source: .file(path), isRecursive: isRecursive)
            }
            let map = IDMap(
                users: linux.uidMappings.map(IDMap.Range.init), groups: linux.gidMappings.map(IDMap.Range.init))
            return MountMap(source: .ids(map), isRecursive: isRecursive)
        }
        throw ZoneError(
            .invalid, "\(place).options: an id-mapped mount needs uidMappings and gidMappings",
            hint: "give it some, or the zone a user namespace whose maps it then has")
    }
}

extension IDMap.Range {
    fileprivate init(_ mapping: Spec.IDMapping) {
        self.init(inside: mapping.containerID, outside: mapping.hostID, count: mapping.size)
    }
}
