// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import OCI

/// Where a bundle's control groups are, by `linux.cgroupsPath` and the engine's driver.
struct BundleGroups {
    let spec: Spec
    let id: String
    let driver: RuntimeOptions.CGroupDriver
    let folders: ZoneFolders

    /// The zone's groups, not made yet, and the limits that they are to have.
    func prepare() throws(ZoneError) -> (manager: any CGroupManager, resources: Spec.Resources) {
        let linux = spec.linux ?? Spec.Linux()
        var resources = linux.resources ?? Spec.Resources()
        if driver == .disabled {
            // Rules for devices are in every engine's configuration, and mean nothing without a group.
            resources.devices = []
            return (CGroups.disabled(), resources)
        }
        // An ordinary user can neither load a device filter nor make a device node.
        resources.devices = Rootless.isInside ? [] : DefaultProfile.completed(resources.devices)
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        let manager = try attempting("limit container \(id)") { () throws(SystemError) -> any CGroupManager in
            switch try CGroupPath.parse(
                // Engines write an empty one for "yours to choose".
                linux.cgroupsPath.flatMap { $0.isEmpty ? nil : $0 }, id: id, systemd: driver == .systemd,
                defaultParent: folders.cgroupParent)
            {
            case .group(let path):
                return try CGroups.engineManager(
                    layout, path: path, for: resources, isNamed: linux.cgroupsPath?.isAbsolutePath ?? false)
            case .unit(let slice, let prefix, let name):
                let scope = try SystemdScope(
                    layout, slice: slice, prefix: prefix, name: name, user: Rootless.user,
                    annotations: spec.annotations)
                // Before it is recorded as the zone's.
                try scope.requireUnused()
                return scope
            }
        }
        return (manager, resources)
    }

    /// What an ordinary user gets where the host has delegated no groups: none, as long as no limit was asked for.
    static func withoutRights(
        _ error: SystemError, _ resources: Spec.Resources, zone: String
    ) throws(ZoneError) -> any CGroupManager {
        let isRefused = [.notPermitted, .accessDenied, .readOnly].contains(error.errno)
        guard Rootless.isInside, isRefused else { throw ZoneError("make the control groups of zone \(zone)", error) }
        let groups = CGroups.disabled()
        do throws(SystemError) { try groups.create(resources) } catch {
            throw ZoneError(
                .notPermitted, "limits need control groups, and none are delegated to this user: \(error)",
                hint: "leave the limits out, run it as root, or let systemd delegate groups (--systemd-cgroup)")
        }
        return groups
    }
}

extension ZoneRecord {
    /// The zone's groups as they were recorded.
    var groups: any CGroupManager { [CGroupDirectory].init(cgroups.map(\.directory)).manager }
}

extension [CGroupDirectory] {
    /// What manages groups that were recorded earlier: systemd where it made them.
    var manager: any CGroupManager {
        if let only = first, count == 1, only.hierarchy.isEmpty,
            only.path.hasSuffix(".scope") || only.path.hasSuffix(".slice"),
            // Without systemd any more the group is one like others.
            let scope = try? SystemdScope(recorded: only, user: Rootless.user)
        {
            return scope
        }
        return CGroups.manager(recorded: self)
    }
}
