// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import LinuxSystem
import OCI

/// Makes, restores and removes snapshots of zones made from images.
///
/// A snapshot gets its name when all of it is on the disk. What has none yet, or none any more, is in `.new` and `.gone`,
/// which the next snapshot removes.
public struct ZoneSnapshots: Sendable {
    private let store: ZoneStore

    private static let unfinished = ".new"
    private static let gone = ".gone"

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Keeps a zone as it is; one that runs is frozen meanwhile. Returns the snapshot's name.
    public func create(_ zone: String, name wanted: String?) throws(ZoneError) -> String {
        if let wanted { try ZoneStore.validateSnapshot(wanted) }
        let claim = try store.lock(try store.find(zone).name)
        return try create(claim, name: wanted)
    }

    /// The same for a zone that is locked already.
    func create(_ claim: borrowing ZoneStore.Claim, name wanted: String?) throws(ZoneError) -> String {
        let zone = claim.name
        // What is left to do since it ran. Where that fails, nothing is lost.
        try? ZoneLayers(store).tidy(claim)
        var definition = try store.definition(of: zone, for: "snapshot")
        let taken = try store.snapshots(of: zone).map(\.name)
        let name = wanted ?? ZoneSnapshots.freeName(taken)
        if taken.contains(name) {
            throw ZoneError(
                .exists, "zone \(zone) has a snapshot \"\(name)\" already",
                hint: "choose another name, or remove it with 'zonectl snapshot rm \(zone) \(name)'")
        }
        var snapshot = ZoneSnapshot()
        snapshot.name = name
        snapshot.created = Int64(time(nil))
        snapshot.wasRunning = store.entry(zone).state.process != nil
        let attempt = "make a snapshot of zone \(zone)"
        let folder = try attempting(attempt) { () throws(SystemError) in
            try claim.persistent.ensureDirectory("snapshots", mode: 0o700)
            return try claim.persistent.open("snapshots", [.readOnly, .directory, .noFollow], resolve: .beneath)
        }
        let target = try attempting(attempt) { () throws(SystemError) in
            try ZoneSnapshots.clean(folder)
            try folder.makeDirectory(ZoneSnapshots.unfinished, mode: 0o700)
            return try folder.open(ZoneSnapshots.unfinished, [.readOnly, .directory], resolve: .beneath)
        }
        do throws(ZoneError) {
            if let frozen = try ZoneLayers(store).freeze(claim, definition) {
                definition = frozen
            } else {
                try ZoneChanges(store).copy(claim, for: "snapshot", to: target)
            }
            try attempting(attempt) { () throws(SystemError) in
                try target.replaceFile("definition.json", definition.serialized(), mode: 0o600)
                try target.replaceFile("snapshot.json", snapshot.serialized(), mode: 0o600)
                try check(zn_syncfs(target.raw), "syncfs")
                try folder.rename(ZoneSnapshots.unfinished, to: name, replace: false)
            }
        } catch {
            // The next one removes it where this fails; the first error is the one to tell.
            try? folder.removeTree(ZoneSnapshots.unfinished)
            throw error
        }
        EventLog(store.folders).record(.snapshot, zone: zone, ["snapshot": name])
        return name
    }

    private static func freeName(_ taken: [String]) -> String {
        var number = taken.count + 1
        while taken.contains("snap\(number)") { number += 1 }
        return "snap\(number)"
    }

    private static func clean(_ folder: borrowing Descriptor) throws(SystemError) {
        try folder.removeTree(unfinished)
        try folder.removeTree(gone)
    }

    /// Removes a snapshot.
    public func remove(_ name: String, of zone: String) throws(ZoneError) {
        let claim = try store.lock(try store.find(zone).name)
        _ = try store.definition(of: claim.name, at: name)
        try store.refuseBase("snapshot rm", claim.name, at: name)
        try attempting("remove snapshot \(name) of zone \(claim.name)") { () throws(SystemError) in
            let folder = try claim.persistent.open("snapshots", [.readOnly, .directory, .noFollow], resolve: .beneath)
            try ZoneSnapshots.clean(folder)
            // Its name goes first: half a snapshot must not be taken for one.
            try folder.rename(name, to: ZoneSnapshots.gone, replace: false)
            try folder.removeTree(ZoneSnapshots.gone)
        }
        // The snapshot is gone; what it shared with the zone may be a layer still, and is the next one's to fold.
        try? ZoneLayers(store).tidy(claim)
    }

    /// Makes a stopped zone what it was at a snapshot: its files and its settings. `stops`: one that runs is stopped first.
    public func restore(_ name: String, of wanted: String, stops: Bool) throws(ZoneError) {
        let zone = try store.find(wanted).name
        // Before anything is stopped.
        _ = try store.definition(of: zone, at: name)
        if stops { try ZoneControl(store.folders).stop(zone, seconds: nil) }
        let claim = try store.lock(zone)
        let state = store.entry(zone).state
        guard case .stopped = state else {
            throw ZoneError(
                .wrongState, "snapshot restore: zone \(zone) is \(state.word)",
                hint: "'zonectl stop \(zone)' ends it, and so does --stop")
        }
        var definition = try store.definition(of: zone, at: name)
        // Addresses may be another zone's by now: it stays in the networks where it is.
        definition.networks = try store.definition(of: zone)?.networks ?? []
        // What would fail at the next start fails now.
        _ = try ZoneLifecycle(store).image(of: definition)
        try ZoneLayers(store).freeze(name, claim, &definition)
        if definition.storage == nil {
            try PendingRestore.prepare(
                claim, definition, from: store.folders.snapshot(name, of: zone),
                upon: try store.bases(of: definition).all.first)
        } else {
            try StorageChange(store).decide(
                definition, filledFrom: store.folders.snapshot(name, of: zone), claim)
        }
        try PendingRestore.finish(claim.persistent, zone)
        // What has changed since may have been a layer.
        try? ZoneLayers(store).tidy(claim)
        drop(claim)
        try SystemdUnits(store).refresh(definition)
        EventLog(store.folders).record(.restore, zone: zone, ["snapshot": name])
    }
}

/// A restore is decided in one step: a folder with all of it, on the disk, gets its name. Whoever locks the zone next
/// finishes one that was interrupted.
enum PendingRestore {
    /// What is decided: the files and `definition.json` move out of it, the zone's former changes in, and then it goes.
    static let folder = ".restore"
    static let unfinished = ".restore.new"
    private static let former = "former"

    /// `folder`: what holds the files to copy, if there are any; `base`: the layer that the zone will stand on.
    static func prepare(
        _ claim: borrowing ZoneStore.Claim, _ definition: ZoneDefinition, from folder: String, upon base: String?
    ) throws(ZoneError) {
        try prepare(claim, definition) { (target) throws(SystemError) in
            let source = try Descriptor.open(folder, [.path, .directory, .noFollow])
            if let base, OwnTree(in: source) == nil { return try ZoneLayers.makeUpper(in: target, like: base) }
            try OwnTree.copy(from: source, to: target, .exact)
        }
    }

    /// The same where `fill` puts the files into a folder, under one of the names of ``OwnTree``.
    static func prepare(
        _ claim: borrowing ZoneStore.Claim, _ definition: ZoneDefinition,
        _ fill: (borrowing Descriptor) throws(SystemError) -> Void
    ) throws(ZoneError) {
        do throws(SystemError) {
            try claim.persistent.removeTree(unfinished)
            try claim.persistent.makeDirectory(unfinished, mode: 0o700)
            let target = try claim.persistent.open(unfinished, [.readOnly, .directory], resolve: .beneath)
            do throws(SystemError) {
                try fill(target)
                try target.replaceFile("definition.json", definition.serialized(), mode: 0o600)
                try check(zn_syncfs(target.raw), "syncfs")
                try claim.persistent.rename(unfinished, to: PendingRestore.folder, replace: false)
            } catch {
                // The first error is the one to tell.
                try? claim.persistent.removeTree(unfinished)
                throw error
            }
        } catch {
            throw ZoneError("restore zone \(claim.name)", error)
        }
    }

    /// Finishes what is decided, wherever it was interrupted; does nothing where nothing is.
    static func finish(_ zone: borrowing Descriptor, _ name: String) throws(ZoneError) {
        do throws(SystemError) {
            guard exists(folder, in: zone) else { return }
            let decided = try zone.open(folder, [.readOnly, .directory, .noFollow], resolve: .beneath)
            let all = OwnTree.allCases.map(\.rawValue) + [OwnFiles.projectFolder, OwnFiles.image]
            if let new = all.first(where: { exists($0, in: decided) }) {
                for name in all where exists(name, in: zone) {
                    try check(renameToNew(zone.raw, name, decided.raw, "\(former)-\(name)"), "rename", name)
                }
                // Last: as long as it is here, the others are the former ones.
                try check(renameToNew(decided.raw, new, zone.raw, new), "rename", new)
            }
            // What overlayfs noted there is about the former changes.
            try zone.removeTree("work")
            if exists("definition.json", in: decided) {
                try check(
                    zn_renameat2(decided.raw, "definition.json", zone.raw, "definition.json", 0), "rename",
                    "definition.json")
            }
            try zone.removeTree(folder)
        } catch {
            throw ZoneError("finish the restore of zone \(name)", error)
        }
    }

    private static func exists(_ name: String, in folder: borrowing Descriptor) -> Bool {
        (try? folder.status(name)) != nil
    }
}

/// A zone's own files: what it has changed in its image's, or a root that is a copy.
struct ZoneChanges {
    private let store: ZoneStore

    init(_ store: ZoneStore) {
        self.store = store
    }

    /// Copies a locked zone's own files to a folder, as ``OwnTree``; a zone that runs is frozen meanwhile.
    func copy(
        _ claim: borrowing ZoneStore.Claim, for verb: String, to target: borrowing Descriptor,
        _ policy: CopyPolicy = .exact
    ) throws(ZoneError) {
        let own = try store.ownFiles(try store.definition(of: claim.name, for: verb), claim)
        try whileFrozen(claim, for: verb) { () throws(ZoneError) in
            do throws(SystemError) { try OwnTree.copy(from: own.folder, to: target, policy) } catch {
                if error.errno == .loop {
                    throw ZoneError(
                        .unsupported,
                        "\(verb): zone \(claim.name) has directories too deep inside one another to be copied")
                }
                throw ZoneError("\(verb): copy the changes of zone \(claim.name)", error)
            }
        }
    }

    /// Does something while no process of a zone's runs.
    func whileFrozen(
        _ claim: borrowing ZoneStore.Claim, for verb: String, _ body: () throws(ZoneError) -> Void
    ) throws(ZoneError) {
        let entry = store.entry(claim.name)
        switch entry.state {
        case .stopped, .paused: return try body()
        case .running: break
        case .creating, .created, .restarting, .damaged:
            _ = try entry.state.runningProcess(for: verb, of: claim.name)
        }
        guard var record = entry.record else { return try body() }
        let folder = try store.openVolatile(claim.name)
        // Ctrl-C waits until the zone goes on.
        let before = SignalMask.block()
        defer { before.restore() }
        // Recorded first, as `pause` does: killed in between, the zone is shown as paused, and `resume` lets it go on.
        record.phase = .paused
        try store.write(record, in: folder)
        var failure: ZoneError?
        do throws(SystemError) { try record.groups.freeze() } catch {
            failure = ZoneError(
                .unsupported, "\(verb): zone \(claim.name) runs and cannot be frozen: \(error)",
                hint: "stop it first: 'zonectl stop \(claim.name)'")
        }
        if failure == nil {
            do throws(ZoneError) { try body() } catch { failure = error }
            do throws(SystemError) { try record.groups.thaw() } catch {
                throw ZoneError("resume zone \(claim.name)", error)
            }
        }
        record.phase = .running
        try store.write(record, in: folder)
        if let failure { throw failure }
    }
}

extension ZoneStore {
    /// What a zone is, for a verb that needs to know.
    func definition(of zone: String, for verb: String) throws(ZoneError) -> ZoneDefinition {
        if let definition = try definition(of: zone) {
            if definition.machine == nil { return definition }
            // What it has changed is on disks of its own, which the host does not mount: a guest may have written anything there.
            throw ZoneError(
                .unsupported, "\(verb): zone \(zone) is a virtual machine, for which that is not there yet",
                hint: definition.bootsDisk
                    ? "copy its disk while it is stopped" : "copy files by 'zonectl cp' while it runs")
        }
        throw ZoneError(
            .unsupported, "\(verb): zone \(zone) is an engine's, or its making was interrupted",
            hint: "only zones made from images have their changes apart")
    }
}
