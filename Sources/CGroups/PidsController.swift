// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `pids`: how many tasks there may be.
struct PidsController: Controller {
    let name = "pids"

    func isAsked(_ resources: Spec.Resources) -> Bool { resources.pids != nil }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let limit = resources.pids?.limit, limit > 0 || !group.isNew else { return }
        try group.write("pids.max", limit > 0 ? String(limit) : "max")
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        try applyUnified(resources, to: group)
    }
}
