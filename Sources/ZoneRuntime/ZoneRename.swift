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
        // Its groups have the old name, which may soon be another zone's.
        let record = try store.record(of: old)
        if let record { try store.removeGroups(record) }
        try move(old, to: new, LastRun(record, store.folders.volatile(old)))
        if let definition = try store.definition(of: new), !definition.networks.isEmpty {
            NetworkLeases(store).rename(definition.networks, to: new)
            // Where its keeper was killed, its last run's name is still known.
            for network in definition.networks { NetworkNames(store.folders).remove(old, network.name) }
        }
        drop(claim)
        EventLog(store.folders).record(.rename, zone: new, ["from": old])
    }

    /// Moves the zone, and what is recorded of its last run. That is removed first and written again at the end: killed
    /// in between, the zone has one name or the other, nothing goes by the old one beside it, and all that is lost is how its
    /// last run ended.
    private func move(_ old: String, to new: String, _ last: LastRun?) throws(ZoneError) {
        if try !store.isRootOthers(old) { try store.eraseBundle(old, cgroups: []) }
        do throws(SystemError) {
            let zones = try Descriptor.open(store.folders.zones, [.path, .directory])
            try zones.rename(old, to: new, replace: false)
        } catch {
            try? last?.write(in: store, as: old)
            if error.errno == .exists {
                throw ZoneError(.exists, "rename: name \"\(new)\" is taken by another zone", hint: "choose another one")
            }
            throw ZoneError("rename zone \(old) to \(new)", error)
        }
        do throws(ZoneError) { try last?.write(in: store, as: new) } catch {
            // Perhaps another store's zone has the name there by now.
            if let zones = try? Descriptor.open(store.folders.zones, [.path, .directory]),
                (try? zones.rename(new, to: old, replace: false)) != nil
            {
                try? last?.write(in: store, as: old)
            }
            throw error
        }
    }
}

/// What ROOT/NAME says of a zone that has ended.
private struct LastRun {
    private var record: ZoneRecord
    private let configuration: [UInt8]?

    init?(_ record: ZoneRecord?, _ folder: String) {
        guard let record else { return nil }
        self.record = record
        self.record.cgroups = []
        configuration = try? readHostFile("\(folder)/config.json")
    }

    func write(in store: ZoneStore, as name: String) throws(ZoneError) {
        var record = record
        record.id = name
        let folder = try store.makeVolatile(name)
        try store.write(record, in: folder)
        guard let configuration else { return }
        try attempting("record the configuration of zone \(name)") { () throws(SystemError) in
            try folder.replaceFile("config.json", configuration, mode: 0o600)
        }
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
