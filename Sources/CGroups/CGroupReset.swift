// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// A limit that no value of `Spec.Resources` takes away again.
public enum CGroupReset: Sendable, Equatable {
    case cpus, memoryNodes, blockIOWeight
}

extension CGroupManager {
    /// Gives limits the values of a group for which nobody asked. Where there is no group there is nothing to reset.
    public func reset(_ limits: [CGroupReset], undoing journal: CGroupJournal) throws(SystemError) {
        for limit in limits {
            for directory in directories {
                let isUnified = directory.hierarchy.isEmpty
                let group = try CGroupFiles(directory.path, journal: journal)
                switch limit {
                case .cpus where isUnified || directory.controllers.contains("cpuset"):
                    try group.resetSet("cpuset.cpus", isUnified: isUnified)
                case .memoryNodes where isUnified || directory.controllers.contains("cpuset"):
                    try group.resetSet("cpuset.mems", isUnified: isUnified)
                case .blockIOWeight where isUnified || directory.controllers.contains("blkio"):
                    // Which of them there is depends on version and scheduler; 100 is the default of all but one.
                    for file in ["io.weight", "io.bfq.weight", "blkio.bfq.weight"] where group.exists(file) {
                        try group.write(file, "100")
                    }
                    if group.exists("blkio.weight") { try group.write("blkio.weight", "500") }
                default: break
                }
            }
        }
    }
}

extension CGroupFiles {
    /// Version 2 takes an empty list for "as above"; version 1 has to be told what that is.
    fileprivate func resetSet(_ file: String, isUnified: Bool) throws(SystemError) {
        if !exists(file) { return }
        guard let slash = path.lastIndex(of: "/") else { return }
        let parent = try CGroupFiles(String(path[..<slash]))
        if !isUnified { return try write(file, try parent.read(file)) }
        do throws(SystemError) { try write(file, "\n") } catch {
            // Some kernels refuse that to a group with processes in it (Linux 6.1): then all that there are.
            guard error.errno == .noSpace else { throw error }
            try write(file, try parent.read("\(file).effective"))
        }
    }
}
