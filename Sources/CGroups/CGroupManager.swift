// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
public import OCI

/// A zone's control groups, whatever version the host has.
///
/// A value of this type only names the groups: nothing exists until ``create(_:)``, so that a zone can be recorded
/// with ``directories`` before anything is made.
public protocol CGroupManager: Sendable {
    /// The groups, one in each hierarchy that is used.
    var directories: [CGroupDirectory] { get }

    /// Makes the groups and applies the limits. Undoes nothing on failure: ``remove()`` takes whatever exists.
    func create(_ resources: Spec.Resources) throws(SystemError)

    /// Opens what a process needs to be put into the groups.
    func open() throws(SystemError) -> CGroupHandles

    /// Returns the processes in the groups, by the host's pids.
    func processes() throws(SystemError) -> [Int32]

    /// How many processes the kernel has killed because the group's memory limit was reached.
    func memoryKills() throws(SystemError) -> Int

    /// Removes the groups; one that is gone already is fine. The processes must have ended, see ``kill()``.
    func remove() throws(SystemError)
}

/// One group's directory.
public struct CGroupDirectory: Sendable, Equatable {
    /// The hierarchy's name as it appears below /sys/fs/cgroup, such as `memory` or `cpu,cpuacct`; empty for version 2.
    public let hierarchy: String
    /// Absolute host path.
    public let path: String

    public init(hierarchy: String, path: String) {
        self.hierarchy = hierarchy
        self.path = path
    }
}

/// Open descriptors of a zone's groups.
public struct CGroupHandles: ~Copyable {
    /// The version 2 group, for `CLONE_INTO_CGROUP`.
    public private(set) var unified: CInt?
    /// The version 1 `tasks` files.
    public private(set) var tasks: [CInt] = []
    private var descriptors = DescriptorBag()

    init() {}

    mutating func setUnified(_ descriptor: consuming Descriptor) {
        unified = descriptors.adopt(descriptor)
    }

    mutating func addTasks(_ descriptor: consuming Descriptor) {
        tasks.append(descriptors.adopt(descriptor))
    }
}

/// Makes the manager that suits the host.
public enum CGroups {
    /// `path` is relative to each hierarchy's root, without `.` or `..`.
    public static func manager(_ layout: CGroupLayout, path: String) -> any CGroupManager {
        if layout.legacy.isEmpty, let unified = layout.unified {
            return UnifiedCGroup(root: unified, path: path)
        }
        return LegacyCGroups(layout: layout, path: path, wanted: LegacyCGroups.always)
    }

    /// The same with the hierarchies that some limits need besides.
    public static func manager(
        _ layout: CGroupLayout,
        path: String,
        for resources: Spec.Resources
    ) throws(SystemError) -> any CGroupManager {
        if layout.legacy.isEmpty, layout.unified != nil { return manager(layout, path: path) }
        let asked = controllers.filter { $0.isAsked(resources) }.map(\.name)
        // What the kernel lacks is named, never ignored.
        for name in asked where !layout.legacy.contains(where: { $0.controllers.contains(name) }) {
            throw SystemError("limit", "cgroup controller \(name) is not mounted on this host", .notSupported)
        }
        return LegacyCGroups(layout: layout, path: path, wanted: LegacyCGroups.always.union(asked))
    }

    /// Where a zone's groups can be, whatever limits it was started with: for one whose record is lost.
    public static func everyPossible(_ layout: CGroupLayout, path: String) -> [CGroupDirectory] {
        let legacy = layout.legacy.map {
            CGroupDirectory(hierarchy: $0.controllers.joined(separator: ","), path: "\($0.mountPoint)/\(path)")
        }
        return legacy + (layout.unified.map { [CGroupDirectory(hierarchy: "", path: "\($0)/\(path)")] } ?? [])
    }

    /// A manager for groups that were recorded earlier, for example to remove them.
    public static func manager(recorded directories: [CGroupDirectory]) -> any CGroupManager {
        if let only = directories.first, directories.count == 1, only.hierarchy.isEmpty {
            return UnifiedCGroup(directory: only)
        }
        return LegacyCGroups(directories: directories)
    }

    /// All controllers, each in its own file.
    static let controllers: [any Controller] = [
        MemoryController(), CPUController(), CPUSetController(), PidsController(), DeviceController(),
    ]
}

extension CGroupManager {
    /// Kills every process in the groups and waits until they have ended; `false` after `milliseconds` without that.
    public func kill(milliseconds: Int = 5000) throws(SystemError) -> Bool {
        var waited = 0
        var delay: Int32 = 1
        while true {
            let processes = try processes()
            if processes.isEmpty { return true }
            if waited > milliseconds { return false }
            try CGroupFiles.killAll(processes, unified: directories.first { $0.hierarchy.isEmpty })
            pause(milliseconds: delay)
            waited += Int(delay)
            delay = min(delay * 2, 50)
        }
    }
}

/// A controller's part: which files hold its limits.
protocol Controller: Sendable {
    var name: String { get }
    /// Whether the limits need this controller.
    func isAsked(_ resources: Spec.Resources) -> Bool
    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError)
    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError)
}
// TEMPORARY
extension CGroupManager {
    public func update(_ resources: Spec.Resources) throws(SystemError) -> [CGroupDirectory] { directories }
    public func freeze() throws(SystemError) {}
    public func thaw() throws(SystemError) {}
}
