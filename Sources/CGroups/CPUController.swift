// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// `cpu`: shares of CPU time and a cap on it.
struct CPUController: Controller {
    let name = "cpu"

    func isAsked(_ resources: Spec.Resources) -> Bool {
        guard let cpu = resources.cpu else { return false }
        return cpu.shares != nil || cpu.quota != nil || cpu.period != nil || cpu.burst != nil || cpu.idle != nil
    }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let cpu = resources.cpu else { return }
        if let shares = cpu.shares { try group.write("cpu.weight", String(CPUController.weight(shares: shares))) }
        if cpu.quota != nil || cpu.period != nil {
            let quota = cpu.quota.flatMap { $0 > 0 ? String($0) : nil } ?? "max"
            try group.write("cpu.max", cpu.period.map { "\(quota) \($0)" } ?? quota)
        }
        if let burst = cpu.burst { try group.write("cpu.max.burst", String(burst)) }
        if let idle = cpu.idle { try group.write("cpu.idle", String(idle)) }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let cpu = resources.cpu else { return }
        if let shares = cpu.shares { try group.write("cpu.shares", String(shares)) }
        if let period = cpu.period { try group.write("cpu.cfs_period_us", String(period)) }
        if let quota = cpu.quota { try group.write("cpu.cfs_quota_us", String(quota)) }
        if let burst = cpu.burst { try group.write("cpu.cfs_burst_us", String(burst)) }
        if let idle = cpu.idle { try group.write("cpu.idle", String(idle)) }
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
