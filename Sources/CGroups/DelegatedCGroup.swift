// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// The group that a zone with an init of its own rules over: one inside the zone's version 2 group.
///
/// The limits are on the outer one, which cannot be seen from inside: what the zone writes into files of its own group
/// only divides what it has. The mount option `nsdelegate` would protect a single group, too, but not every host has it.
public struct DelegatedCGroup: Sendable {
    /// The zone's own group, which has the limits.
    private let outer: CGroupDirectory
    /// What the zone sees as the root of all groups.
    public let directory: CGroupDirectory

    /// Groups that a zone may make: each takes memory of the kernel's.
    private static let mostGroups = "10000"
    /// How deep in one another: an init, an engine in the zone and an init in its container need a dozen.
    private static let mostLevels = "64"

    /// `nil` where a zone with these groups has none of version 2.
    public init?(of directories: [CGroupDirectory]) {
        guard let outer = directories.first(where: { $0.hierarchy.isEmpty }) else { return nil }
        self.outer = outer
        directory = CGroupDirectory(hierarchy: "", path: "\(outer.path)/inside")
    }

    /// For mounts: the zone's groups as it sees them.
    public var view: any CGroupManager { UnifiedCGroup(directory: directory) }

    /// Makes the group, with every controller that the outer one has. The outer group exists and has no processes.
    public func create() throws(SystemError) {
        try CGroupFiles.make(directory.path)
        let group = try CGroupFiles(outer.path)
        // Since Linux 4.14.
        if group.exists("cgroup.max.descendants") {
            try group.write("cgroup.max.descendants", DelegatedCGroup.mostGroups)
            try group.write("cgroup.max.depth", DelegatedCGroup.mostLevels)
        }
        let names = try group.readIfThere("cgroup.controllers")?.fields(" ") ?? []
        for name in names {
            // One that cannot be passed on, as cpu where real-time processes are, is the host's affair; the limit holds.
            try? group.write("cgroup.subtree_control", "+" + name)
        }
    }

    /// Opens it for `CLONE_INTO_CGROUP`.
    public func open() throws(SystemError) -> Descriptor {
        try Descriptor.open(directory.path, [.path, .directory])
    }

    /// Opens the group in which a process of the zone's is. An init has passed controllers on, and from then on the root of
    /// its groups takes no processes: cgroup-v2, "No Internal Process Constraint".
    public func open(groupOf pid: Int32) throws(SystemError) -> Descriptor {
        let root = try open()
        // The path is the kernel's, and below ours only the zone decides about names.
        guard let path = try CGroupMembership(of: pid).path(in: []) else { return root }
        guard let part = path.range(of: directory) else { return root }
        return part.isEmpty ? root : try root.open(part, [.path, .directory], resolve: .beneath)
    }
}

extension String {
    /// What of a group's path, as /proc/PID/cgroup shows it, is below a directory whose mount point is not known.
    fileprivate func range(of directory: CGroupDirectory) -> String? {
        let wanted = directory.path.pathComponents
        let own = pathComponents
        // The longest way from the directory's end that is also at the beginning here.
        for count in stride(from: min(wanted.count, own.count), through: 1, by: -1)
        where wanted.suffix(count) == own.prefix(count) {
            return own.dropFirst(count).joined(separator: "/")
        }
        return nil
    }
}
