// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `cpuset`: which CPUs and memory nodes may be used.
struct CPUSetController: Controller {
    let name = "cpuset"

    func isAsked(_ resources: Spec.Resources) -> Bool {
        resources.cpu?.cpus?.isEmpty == false || resources.cpu?.mems?.isEmpty == false
    }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if let cpus = resources.cpu?.cpus, !cpus.isEmpty { try group.write("cpuset.cpus", cpus) }
        if let mems = resources.cpu?.mems, !mems.isEmpty { try group.write("cpuset.mems", mems) }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if group.isNew { try CPUSetController.inherit(group.path) }
        try applyUnified(resources, to: group)
    }

    /// A new version 1 cpuset is empty and takes no process: it and the groups above get their parent's values.
    static func inherit(_ path: String) throws(SystemError) {
        guard let slash = path.lastIndex(of: "/") else { return }
        let parentPath = String(path[..<slash])
        let parent = try CGroupFiles(parentPath)
        guard parent.exists("cpuset.cpus") else { return }
        let group = try CGroupFiles(path)
        for file in ["cpuset.cpus", "cpuset.mems"] where try group.read(file).isEmpty {
            if try parent.read(file).isEmpty { try inherit(parentPath) }
            try group.write(file, try parent.read(file))
        }
    }
}
