// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `rdma`: handles and objects of each RDMA device; the same file in both versions.
struct RDMAController: Controller {
    let name = "rdma"

    func isAsked(_ resources: Spec.Resources) -> Bool { !resources.rdma.isEmpty }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        for (device, limit) in resources.rdma.sorted(by: { $0.key < $1.key }) {
            var line = device
            if let handles = limit.hcaHandles { line += " hca_handle=\(handles)" }
            if let objects = limit.hcaObjects { line += " hca_object=\(objects)" }
            // The kernel would take a blank in the name for the end of it.
            guard !device.isEmpty, !device.utf8.contains(where: { $0 <= UInt8(ascii: " ") }) else {
                throw SystemError("limit", "rdma: \"\(device)\" is no device name", .invalid)
            }
            if line != device { try group.write("rdma.max", line) }
        }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        try applyUnified(resources, to: group)
    }
}
