// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem

/// What `apply` did, or would do.
public enum ApplyOutcome: Sendable, Equatable {
    case created
    case unchanged
    /// Names of the members that differ. `restarts`: the zone was, or would be, stopped and started again.
    case changed([String], restarts: Bool)
}

extension ZoneLifecycle {
    /// Members that change while a zone runs: through its groups, or as what its keeper reads when it matters.
    private static let liveMembers = [
        "resources", "labels", "restart", "stopSignal", "stopTimeout", "networks", "ports",
    ]

    /// Makes a zone what its definition says: one that is not there is made, one that is stopped is changed for its next
    /// start, what can change in a running zone is changed. What cannot is an error, unless it may be restarted
    /// (`restarts`). `dryRun` does nothing.
    public func apply(_ wanted: ZoneDefinition, restarts: Bool, dryRun: Bool) throws(ZoneError) -> ApplyOutcome {
        do throws(DefinitionFault) { try wanted.verify() } catch {
            throw ZoneError(.invalid, "zone \(wanted.name): \(error.detail)", hint: error.hint)
        }
        let name = wanted.name
        guard try store.isTaken(name) else {
            if !dryRun { _ = try create(wanted, name: name) }
            return .created
        }
        let entry = store.entry(name)
        if let bundle = entry.record?.bundle {
            throw ZoneError(.exists, "apply: name \"\(name)\" is taken by a container of the bundle \(bundle)")
        }
        let claim = try store.lock(name)
        guard let former = try store.definition(of: name) else {
            throw ZoneError(
                .wrongState, "apply: the making of zone \(name) was interrupted",
                hint: "'zonectl rm -f \(name)' removes what there is of it")
        }
        var next = try resolved(wanted, former)
        let members = next.differences(from: former)
        if members.isEmpty { return .unchanged }
        let current = store.entry(name)
        let state = current.state
        let limits = LimitChange(from: former.resources, to: next.resources)
        var isRestart = false
        switch state {
        case .stopped: break
        case .running, .paused, .restarting:
            isRestart = limits == nil || !members.allSatisfy { ZoneLifecycle.liveMembers.contains($0) }
            if isRestart, !restarts {
                throw ZoneError(
                    .wrongState,
                    "apply: zone \(name) is \(state.word), and cannot change meanwhile: \(members.joined(separator: ", "))",
                    hint: "stop it first, or give --restart")
            }
        case .creating, .created, .damaged: _ = try state.runningProcess(for: "apply", of: name)
        }
        if dryRun { return .changed(members, restarts: isRestart) }
        if !isRestart {
            try check(next, try image(of: next))
            var connected = former
            (connected.networks, connected.ports) = (next.networks, next.ports)
            try ZoneNetworks(store).change(former, to: &connected, current, in: claim.persistent)
            (next.networks, next.ports) = (connected.networks, connected.ports)
            do throws(ZoneError) {
                try StorageChange(store).replace(connected, by: next, current, claim) { (next) throws(ZoneError) in
                    try ZoneSettings(store.folders).replace(
                        connected, by: next, naming: limits ?? LimitChange(), isForced: false, current,
                        in: claim.persistent)
                }
            } catch {
                var back = former
                try? ZoneNetworks(store).change(connected, to: &back, current, in: claim.persistent)
                throw error
            }
        }
        drop(claim)
        if isRestart {
            try StorageChange.verify(former, next)
            // No network goes before the definition says who is in it.
            let networks = try NetworkStore(store).provided(for: next)
            defer { networks?.unlock() }
            do throws(ZoneError) {
                try NetworkLeases(store).lease(&next, former: former.networks)
                try ZonePorts.choose(&next)
                try restart(with: next) { networks?.unlock() }
            } catch {
                let kept = ((try? store.definition(of: name)) ?? nil)?.networks ?? former.networks
                NetworkLeases(store).release(next.networks, of: name, keeping: kept)
                throw error
            }
        }
        NetworkLeases(store).release(former.networks, of: name, keeping: next.networks)
        try SystemdUnits(store).refresh(next)
        return .changed(members, restarts: isRestart)
    }

    /// What is kept of the zone as it is; the image where another one is meant.
    private func resolved(_ wanted: ZoneDefinition, _ former: ZoneDefinition) throws(ZoneError) -> ZoneDefinition {
        var next = wanted
        next.created = former.created
        next.imageDigest = former.imageDigest
        next.base = former.base
        next.storageKind = former.storageKind
        next.storageProject = former.storageProject
        if let had = former.machine {
            next.machine?.uuid = had.uuid
            next.machine?.user = had.user
        }
        // Where nothing else is said an address stays.
        next.networks = wanted.networks.map { network in
            guard let had = former.networks.first(where: { $0.name == network.name }) else { return network }
            var kept = network
            // Not all of them need be written down.
            if kept.addresses.allSatisfy(had.addresses.contains), kept.mac.isEmpty || kept.mac == had.mac {
                (kept.addresses, kept.mac, kept.isChosen) = (had.addresses, had.mac, had.isChosen)
            }
            if kept.link.isEmpty { kept.link = had.link }
            return kept
        }
        if wanted.image != former.image, !wanted.bootsDisk {
            let image = try attemptingImage { () throws(ImageError) in try store.folders.images.find(wanted.image) }
            next.image = ImageStore.isPinned(wanted.image) ? wanted.image : image.name
            // The same name goes on to mean the image that the zone was made from.
            if next.image != former.image { next.imageDigest = image.digest }
        }
        try next.addVolumes(of: try image(of: next))
        next.nameVolumes(after: former)
        return next
    }

    /// `written`: is called as soon as the definition says what the zone is.
    private func restart(with next: ZoneDefinition, written: () -> Void) throws(ZoneError) {
        // Before anything is stopped.
        try check(next, try image(of: next))
        try ZoneControl(store.folders).stop(next.name, seconds: nil)
        let claim = try store.lock(next.name)
        let former = try store.definition(of: next.name, for: "apply")
        try StorageChange(store).replace(former, by: next, store.entry(next.name), claim) { (next) throws(ZoneError) in
            try store.write(next, in: claim.persistent)
        }
        written()
        drop(claim)
        _ = try start(next.name)
    }
}
