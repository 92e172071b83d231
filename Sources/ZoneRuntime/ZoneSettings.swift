// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
public import OCI

/// Changes a zone that there is: what it may use, and its labels. A zone that runs is changed while it runs.
///
///     lock               nobody starts, changes or removes the zone meanwhile
///     rules              burst and quota, memory and swap; nothing is written before they hold
///     what is in use     a limit below it would kill something
///     groups             as a whole: what the kernel refuses takes back what it took before
///     config.json        for exec and inspect
///     definition.json    for the next start
public struct ZoneSettings: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// What is to be changed.
    public struct Change: Sendable {
        public var limits = LimitChange()
        /// Added to those that there are, or in their place.
        public var labels: [String: String] = [:]
        public var restart: RestartPolicy?
        /// Bytes that the zone's own files may take, 0 for any.
        public var storage: Int64?
        public var network = NetworkChange()
        /// Takes a limit below what is in use, too, where the kernel does.
        public var isForced = false

        public init() {}
    }

    /// The limits of a zone, by its whole name.
    public struct Current: Sendable {
        public let name: String
        public let resources: Spec.Resources
    }

    /// Returns the limits that a zone has: of one that runs those it runs with.
    public func current(_ name: String) throws(ZoneError) -> Current {
        let entry = try store.find(name)
        try refuseBundle(entry)
        if entry.state.process != nil, let spec = try store.configuration(of: entry.name) {
            return Current(name: entry.name, resources: spec.linux?.resources ?? Spec.Resources())
        }
        return Current(name: entry.name, resources: try definition(entry.name).resources)
    }

    /// Makes the change; returns the zone's whole name.
    @discardableResult
    public func apply(_ change: Change, to wanted: String) throws(ZoneError) -> String {
        let found = try store.find(wanted)
        try refuseBundle(found)
        let claim = try store.lock(found.name)
        let name = claim.name
        let entry = store.entry(name)
        var definition = try definition(name)
        let former = definition
        try refuseLive(change, of: definition, entry)
        definition.resources = try change.limits.applied(to: former.resources)
        definition.labels.merge(change.labels) { $1 }
        if let restart = change.restart {
            try definition.refuseContradiction(with: restart)
            definition.restart = restart
        }
        if let storage = change.storage { definition.storage = storage == 0 ? nil : storage }
        var connected = try change.network.applied(to: former)
        try ZoneNetworks(store).change(former, to: &connected, entry, in: claim.persistent)
        (definition.networks, definition.ports) = (connected.networks, connected.ports)
        do throws(ZoneError) {
            try StorageChange(store).replace(connected, by: definition, entry, claim) {
                (definition) throws(ZoneError) in
                try replace(
                    connected, by: definition, naming: change.limits, isForced: change.isForced, entry,
                    in: claim.persistent)
            }
        } catch {
            var back = former
            try? ZoneNetworks(store).change(connected, to: &back, entry, in: claim.persistent)
            throw error
        }
        drop(claim)
        // systemd decides about the next start of a zone that is a service.
        if definition.restart != former.restart { try SystemdUnits(store).refresh(definition) }
        return name
    }

    /// Writes what a zone is from now on, and makes the limits that `change` names those of one that lives, all or nothing.
    /// Under the zone's lock.
    func replace(
        _ former: ZoneDefinition,
        by definition: ZoneDefinition,
        naming change: LimitChange,
        isForced: Bool,
        _ entry: ZoneStore.Entry,
        in persistent: borrowing Descriptor
    ) throws(ZoneError) {
        switch entry.state {
        case .created, .running, .paused: break
        // What its keeper reads before the next start.
        case .restarting, .stopped: return try store.write(definition, in: persistent)
        // Its own zonectl holds the lock, or has been killed.
        case .creating, .damaged: _ = try entry.state.runningProcess(for: "set", of: entry.name)
        }
        let name = entry.name
        guard let living = entry.record, let spec = try store.configuration(of: name) else {
            throw ZoneError(.wrongState, "set: zone \(name) is just being started", hint: "try again in a moment")
        }
        let volatile = try store.openVolatile(name)
        let use = LimitUse(living.groups, definition.resources)
        if !isForced { try use.check(change, zone: name) }
        let (update, reset) = change.update(from: former.resources, to: definition.resources)
        var groups = GroupChange(living)
        let record = { (record: ZoneRecord) throws(ZoneError) in try store.write(record, in: volatile) }
        try groups.apply(update, reset: reset, explain: { use.explain($0, zone: name) }, write: record)
        do throws(ZoneError) {
            try write(spec.with(definition, insteadOf: former), in: volatile, name)
            do throws(ZoneError) { try store.write(definition, in: persistent) } catch {
                // A disk that is full now held the old one a moment ago.
                try? write(spec, in: volatile, name)
                throw error
            }
        } catch {
            groups.undo(record)
            throw error
        }
    }

    /// What a machine has when it starts, it has until it ends.
    private func refuseLive(
        _ change: Change, of definition: ZoneDefinition, _ entry: ZoneStore.Entry
    ) throws(ZoneError) {
        guard definition.machine != nil, entry.state.isUp else { return }
        let next = try change.limits.applied(to: definition.resources)
        guard next.memory != definition.resources.memory else { return }
        throw ZoneError(
            .wrongState, "set: the memory of machine \(entry.name) cannot change while it runs",
            hint: "stop it first: 'zonectl stop \(entry.name)'")
    }

    private func definition(_ name: String) throws(ZoneError) -> ZoneDefinition {
        if let definition = try store.definition(of: name) { return definition }
        throw ZoneError(
            .wrongState, "set: the making or removal of zone \(name) was interrupted",
            hint: "'zonectl rm -f \(name)' removes it")
    }

    private func refuseBundle(_ entry: ZoneStore.Entry) throws(ZoneError) {
        if entry.record?.bundle == nil { return }
        throw ZoneError(
            .wrongState, "set: zone \(entry.name) was made from a bundle, and its limits are its engine's",
            hint: "'zonectl update \(entry.name)' changes them for this run")
    }

    private func write(_ spec: Spec, in volatile: borrowing Descriptor, _ name: String) throws(ZoneError) {
        do throws(SystemError) { try volatile.replaceFile("config.json", spec.serialized(), mode: 0o600) } catch {
            throw ZoneError("record zone \(name)", error)
        }
    }
}

extension Spec {
    /// The same with what a definition says of limits and labels. Devices stay: they are no limit.
    fileprivate func with(_ definition: ZoneDefinition, insteadOf former: ZoneDefinition) -> Spec {
        var spec = self
        for name in former.labels.keys { spec.annotations[name] = nil }
        spec.annotations.merge(definition.labels) { $1 }
        var resources = linux?.resources ?? Spec.Resources()
        resources.memory = definition.resources.memory
        resources.cpu = definition.resources.cpu
        resources.pids = definition.resources.pids
        resources.blockIO = definition.resources.blockIO
        spec.linux?.resources = resources
        return spec
    }
}
