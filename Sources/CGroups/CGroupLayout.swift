// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// Which control group hierarchies the host has, and where they are mounted; see cgroups(7).
public struct CGroupLayout: Sendable, Equatable {
    /// A version 1 hierarchy.
    public struct Hierarchy: Sendable, Equatable {
        public let controllers: [String]
        public let mountPoint: String

        /// As it appears below /sys/fs/cgroup: `memory`, or `cpu,cpuacct`.
        var name: String { controllers.count == 1 ? controllers[0] : controllers.joined(separator: ",") }
    }

    /// Where version 2 is mounted. With controllers of version 1 beside it (a hybrid host) it has few or none itself,
    /// but still finds, kills and freezes all processes of a group at once.
    public let unified: String?
    public let legacy: [Hierarchy]

    public init(unified: String?, legacy: [Hierarchy]) {
        self.unified = unified
        self.legacy = legacy
    }

    /// Reads the calling process's mounts.
    public static func ofHost() throws(SystemError) -> CGroupLayout {
        CGroupLayout(mountInfo: try readHostFile("/proc/self/mountinfo"))
    }

    /// Parses the text of proc_pid_mountinfo(5).
    init(mountInfo: [UInt8]) {
        var unified: String?
        var legacy: [Hierarchy] = []
        for line in mountInfo.split(separator: UInt8(ascii: "\n")) {
            // Most lines are no cgroup: look for the type before taking a line apart.
            guard CGroupLayout.speaksOfGroups(line) else { continue }
            let fields = line.split(separator: UInt8(ascii: " "))
            guard let dash = fields.firstIndex(where: { $0.elementsEqual([UInt8(ascii: "-")]) }), dash >= 6,
                fields.count > dash + 3, fields[dash + 1].starts(with: "cgroup".utf8)
            else { continue }
            let mountPoint = MountInfo.decode(fields[4])
            // Only whole hierarchies: a bind mount of one group inside another is not a place for ours.
            guard String(decoding: fields[3], as: UTF8.self) == "/" else { continue }
            if fields[dash + 1].elementsEqual("cgroup2".utf8) {
                if unified == nil { unified = mountPoint }
                continue
            }
            let options = String(decoding: fields[dash + 3], as: UTF8.self).fields(",")
            let controllers = options.filter { CGroupLayout.knownControllers.contains($0) }
            if !controllers.isEmpty, !legacy.contains(where: { $0.controllers == controllers }) {
                legacy.append(Hierarchy(controllers: controllers, mountPoint: mountPoint))
            }
        }
        self.init(unified: unified, legacy: legacy)
    }

    /// Whether `- cgroup` is in a line: what it says besides is for who takes it apart.
    private static func speaksOfGroups(_ line: ArraySlice<UInt8>) -> Bool {
        var rest = line
        while let dash = rest.firstIndex(of: UInt8(ascii: "-")) {
            if rest[dash...].starts(with: "- cgroup".utf8) { return true }
            rest = rest[(dash + 1)...]
        }
        return false
    }

    private static let knownControllers = [
        "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio",
        "perf_event", "rdma", "misc",
    ]
}
