// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// `cpu`: shares of CPU time and a cap on it. Zeros are what engines send for "nothing said".
struct CPUController: Controller {
    let name = "cpu"

    func isAsked(_ resources: Spec.Resources) -> Bool {
        guard let cpu = resources.cpu else { return false }
        return said(cpu.shares) != nil || said(cpu.quota) != nil || said(cpu.period) != nil || cpu.burst != nil
            || cpu.idle != nil || said(cpu.realtimeRuntime) != nil || said(cpu.realtimePeriod) != nil
    }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let cpu = resources.cpu else { return }
        if said(cpu.realtimeRuntime) != nil || said(cpu.realtimePeriod) != nil {
            throw group.unsupported("cpu.realtimeRuntime and realtimePeriod need cgroup version 1")
        }
        let weight = said(cpu.shares).map { String(CPUController.weight(shares: $0)) }
        try writeWeight("cpu.weight", weight, idle: cpu.idle, to: group)
        let rest = try writeLowerBurst("cpu.max.burst", cpu.burst, to: group)
        try writeQuota(cpu, to: group)
        if let rest { try group.write("cpu.max.burst", String(rest), for: "cpu.burst") }
    }

    private func writeQuota(_ cpu: Spec.CPU, to group: borrowing CGroupFiles) throws(SystemError) {
        let quota = said(cpu.quota)
        guard quota != nil || said(cpu.period) != nil else { return }
        var first = "max"
        if let quota {
            if quota > 0 { first = String(quota) }
        } else if !group.isNew, let now = try group.readIfThere("cpu.max")?.split(separator: " ").first {
            // A new period leaves the quota as it is.
            first = String(now)
        }
        try group.write("cpu.max", said(cpu.period).map { "\(first) \($0)" } ?? first)
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let cpu = resources.cpu else { return }
        try writeWeight("cpu.shares", said(cpu.shares).map { String($0) }, idle: cpu.idle, to: group)
        let rest = try writeLowerBurst("cpu.cfs_burst_us", cpu.burst, to: group)
        try writeBoth(
            ("cpu.cfs_period_us", said(cpu.period).map { String($0) }),
            ("cpu.cfs_quota_us", said(cpu.quota).map { String($0) }), to: group)
        if let rest { try group.write("cpu.cfs_burst_us", String(rest), for: "cpu.burst") }
        // The runtime must fit into the period, whichever of them grows; and into what the groups above may use.
        let what = "real-time scheduling"
        if said(cpu.realtimeRuntime) != nil || said(cpu.realtimePeriod) != nil, !group.exists("cpu.rt_runtime_us") {
            throw group.unsupported("\(what): this kernel has no cpu.rt_runtime_us")
        }
        try writeBoth(
            ("cpu.rt_period_us", said(cpu.realtimePeriod).map { String($0) }),
            ("cpu.rt_runtime_us", said(cpu.realtimeRuntime).map { String($0) }), to: group)
    }

    /// A group that is idle takes no weight, so that one which becomes idle is weighed before, and one that ceases to
    /// be so after.
    private func writeWeight(
        _ file: String, _ weight: String?, idle: Int64?, to group: borrowing CGroupFiles
    ) throws(SystemError) {
        let isStart = group.isNew && idle == 0
        if let idle, idle == 0, !isStart { try group.write("cpu.idle", "0", for: "cpu.idle") }
        if let weight {
            do throws(SystemError) { try group.write(file, weight) } catch {
                // It is idle already and stays so.
                if !(error.errno == .invalid && idle == 1 && !group.isNew) { throw error }
            }
        }
        if let idle, idle != 0 { try group.write("cpu.idle", String(idle), for: "cpu.idle") }
    }

    /// The burst may not exceed the quota: a lower one comes before a lower quota, a higher one after a higher quota.
    /// Returns what is still to be written.
    private func writeLowerBurst(
        _ file: String, _ burst: UInt64?, to group: borrowing CGroupFiles
    ) throws(SystemError) -> UInt64? {
        guard let burst else { return nil }
        if group.isNew { return said(burst) }
        do throws(SystemError) { try group.write(file, String(burst), for: "cpu.burst") } catch {
            if error.errno == .invalid { return burst }
            throw error
        }
        return nil
    }

    /// Writes the first and the second; the other way round where the kernel finds that the first does not fit yet.
    private func writeBoth(
        _ first: (file: String, value: String?), _ second: (file: String, value: String?),
        to group: borrowing CGroupFiles
    ) throws(SystemError) {
        guard let value = first.value else {
            if let other = second.value { try group.write(second.file, other) }
            return
        }
        guard let other = second.value else { return try group.write(first.file, value) }
        do throws(SystemError) { try group.write(first.file, value) } catch {
            if error.errno != .invalid { throw error }
            try group.write(second.file, other)
            return try group.write(first.file, value)
        }
        try group.write(second.file, other)
    }

    /// Converts version 1's shares (2…262144, 1024 by default) into version 2's weight (1…10000, 100 by default), so
    /// that both ends and both defaults meet: a parabola in log₂, the one that runc and crun agreed on in 2025.
    static func weight(shares: UInt64) -> UInt64 {
        guard shares > 0 else { return 0 }
        let exponent = log2(Double(min(max(shares, 2), 262_144)))
        let weight = pow(10, (exponent * exponent + 125 * exponent) / 612 - 7.0 / 34)
        return UInt64(min(max(weight.rounded(.up), 1), 10_000))
    }
}

/// The value where something is said: engines send 0 for what nobody asked for.
func said<Value: BinaryInteger>(_ value: Value?) -> Value? {
    value == 0 ? nil : value
}
