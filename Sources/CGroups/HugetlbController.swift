// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `hugetlb`: huge pages, in bytes for each page size.
struct HugetlbController: Controller {
    let name = "hugetlb"

    func isAsked(_ resources: Spec.Resources) -> Bool { !resources.hugepageLimits.isEmpty }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        try apply(resources, to: group, suffix: "max")
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        try apply(resources, to: group, suffix: "limit_in_bytes")
    }

    private func apply(
        _ resources: Spec.Resources, to group: borrowing CGroupFiles, suffix: String
    ) throws(SystemError) {
        for limit in resources.hugepageLimits {
            let size = limit.pageSize
            guard HugetlbController.isPageSize(size) else {
                throw SystemError("limit", "hugepageLimits: \"\(size)\" is no page size such as 2MB", .invalid)
            }
            let what = "hugepageLimits \(size)"
            try group.write("hugetlb.\(size).\(suffix)", String(limit.limit), for: what)
            // Reservations count from the mapping on, pages from their first use: without both limits a process is
            // killed by SIGBUS where it should have got an error. Linux 5.7.
            if group.exists("hugetlb.\(size).rsvd.\(suffix)") {
                try group.write("hugetlb.\(size).rsvd.\(suffix)", String(limit.limit))
            }
        }
    }

    /// A number and a unit: the text becomes part of a file's name.
    static func isPageSize(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count > 2, bytes.count < 16, bytes.last == UInt8(ascii: "B"),
            "KMG".utf8.contains(bytes[bytes.count - 2]), bytes[0] != UInt8(ascii: "0")
        else { return false }
        return bytes.dropLast(2).allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
}
