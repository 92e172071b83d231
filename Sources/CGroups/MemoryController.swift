// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `memory`: limits in bytes. Zeros are what engines send for "nothing said".
struct MemoryController: Controller {
    let name = "memory"

    func isAsked(_ resources: Spec.Resources) -> Bool {
        guard let memory = resources.memory else { return false }
        return said(memory.limit) != nil || said(memory.reservation) != nil || said(memory.swap) != nil
            || swappiness(memory) != nil || said(memory.kernel) != nil || said(memory.kernelTCP) != nil
            || memory.disableOOMKiller != nil
    }

    // MARK: Version 2

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let memory = resources.memory else { return }
        try refuseLegacy(memory, group)
        // Counted before anything is written, as it may be wrong.
        let swap = try unifiedSwap(memory, group)
        try checkUse(memory, group)
        if let limit = said(memory.limit) { try group.write("memory.max", text(limit)) }
        if let swap {
            do throws(SystemError) { try group.write("memory.swap.max", swap) } catch {
                // Without swap accounting there is nothing to limit; docker's users get their memory limit all the same.
                if error.errno != .noEntry { throw error }
            }
        }
        if let reservation = said(memory.reservation) {
            // A soft limit that is taken away protects nothing; "max" would protect everything.
            try group.write("memory.low", reservation < 0 ? "0" : String(reservation))
        }
    }

    private func refuseLegacy(_ memory: Spec.Memory, _ group: borrowing CGroupFiles) throws(SystemError) {
        let suffix = "needs cgroup version 1"
        if memory.disableOOMKiller == true { throw group.unsupported("memory.disableOOMKiller \(suffix)") }
        if swappiness(memory) != nil { throw group.unsupported("memory.swappiness \(suffix)") }
        if let kernel = memory.kernel, kernel > 0 { throw group.unsupported("memory.kernel \(suffix)") }
        if let kernel = memory.kernelTCP, kernel > 0 { throw group.unsupported("memory.kernelTCP \(suffix)") }
    }

    /// OCI counts memory and swap together, version 2 counts swap alone.
    private func unifiedSwap(_ memory: Spec.Memory, _ group: borrowing CGroupFiles) throws(SystemError) -> String? {
        guard let swap = said(memory.swap) else {
            // Unlimited memory, and swap not spoken of, is unlimited swap, as on version 1.
            return said(memory.limit).flatMap { $0 < 0 && !group.isNew ? "max" : nil }
        }
        if swap < 0 { return "max" }
        var limit = said(memory.limit)
        if limit == nil, !group.isNew { limit = try group.readIfThere("memory.max").flatMap { Int64($0) } }
        guard let limit, limit >= 0 else {
            throw SystemError("limit", "memory.swap = \(swap) without a memory limit", .invalid)
        }
        if swap < limit {
            throw SystemError("limit", "memory.swap = \(swap) is below memory.limit = \(limit)", .invalid)
        }
        return String(swap - limit)
    }

    /// Version 1's kernel refuses by itself what cannot be reclaimed; version 2's would call the OOM killer.
    private func checkUse(_ memory: Spec.Memory, _ group: borrowing CGroupFiles) throws(SystemError) {
        guard memory.checkBeforeUpdate == true, !group.isNew, let limit = said(memory.limit), limit > 0,
            let used = try group.readIfThere("memory.current").flatMap({ Int64($0) }), limit <= used
        else { return }
        throw SystemError("limit", "memory.limit = \(limit) is not above the \(used) bytes in use", .busy)
    }

    // MARK: Version 1

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let memory = resources.memory else { return }
        try writeLimits(memory, group)
        if let reservation = said(memory.reservation) {
            try group.write("memory.soft_limit_in_bytes", String(reservation))
        }
        if let kernel = said(memory.kernel) {
            try group.write("memory.kmem.limit_in_bytes", String(kernel), for: "memory.kernel")
        }
        if let kernel = said(memory.kernelTCP) {
            try group.write("memory.kmem.tcp.limit_in_bytes", String(kernel), for: "memory.kernelTCP")
        }
        if let swappiness = swappiness(memory) {
            try group.write("memory.swappiness", String(swappiness), for: "memory.swappiness")
        }
        if let disable = memory.disableOOMKiller, disable || !group.isNew {
            try group.write("memory.oom_control", disable ? "1" : "0", for: "memory.disableOOMKiller")
        }
    }

    /// The kernel keeps the limit of both at or above the limit of memory: a lower pair is written memory first, a higher
    /// one the other way round, and the kernel says which it is.
    private func writeLimits(_ memory: Spec.Memory, _ group: borrowing CGroupFiles) throws(SystemError) {
        var swap = said(memory.swap)
        if swap == nil, memory.limit == -1, !group.isNew { swap = -1 }
        guard let limit = said(memory.limit) else {
            if let swap { try writeSwap(swap, group) }
            return
        }
        do throws(SystemError) { try group.write("memory.limit_in_bytes", String(limit)) } catch {
            guard error.errno == .invalid, let swap else { throw error }
            try writeSwap(swap, group)
            return try group.write("memory.limit_in_bytes", String(limit))
        }
        if let swap { try writeSwap(swap, group) }
    }

    private func writeSwap(_ bytes: Int64, _ group: borrowing CGroupFiles) throws(SystemError) {
        do throws(SystemError) { try group.write("memory.memsw.limit_in_bytes", String(bytes)) } catch {
            if error.errno != .noEntry { throw error }
        }
    }

    /// Engines send -1, as an unsigned number, for "nothing said".
    private func swappiness(_ memory: Spec.Memory) -> UInt64? {
        memory.swappiness.flatMap { $0 == .max ? nil : $0 }
    }

    private func text(_ bytes: Int64) -> String { bytes < 0 ? "max" : String(bytes) }
}
