// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
public import OCI

/// Makes the manager that suits the host.
public enum CGroups {
    /// `path` is relative to each hierarchy's root, without `.` or `..`.
    public static func manager(_ layout: CGroupLayout, path: String) -> any CGroupManager {
        if layout.isUnified, let unified = layout.unified { return UnifiedCGroup(root: unified, path: path) }
        return LegacyCGroups(layout: layout, path: path, wanted: LegacyCGroups.always)
    }

    /// The same with the hierarchies that some limits need besides.
    public static func manager(
        _ layout: CGroupLayout,
        path: String,
        for resources: Spec.Resources
    ) throws(SystemError) -> any CGroupManager {
        if layout.isUnified { return manager(layout, path: path) }
        let asked = try asked(resources, layout)
        return LegacyCGroups(layout: layout, path: path, wanted: LegacyCGroups.always + asked)
    }

    /// For bundles, with statistics of everything: every controller of version 2 that the host passes on; of version 1
    /// the hierarchies of ``LegacyCGroups/always``, blkio, and what `resources` ask for. `path` is relative to each
    /// hierarchy's root, see ``CGroupPath``.
    ///
    /// Where an engine has named the path (`isNamed`) it, and its readers of statistics, look for the zone there: then it
    /// is in every hierarchy but those that are made only when `resources` ask (perf_event, net_cls, net_prio, hugetlb,
    /// rdma, misc); in these too where the first group of the path is there, as who made that for a pod may have limited
    /// it. And in cpuset: Java looks for it, and without it takes the host's memory for its own.
    public static func engineManager(
        _ layout: CGroupLayout,
        path: String,
        for resources: Spec.Resources,
        isNamed: Bool = false
    ) throws(SystemError) -> any CGroupManager {
        if layout.isUnified, let unified = layout.unified {
            return UnifiedCGroup(root: unified, path: path, wanted: UnifiedCGroup.engine)
        }
        var wanted = LegacyCGroups.always + ["blkio"] + (try asked(resources, layout))
        if isNamed {
            wanted += LegacyCGroups.engine + ["cpuset"]
            wanted += LegacyCGroups.limited(layout, path, besides: wanted)
        }
        return LegacyCGroups(layout: layout, path: path, wanted: wanted)
    }

    /// No group at all. Limits are refused with `.notSupported`, statistics are zero.
    public static func disabled() -> any CGroupManager {
        DisabledCGroups()
    }

    /// Where a zone's groups can be, whatever limits it was started with: for one whose record is lost.
    public static func everyPossible(_ layout: CGroupLayout, path: String) -> [CGroupDirectory] {
        let legacy = layout.legacy.map {
            CGroupDirectory(hierarchy: $0.name, path: "\($0.mountPoint)/\(path)")
        }
        return legacy + (layout.unified.map { [CGroupDirectory(hierarchy: "", path: "\($0)/\(path)")] } ?? [])
    }

    /// A manager for groups that were recorded earlier, for example to remove them.
    public static func manager(recorded directories: [CGroupDirectory]) -> any CGroupManager {
        if let only = directories.first, directories.count == 1, only.hierarchy.isEmpty {
            return UnifiedCGroup(directory: only)
        }
        return directories.isEmpty ? DisabledCGroups() : LegacyCGroups(directories: directories)
    }
}

extension CGroupLayout {
    /// Whether the host has version 2 alone.
    public var isUnified: Bool { legacy.isEmpty && unified != nil }
}
