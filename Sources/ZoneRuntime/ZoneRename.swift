// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

extension ZoneLifecycle {
    /// Gives a stopped zone another name. A zone that runs has its control groups and mounts under the old one.
    public func rename(_ name: String, to new: String) throws(ZoneError) {
        try ZoneName.validate(new)
        let found = try store.find(name)
        if found.record?.bundle != nil {
            throw ZoneError(.unsupported, "rename: zone \(found.name) is an engine's, which knows it by its id")
        }
        let claim = try store.lock(found.name)
        let old = claim.name
        let state = store.entry(old).state
        guard case .stopped = state else {
            throw ZoneError(
                .wrongState, "rename: zone \(old) is \(state.word)", hint: "stop it first: 'zonectl stop \(old)'")
        }
        try SystemdUnits(store).refuse("rename", old)
        try store.refuseBase("rename", old)
        if try store.isTaken(new) {
            throw ZoneError(.exists, "rename: name \"\(new)\" is taken by another zone", hint: "choose another one")
        }
        var record = try store.record(of: old)
        // They have the old name, which may soon be another zone's.
        if let record { try store.removeGroups(record) }
        record?.cgroups = []
        let isOthers = try store.isRootOthers(old)
        do throws(SystemError) {
            // The folder in the store first: with it goes the name. What was recorded of the last run is worth less, and a
            // record without a zone can be removed.
            let zones = try Descriptor.open(store.folders.zones, [.path, .directory])
            try zones.rename(old, to: new, replace: false)
            if record == nil {
                // What a removal that was killed has left of the last run would go on as a zone of the old name.
                if !isOthers, let root = try? Descriptor.open(store.folders.root, [.path, .directory]) {
                    try root.removeTree(old)
                }
            } else {
                do throws(SystemError) {
                    let root = try Descriptor.open(store.folders.root, [.path, .directory])
                    try root.rename(old, to: new, replace: false)
                } catch {
                    try? zones.rename(new, to: old, replace: false)
                    throw error
                }
            }
        } catch {
            if error.errno == .exists {
                throw ZoneError(.exists, "rename: name \"\(new)\" is taken by another zone", hint: "choose another one")
            }
            throw ZoneError("rename zone \(old) to \(new)", error)
        }
        record?.id = new
        if let record { try store.write(record, in: try store.openVolatile(new)) }
        drop(claim)
        EventLog(store.folders).record(.rename, zone: new, ["from": old])
    }
}

extension ZoneStore {
    /// Whether a name is some zone's, in the store or in the folder of states.
    func isTaken(_ name: String) throws(ZoneError) -> Bool {
        for path in [folders.persistent(name), folders.volatile(name)] {
            do throws(SystemError) {
                _ = try FileStatus.of(path, followLinks: false)
                return true
            } catch {
                if error.errno != .noEntry { throw ZoneError("look at zone \(name)", error) }
            }
        }
        return false
    }
}
