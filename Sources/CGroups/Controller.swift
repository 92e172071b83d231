// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A controller's part: which files hold its limits. What the kernel lacks is an error that names it.
protocol Controller: Sendable {
    /// Version 1's name.
    var name: String { get }
    /// Version 2's name; `nil` where there is nothing to enable.
    var unifiedName: String? { get }
    /// Whether the limits need this controller.
    func isAsked(_ resources: Spec.Resources) -> Bool
    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError)
    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError)
}

extension Controller {
    var unifiedName: String? { name }
}

extension CGroups {
    /// All controllers, each in its own file. The device filter is last: the one that an ordinary user never gets.
    static let controllers: [any Controller] = [
        MemoryController(), CPUController(), CPUSetController(), PidsController(), BlockIOController(),
        HugetlbController(), RDMAController(), NetworkClassController(), NetworkPriorityController(),
        DeviceController(),
    ]

    /// The names of the controllers that these limits need, after a look at whether this host has them.
    static func asked(_ resources: Spec.Resources, _ layout: CGroupLayout) throws(SystemError) -> [String] {
        let asked = controllers.filter { $0.isAsked(resources) }.map(\.name)
        let legacy = layout.legacy.flatMap(\.controllers)
        // What the kernel lacks is named, never ignored.
        for name in asked where !legacy.contains(name) { try requireUnified(name, layout) }
        if !resources.unified.isEmpty {
            guard layout.unified != nil else {
                throw SystemError("limit", "unified is for cgroup version 2", .notSupported)
            }
            try LegacyCGroups.checkUnified(resources, legacy)
        }
        return asked
    }

    /// Throws where the version 2 hierarchy, if any, has no such controller either.
    static func requireUnified(_ name: String, _ layout: CGroupLayout) throws(SystemError) {
        let missing = SystemError("limit", "cgroup controller \(name) is not mounted on this host", .notSupported)
        guard let root = layout.unified, let controller = controllers.first(where: { $0.name == name }) else {
            throw missing
        }
        guard let unifiedName = controller.unifiedName else {
            // The device filter is a program and needs no controller; those for the network are gone.
            if name == "devices" { return }
            throw SystemError("limit", "cgroup controller \(name) needs version 1", .notSupported)
        }
        let text = try CGroupFiles(root).readIfThere("cgroup.controllers") ?? ""
        if !text.split(separator: " ").contains(Substring(unifiedName)) { throw missing }
    }
}
