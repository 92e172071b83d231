// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import LinuxSystem
import Namespaces
import OCI

/// Puts restored processes into the zone's groups.
struct RestoredGroups {
    let groups: any CGroupManager
    let resources: Spec.Resources
    /// What criu is told.
    let mode: CriuSettings.GroupMode

    init(groups: any CGroupManager, resources: Spec.Resources, mode: CriuSettings.GroupMode) {
        self.groups = groups
        self.resources = resources
        // systemd makes the scope with the process in it, which must be there first.
        self.mode = groups is SystemdScope ? .ignore : mode
    }

    /// Tells criu where the groups of the checkpoint are now: the zone may have another name, or another place.
    func add(_ message: inout CriuMessage) throws(ZoneError) {
        if mode == .ignore { return }
        let (layout, own) = try attempting("find the control groups") { () throws(SystemError) in
            (try CGroupLayout.ofHost(), String(decoding: try readHostFile("/proc/self/cgroup"), as: UTF8.self))
        }
        for line in own.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let hierarchy = layout.legacy.first { $0.controllers.joined(separator: ",") == parts[1] }
            let top = parts[1].isEmpty ? layout.unified : hierarchy?.mountPoint
            let zone = groups.directories.first { directory in
                top.map { directory.path.hasPrefix($0 + "/") && directory.hierarchy.isEmpty == parts[1].isEmpty }
                    ?? false
            }
            // Where the zone has no group it is in the caller's.
            let path = top.flatMap { top in zone.map { String($0.path.dropFirst(top.utf8.count)) } } ?? String(parts[2])
            var root = CriuMessage()
            if !parts[1].isEmpty { root.add(1, String(parts[1])) }
            root.add(2, path)
            message.add(CriuSession.Field.groupRoot, root)
        }
    }

    /// Called when all processes are there and none runs.
    func place(_ pid: Int32) throws(SystemError) {
        if let scope = groups as? SystemdScope { try scope.start(pid: pid, resources: resources) }
        if mode != .ignore { return }
        for process in RestoredGroups.tree(pid) {
            for directory in groups.directories {
                let file = try Descriptor.open("\(directory.path)/cgroup.procs", [.writeOnly])
                try file.writeOnce(String(process), directory.path)
            }
        }
    }

    /// The process and all that come from it.
    private static func tree(_ pid: Int32) -> [Int32] {
        var found = [pid]
        var next = 0
        while next < found.count {
            let path = "/proc/\(found[next])/task"
            next += 1
            let threads = (try? Descriptor.open(path, [.readOnly, .directory]).entries()) ?? []
            for thread in threads {
                let text = (try? readHostFile("\(path)/\(thread)/children")) ?? []
                found += String(decoding: text, as: UTF8.self).split(separator: " ").compactMap { Int32($0) }
            }
        }
        return found
    }
}

/// A mount namespace for criu's work: it wants a mount for the zone's root, which must not stay on the host.
struct RestoreRoot: ~Copyable {
    private let copy: MountCopy

    private init(_ copy: consuming MountCopy) {
        self.copy = copy
    }

    static func enter(_ rootfs: String, _ places: [SavedPlace]) throws(ZoneError) -> RestoreRoot {
        try attempting("prepare the root file system") { () throws(SystemError) in
            try make(places, in: rootfs)
            // From here on it goes back whatever happens.
            let root = RestoreRoot(try MountCopy.enter())
            let tree = try Descriptor.cloneTree(rootfs, recursive: true)
            let place = try Descriptor.open(rootfs, [.path, .directory])
            try check(zn_move_mount(tree.raw, place.raw), "move_mount", rootfs)
            return root
        }
    }

    /// Goes back to the caller's namespace.
    consuming func leave() {}

    /// Makes the places that the zone's mounts had, as far as they lie in the root itself and are missing.
    private static func make(_ places: [SavedPlace], in rootfs: String) throws(SystemError) {
        for place in places {
            var folder = try Descriptor.open(rootfs, [.path, .directory])
            let names = place.point.pathComponents
            for (index, name) in names.enumerated() {
                guard name != ".", name != ".." else { throw SystemError("mkdir", place.point, .invalid) }
                if place.isDirectory || index < names.count - 1 {
                    // A link in its place is not followed: criu would not find the mount's place either.
                    try folder.ensureDirectory(name)
                    folder = try folder.open(name, [.path, .directory, .noFollow], resolve: [.beneath, .noSymlinks])
                } else if (try? folder.status(name)) == nil {
                    _ = try folder.open(name, [.writeOnly, .create, .exclusive], mode: 0o644, resolve: .beneath)
                }
            }
        }
    }
}
