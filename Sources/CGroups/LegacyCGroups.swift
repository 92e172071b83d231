// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A zone's groups on a host with version 1 hierarchies, with version 2 beside them (hybrid) or without.
struct LegacyCGroups: CGroupManager {
    /// Used for every zone: fair shares of CPU, accounting of memory, the device filter, a count of tasks. The others
    /// are made only when a limit needs them, as every group costs a start some 50 µs.
    static let always: Set<String> = ["cpu", "memory", "devices", "pids"]

    let directories: [CGroupDirectory]

    init(layout: CGroupLayout, path: String, wanted: Set<String>) {
        var wanted = wanted
        // The hybrid host's version 2 group freezes and accounts for CPU time, else these two do.
        if layout.unified == nil { wanted.formUnion(["freezer", "cpuacct"]) }
        var directories = layout.legacy.filter { !wanted.isDisjoint(with: $0.controllers) }.map { hierarchy in
            CGroupDirectory(
                hierarchy: hierarchy.controllers.joined(separator: ","), path: "\(hierarchy.mountPoint)/\(path)")
        }
        if let unified = layout.unified {
            directories.append(CGroupDirectory(hierarchy: "", path: "\(unified)/\(path)"))
        }
        self.directories = directories
    }

    init(directories: [CGroupDirectory]) {
        self.directories = directories
    }

    func create(_ resources: Spec.Resources) throws(SystemError) {
        for directory in directories {
            try CGroupFiles.make(directory.path)
            if directory.hierarchy.isEmpty { continue }
            let group = try CGroupFiles(directory.path)
            for controller in CGroups.controllers where directory.controllers.contains(controller.name) {
                try controller.applyLegacy(resources, to: group)
            }
        }
    }

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
    fileprivate var controllers: [String] { hierarchy.split(separator: ",").map(String.init) }
}
