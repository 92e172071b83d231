// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
import OCI

/// What a zone uses, against the limits that it is to get.
struct LimitUse {
    private let groups: any CGroupManager
    private let wanted: Spec.Resources

    init(_ groups: any CGroupManager, _ wanted: Spec.Resources) {
        self.groups = groups
        self.wanted = wanted
    }

    /// Refuses a limit below what is in use. Version 1's kernel would refuse it as well, but only after writing out what it
    /// can; version 2's kills.
    func check(_ change: LimitChange, zone: String) throws(ZoneError) {
        if (change.memory ?? 0) > 0, let limit = wanted.memory?.limit, let used = memory, used > limit {
            throw ZoneError(
                .wrongState,
                "set: --memory \(ByteSize.text(limit)) of zone \(zone) is below the \(ByteSize.text(used)) in use",
                hint: "give at least that, or 'zonectl set --force' to let the kernel swap or kill what does not fit")
        }
        if (change.pids ?? 0) > 0, let limit = wanted.pids?.limit, let used = tasks, used > limit {
            throw ZoneError(
                .wrongState, "set: --pids-limit \(limit) of zone \(zone) is below the \(used) tasks that it has",
                hint:
                    "give at least that, or 'zonectl set --force': those that it has stay, and no new one comes until they are fewer"
            )
        }
    }

    /// Bytes that the kernel cannot take back by dropping what is also in files; `nil` where it does not tell.
    private var memory: Int64? {
        guard let memory = try? groups.statistics().memory, memory.usage.usage > 0 else { return nil }
        // Version 1 has its own and, with this prefix, those of the groups below, too.
        let prefix = memory.raw["total_inactive_file"] == nil ? "" : "total_"
        let files = ["inactive_file", "active_file"].map { memory.raw[prefix + $0] ?? 0 }
        return Int64(clamping: memory.usage.usage - min(memory.usage.usage, files[0] &+ files[1]))
    }

    private var tasks: Int64? {
        (try? groups.statistics()).map { Int64(clamping: $0.pids.current) }
    }

    /// Says which limit the kernel has refused, and why.
    func explain(_ error: SystemError, zone: String) -> ZoneError {
        let file = error.subject.pathComponents.last ?? ""
        let option = LimitUse.options.first { file.hasPrefix($0.file) }?.option
        let what = option.map { "set: \($0) of zone \(zone)" } ?? "set: limits of zone \(zone)"
        var hint = "nothing was changed"
        switch error.errno {
        case .busy where option == "--memory":
            let used = memory.map { ": \(ByteSize.text($0)) are in use" } ?? ""
            let limit = wanted.memory?.limit.map { " and do not fit into \(ByteSize.text($0))" } ?? ""
            return ZoneError(.wrongState, "\(what)\(used)\(used.isEmpty ? "" : limit): \(error)", hint: hint)
        case _ where file.hasPrefix("cpuset."):
            hint += "; this host, or the group above, may not have what is asked for: see /sys/fs/cgroup and lscpu(1)"
        default: break
        }
        return ZoneError(error.errno == .notSupported ? .unsupported : .system, "\(what): \(error)", hint: hint)
    }

    /// The first that a file's name begins with counts.
    private static let options = [
        ("memory.memsw", "--memory-swap"), ("memory.swap", "--memory-swap"),
        ("memory.soft_limit", "--memory-reservation"), ("memory.low", "--memory-reservation"),
        ("memory.oom_control", "--oom-kill-disable"), ("memory.", "--memory"), ("cpu.shares", "--cpu-shares"),
        ("cpu.weight", "--cpu-shares"), ("cpu.cfs_burst", "--burst"), ("cpu.max.burst", "--burst"), ("cpu.", "--cpus"),
        ("cpuset.cpus", "--cpuset-cpus"), ("cpuset.mems", "--cpuset-mems"), ("pids.", "--pids-limit"),
        ("blkio.throttle.read_bps", "--device-read-bps"), ("blkio.throttle.write_bps", "--device-write-bps"),
        ("blkio.throttle.read_iops", "--device-read-iops"), ("blkio.throttle.write_iops", "--device-write-iops"),
        ("io.max", "a rate of --device-…"), ("blkio.", "--blkio-weight"), ("io.", "--blkio-weight"),
    ].map { (file: $0.0, option: $0.1) }
}
