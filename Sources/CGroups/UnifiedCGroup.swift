// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A zone's group on a host with version 2 alone.
struct UnifiedCGroup: CGroupManager {
    private let directory: CGroupDirectory
    /// The hierarchy's mount point; empty for a group that was recorded earlier and only needs to be used.
    private let root: String

    init(root: String, path: String) {
        self.root = root
        directory = CGroupDirectory(hierarchy: "", path: "\(root)/\(path)")
    }

    init(directory: CGroupDirectory) {
        root = ""
        self.directory = directory
    }

    var directories: [CGroupDirectory] { [directory] }

    func create(_ resources: Spec.Resources) throws(SystemError) {
        try CGroupFiles.make(directory.path)
        try enableControllers(resources)
        let group = try CGroupFiles(directory.path)
        for controller in CGroups.controllers { try controller.applyUnified(resources, to: group) }
    }

    /// Enables the controllers in every group from the root down to ours: a controller has files only where the group
    /// above passes it on (cgroup-v2, "Top-down Constraint").
    private func enableControllers(_ resources: Spec.Resources) throws(SystemError) {
        let available = try CGroupFiles(root).read("cgroup.controllers").split(separator: " ").map(String.init)
        let names = ["cpu", "cpuset", "memory", "pids"]
        for controller in CGroups.controllers
        where names.contains(controller.name) && controller.isAsked(resources) && !available.contains(controller.name) {
            throw SystemError(
                "limit", "cgroup controller \(controller.name) is not in \(root)/cgroup.controllers", .notSupported)
        }
        let wanted = names.filter(available.contains)
        var path = root
        for part in directory.path.dropFirst(root.count).split(separator: "/") {
            let group = try CGroupFiles(path)
            let enabled = Set(try group.read("cgroup.subtree_control").split(separator: " ").map(String.init))
            let missing = wanted.filter { !enabled.contains($0) }
            if !missing.isEmpty {
                try group.write("cgroup.subtree_control", missing.map { "+" + $0 }.joined(separator: " "))
            }
            path += "/\(part)"
        }
    }

    func open() throws(SystemError) -> CGroupHandles {
        var handles = CGroupHandles()
        handles.setUnified(try Descriptor.open(directory.path, [.path, .directory]))
        return handles
    }

    func processes() throws(SystemError) -> [Int32] {
        try CGroupFiles.processes(directory.path)
    }

    func memoryKills() throws(SystemError) -> Int {
        let group = try CGroupFiles(directory.path)
        return group.exists("memory.events") ? try group.counter("oom_kill", in: "memory.events") : 0
    }

    func remove() throws(SystemError) {
        try CGroupFiles.remove(directory.path)
    }
}
