// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// No group at all: the zone stays in its caller's. What would need one is refused.
struct DisabledCGroups: CGroupManager {
    var directories: [CGroupDirectory] { [] }

    func create(_ resources: Spec.Resources) throws(SystemError) {
        var asked = CGroups.controllers.filter { $0.isAsked(resources) }.map(\.name)
        if !resources.unified.isEmpty { asked.append("unified") }
        if asked.isEmpty { return }
        throw refusal(asked.joined(separator: ", "))
    }

    func update(_ resources: Spec.Resources, undoing journal: CGroupJournal) throws(SystemError) {
        try create(resources)
    }

    func open() -> CGroupHandles { CGroupHandles() }
    func processes() -> [Int32] { [] }
    func memoryKills() -> Int { 0 }
    func remove() {}
    func freeze() throws(SystemError) { throw refusal("freezing") }
    func thaw() throws(SystemError) { throw refusal("thawing") }
    func isFrozen() -> Bool { false }
    func statistics() -> CGroupStatistics { CGroupStatistics() }
    func watchMemory() throws(SystemError) -> MemoryWatcher { throw refusal("watching memory") }

    private func refusal(_ what: String) -> SystemError {
        SystemError("limit", "\(what): control groups are disabled for this zone", .notSupported)
    }
}
