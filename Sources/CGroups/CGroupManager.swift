// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
public import LinuxSystem
public import OCI

/// A zone's control groups, whatever version the host has.
///
/// A value of this type only names the groups: nothing exists until ``create(_:)``, so that a zone can be recorded
/// with ``directories`` before anything is made.
///
/// Errors: `.notSupported` for what this kernel or this version lacks, `.accessDenied`, `.notPermitted` or `.readOnly`
/// where the caller may not have a group, which lets the caller go on without; `.busy` where a group above has
/// processes of its own; else what the kernel said of a value, with file and value.
public protocol CGroupManager: Sendable {
    /// The groups, one in each hierarchy that is used.
    var directories: [CGroupDirectory] { get }

    /// Makes the groups and applies the limits. Undoes nothing on failure: ``remove()`` takes whatever exists.
    func create(_ resources: Spec.Resources) throws(SystemError)

    /// The groups that will be in use after ``update(_:undoing:)``, for the record before it.
    func directories(for resources: Spec.Resources) throws(SystemError) -> [CGroupDirectory]

    /// Changes limits of groups that exist; what is not spoken of stays. A version 1 group that the zone did without
    /// until now is made, and the zone is moved into it. Undoes nothing on failure: that is the journal's.
    func update(_ resources: Spec.Resources, undoing journal: CGroupJournal) throws(SystemError)

    /// Opens what a process needs to be put into the groups.
    func open() throws(SystemError) -> CGroupHandles

    /// Returns the processes in the groups and those below, by the host's pids.
    func processes() throws(SystemError) -> [Int32]

    /// How many processes the kernel has killed because the group's memory limit was reached.
    func memoryKills() throws(SystemError) -> Int

    /// Stops every process where it is, and returns when all are; `.timedOut` after 10 s, and then all run again.
    func freeze() throws(SystemError)

    /// Lets the processes run again.
    func thaw() throws(SystemError)

    /// Whether ``freeze()`` is in force.
    func isFrozen() throws(SystemError) -> Bool

    /// Reads what the groups have used. What the kernel does not tell is zero.
    func statistics() throws(SystemError) -> CGroupStatistics

    /// Watches for the memory limit being reached.
    func watchMemory() throws(SystemError) -> MemoryWatcher

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

// The same for every version: which files there are follows from the directories.
extension CGroupManager {
    public func directories(for resources: Spec.Resources) throws(SystemError) -> [CGroupDirectory] { directories }

    public func freeze() throws(SystemError) { try Freezer(directories).freeze() }

    public func thaw() throws(SystemError) { try Freezer(directories).thaw() }

    public func isFrozen() throws(SystemError) -> Bool { try Freezer(directories).isFrozen() }

    public func statistics() throws(SystemError) -> CGroupStatistics { try CGroupStatistics(directories) }

    public func watchMemory() throws(SystemError) -> MemoryWatcher { try MemoryWatcher(directories) }

    /// Removes the groups if nobody is in them nor below; `false` where some are left.
    public func removeIfEmpty() -> Bool {
        directories.allSatisfy { rmdir($0.path) == 0 || errno == ENOENT }
    }

    /// Kills every process in the groups and waits until they have ended; `false` after `milliseconds` without that.
    public func kill(milliseconds: Int = 5000) throws(SystemError) -> Bool {
        var waited = 0
        var delay: Int32 = 1
        while true {
            let processes = try processes()
            if processes.isEmpty { return true }
            if waited > milliseconds { return false }
            try CGroupFiles.killAll(processes, unified: directories.first { $0.hierarchy.isEmpty })
            // What version 1 has frozen does not notice that it was killed.
            if waited > 0, let freezer = Freezer(directories).legacy { try freezer.thaw() }
            pause(milliseconds: delay)
            waited += Int(delay)
            delay = min(delay * 2, 50)
        }
    }
}
