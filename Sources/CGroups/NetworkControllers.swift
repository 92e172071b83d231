// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `net_cls`: a mark on the packets of a group's sockets; version 1 only.
struct NetworkClassController: Controller {
    let name = "net_cls"
    var unifiedName: String? { nil }

    func isAsked(_ resources: Spec.Resources) -> Bool { said(resources.network?.classID) != nil }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if isAsked(resources) { throw group.unsupported("network.classID needs cgroup version 1") }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if let mark = said(resources.network?.classID) { try group.write("net_cls.classid", String(mark)) }
    }
}

/// `net_prio`: the priority of a group's packets on each interface; version 1 only.
struct NetworkPriorityController: Controller {
    let name = "net_prio"
    var unifiedName: String? { nil }

    func isAsked(_ resources: Spec.Resources) -> Bool { resources.network?.priorities.isEmpty == false }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if isAsked(resources) { throw group.unsupported("network.priorities needs cgroup version 1") }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        for item in resources.network?.priorities ?? [] {
            try group.write("net_prio.ifpriomap", "\(item.name) \(item.priority)")
        }
    }
}
