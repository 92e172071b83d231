// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `memory`: limits in bytes.
struct MemoryController: Controller {
    let name = "memory"

    func isAsked(_ resources: Spec.Resources) -> Bool {
        guard let memory = resources.memory else { return false }
        return memory != Spec.Memory()
    }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let memory = resources.memory else { return }
        if let limit = memory.limit { try group.write("memory.max", text(limit)) }
        if let reservation = memory.reservation { try group.write("memory.low", text(reservation)) }
        // OCI counts memory and swap together, version 2 counts swap alone.
        if let swap = memory.swap, group.exists("memory.swap.max") {
            try group.write("memory.swap.max", swap < 0 ? "max" : text(max(0, swap - max(0, memory.limit ?? 0))))
        }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let memory = resources.memory else { return }
        // In this order: the kernel refuses memsw below the limit.
        if let limit = memory.limit { try group.write("memory.limit_in_bytes", String(limit)) }
        if let swap = memory.swap, group.exists("memory.memsw.limit_in_bytes") {
            try group.write("memory.memsw.limit_in_bytes", String(swap))
        }
        if let reservation = memory.reservation {
            try group.write("memory.soft_limit_in_bytes", String(reservation))
        }
        if let swappiness = memory.swappiness { try group.write("memory.swappiness", String(swappiness)) }
    }

    private func text(_ bytes: Int64) -> String { bytes < 0 ? "max" : String(bytes) }
}
