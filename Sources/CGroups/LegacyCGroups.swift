// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A zone's groups on a host with version 1 hierarchies, with version 2 beside them (hybrid) or without.
struct LegacyCGroups: CGroupManager {
    /// Used for every zone: fair shares of CPU, accounting of memory, the device filter, a count of tasks. The others
    /// are made only when a limit needs them, as every group costs a start some 50 µs.
    static let always = ["cpu", "memory", "devices", "pids"]
    /// Used for every zone of an engine: besides, what its readers of statistics look at.
    static let engine = always + ["cpuacct", "blkio", "freezer"]

    let directories: [CGroupDirectory]
    /// `nil` for groups that were recorded earlier: the host is looked at when it is needed.
    private let layout: CGroupLayout?

    init(layout: CGroupLayout, path: String, wanted: [String]) {
        var wanted = wanted
        // The hybrid host's version 2 group freezes and accounts for CPU time, else these two do.
        if layout.unified == nil { wanted += ["freezer", "cpuacct"] }
        var directories = layout.legacy.filter { $0.controllers.contains(where: wanted.contains) }.map { hierarchy in
            CGroupDirectory(hierarchy: hierarchy.name, path: "\(hierarchy.mountPoint)/\(path)")
        }
        if let unified = layout.unified {
            directories.append(CGroupDirectory(hierarchy: "", path: "\(unified)/\(path)"))
        }
        self.directories = directories
        self.layout = layout
    }

    /// The controllers of the other hierarchies in which the first group of `path` exists.
    static func limited(_ layout: CGroupLayout, _ path: String, besides wanted: [String]) -> [String] {
        let first = path.pathComponents.first ?? ""
        let others = layout.legacy.filter { !$0.controllers.contains(where: wanted.contains) }
        return others.filter { (try? FileStatus.of("\($0.mountPoint)/\(first)")) != nil }.flatMap(\.controllers)
    }

    init(directories: [CGroupDirectory], layout: CGroupLayout? = nil) {
        self.directories = directories
        self.layout = layout
    }

    func create(_ resources: Spec.Resources) throws(SystemError) {
        let asked = CGroups.controllers.filter { $0.isAsked(resources) }
        for directory in directories {
            let isNew = try CGroupFiles.make(directory.path)
            if !directory.hierarchy.isEmpty { try apply(resources, asked, to: directory, isNew: isNew) }
            if directory.hierarchy.isEmpty { try applyRest(resources, asked, to: directory, isNew: isNew) }
        }
    }

    /// Opens a group only when something is to be written there.
    private func apply(
        _ resources: Spec.Resources,
        _ asked: [any Controller],
        to directory: CGroupDirectory,
        isNew: Bool,
        _ journal: CGroupJournal? = nil
    ) throws(SystemError) {
        let names = directory.controllers
        if isNew, names.contains("cpuset"), !asked.contains(where: { $0.name == "cpuset" }) {
            try CPUSetController.inherit(directory.path)
        }
        let asked = asked.filter { names.contains($0.name) }
        if asked.isEmpty { return }
        let group = try CGroupFiles(directory.path, isNew: isNew, journal: journal)
        for controller in asked { try controller.applyLegacy(resources, to: group) }
    }

    /// On a hybrid host: the limits of controllers that no version 1 hierarchy has, and the `unified` map.
    private func applyRest(
        _ resources: Spec.Resources,
        _ asked: [any Controller],
        to directory: CGroupDirectory,
        isNew: Bool,
        _ journal: CGroupJournal? = nil
    ) throws(SystemError) {
        let rest = asked.filter { controller in !directories.contains { $0.controllers.contains(controller.name) } }
        if rest.isEmpty && resources.unified.isEmpty { return }
        try LegacyCGroups.checkUnified(resources, directories.flatMap(\.controllers))
        try UnifiedCGroup(directory: directory, root: layout?.unified)
            .apply(resources, rest, to: try CGroupFiles(directory.path, isNew: isNew, journal: journal))
    }

    /// The `unified` map names files of version 2, whose controllers may be in use by version 1 here.
    static func checkUnified(_ resources: Spec.Resources, _ legacy: [String]) throws(SystemError) {
        for name in resources.unified.keys.sorted() {
            guard let controller = try UnifiedCGroup.controller(of: name) else { continue }
            let former = controller == "io" ? "blkio" : controller
            if legacy.contains(former) {
                throw SystemError(
                    "limit", "unified: \(name) needs cgroup version 2, and \(former) is in use by version 1 here",
                    .notSupported)
            }
        }
    }

    // MARK: Changes

    func directories(for resources: Spec.Resources) throws(SystemError) -> [CGroupDirectory] {
        let asked = CGroups.controllers.filter { $0.isAsked(resources) }
        return try added(asked).map(\.directory) + directories
    }

    func update(_ resources: Spec.Resources, undoing journal: CGroupJournal) throws(SystemError) {
        let asked = CGroups.controllers.filter { $0.isAsked(resources) }
        // What this host lacks is refused before anything is written.
        let added = try added(asked)
        if !resources.unified.isEmpty, !directories.contains(where: \.hierarchy.isEmpty) {
            throw SystemError("limit", "unified is for cgroup version 2", .notSupported)
        }
        for directory in directories where !directory.hierarchy.isEmpty {
            try apply(resources, asked, to: directory, isNew: false, journal)
        }
        let after = LegacyCGroups(directories: added.map(\.directory) + directories, layout: layout)
        for directory in directories where directory.hierarchy.isEmpty {
            try after.applyRest(resources, asked, to: directory, isNew: false, journal)
        }
        for (directory, hierarchy) in added { try add(directory, hierarchy, resources, asked, journal) }
    }

    /// The groups that the zone did without until now.
    private func added(
        _ asked: [any Controller]
    ) throws(SystemError) -> [(directory: CGroupDirectory, hierarchy: CGroupLayout.Hierarchy)] {
        var result: [(directory: CGroupDirectory, hierarchy: CGroupLayout.Hierarchy)] = []
        let known = { (name: String) in
            directories.contains { $0.controllers.contains(name) }
                || result.contains { $0.directory.controllers.contains(name) }
        }
        for controller in asked where !known(controller.name) {
            let layout = try knownLayout()
            guard let hierarchy = layout.legacy.first(where: { $0.controllers.contains(controller.name) }) else {
                // The version 2 group has the controller, or none has.
                try CGroups.requireUnified(controller.name, layout)
                continue
            }
            let path = "\(hierarchy.mountPoint)/\(try relativePath(layout))"
            result.append((CGroupDirectory(hierarchy: hierarchy.name, path: path), hierarchy))
        }
        return result
    }

    /// Makes a group, and moves the zone into it.
    private func add(
        _ directory: CGroupDirectory,
        _ hierarchy: CGroupLayout.Hierarchy,
        _ resources: Spec.Resources,
        _ asked: [any Controller],
        _ journal: CGroupJournal
    ) throws(SystemError) {
        // Limits first, so that nothing runs in the group without them.
        let isNew = try CGroupFiles.make(directory.path)
        if isNew {
            // Where a process is now is where all are: the zone had no group of its own there.
            let first = try processes().first { $0 > 0 }
            let former = try first.flatMap { (pid) throws(SystemError) in
                try CGroupMembership(of: pid).path(in: hierarchy.controllers)
            }
            journal.made(directory.path, former: hierarchy.mountPoint + (former ?? ""))
        }
        try apply(resources, asked, to: directory, isNew: isNew)
        try CGroupFiles.moveAll({ () throws(SystemError) in try processes() }, into: directory.path)
    }

    private func knownLayout() throws(SystemError) -> CGroupLayout {
        if let layout { return layout }
        return try CGroupLayout.ofHost()
    }

    /// Where the groups are below each hierarchy's root: the same everywhere.
    private func relativePath(_ layout: CGroupLayout) throws(SystemError) -> String {
        for directory in directories {
            let point =
                directory.hierarchy.isEmpty
                ? layout.unified
                : layout.legacy.first { $0.controllers == directory.controllers }?.mountPoint
            if let point, let path = directory.path.after(point + "/") { return path }
        }
        throw SystemError("find", "the zone's groups among this host's hierarchies", .noEntry)
    }

    // MARK: Processes

    func open() throws(SystemError) -> CGroupHandles {
        var handles = CGroupHandles()
        for directory in directories {
            if directory.hierarchy.isEmpty {
                handles.setUnified(try Descriptor.open(directory.path, [.path, .directory]))
            } else {
                handles.addTasks(try Descriptor.open("\(directory.path)/tasks", [.writeOnly]))
            }
        }
        return handles
    }

    func processes() throws(SystemError) -> [Int32] {
        // A process is in all of them or was killed on the way into the first.
        var pids: Set<Int32> = []
        for directory in directories { pids.formUnion(try CGroupFiles.processes(directory.path)) }
        return pids.sorted()
    }

    func memoryKills() throws(SystemError) -> Int {
        guard let directory = directories.first(where: { $0.controllers.contains("memory") }) else { return 0 }
        return try CGroupFiles(directory.path).counter("oom_kill", in: "memory.oom_control")
    }

    func remove() throws(SystemError) {
        for directory in directories { try CGroupFiles.remove(directory.path) }
    }
}

extension CGroupDirectory {
    /// Empty for version 2.
    var controllers: [String] { hierarchy.fields(",") }
}
