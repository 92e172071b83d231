// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
import OCI

/// Where a bundle's control groups are, by `linux.cgroupsPath` and the engine's driver.
struct BundleGroups {
    let id: String
    let path: String?
    let driver: RuntimeOptions.CGroupDriver
    let folders: ZoneFolders

    init(_ id: String, _ linux: Spec.Linux, _ options: RuntimeOptions, _ folders: ZoneFolders) {
        self.id = id
        path = linux.cgroupsPath
        driver = options.cgroups
        self.folders = folders
    }

    func manager(_ resources: Spec.Resources) throws(ZoneError) -> any CGroupManager {
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        let parts = (path ?? "/\(folders.cgroupParent)/\(id)").pathComponents
        let relative = parts.joined(separator: "/")
        return try attempting("limit container \(id)") { () throws(SystemError) in
            try CGroups.manager(layout, path: relative, for: resources)
        }
    }
}
