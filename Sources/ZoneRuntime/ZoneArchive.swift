// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import Images
import LinuxSystem
import OCI

/// What an archive says of the zone in it.
struct ArchivedZone: JSONRecord {
    /// Settings and changes at one moment: of the zone itself, or of a snapshot.
    struct Moment: JSONRecord {
        /// The snapshot's; the zone's own has none.
        var snapshot: ZoneSnapshot?
        var definition = ZoneDefinition()
        /// The layers of the zone's changes to its image, the lowest first; none for a zone that has never run.
        var changes: [Digest] = []

        mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("snapshot", &snapshot)
            try visitor.required("definition", &definition)
            try visitor.required("changes", &changes)
        }
    }

    static let mediaType = "application/vnd.zoneruntime.zone.v1+json"

    var version: Int64 = 1
    var zone = Moment()
    /// The oldest first.
    var snapshots: [Moment] = []

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("version", &version)
        try visitor.required("zone", &zone)
        try visitor.field("snapshots", &snapshots)
    }

    /// Makes sure that it says what a zone may be: it comes from somewhere.
    func verify() throws(ZoneError) {
        guard version == 1 else {
            throw ZoneError(
                .unsupported, "the archive is of version \(version)", hint: "a newer zonectl has written it")
        }
        var names: [String] = []
        for moment in [zone] + snapshots {
            do throws(DefinitionFault) { try moment.definition.verify() } catch {
                throw ZoneError(.invalid, "the settings of zone \(moment.definition.name): \(error.detail)")
            }
            guard moment.definition.imageDigest != nil, moment.definition.base == nil else {
                throw ZoneError(
                    .invalid, "the settings of zone \(moment.definition.name) do not say what image they mean")
            }
        }
        for moment in snapshots {
            guard let name = moment.snapshot?.name, ZoneName.isValid(name), !names.contains(name) else {
                throw ZoneError(.invalid, "the archive has a snapshot without a name of its own")
            }
            names.append(name)
        }
    }
}

/// Writes zones as archives and makes zones of archives. A zone's archive holds its settings, what it has changed, its
/// snapshots and its image; see ``ChangesArchive``.
public struct ZoneArchive: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    // MARK: Export

    /// Writes a zone to a descriptor that stays the caller's. One that runs is frozen while its own changes are read.
    /// `report` gets lines about what is not in it.
    public func export(_ name: String, to raw: CInt, report: (String) -> Void) throws(ZoneError) {
        let claim = try store.lock(try store.find(name).name)
        let definition = try store.definition(of: claim.name, for: "export")
        let lifecycle = ZoneLifecycle(store)
        var archive = try attemptingImage { () throws(ImageError) in
            try ChangesArchive(store.folders.images, to: raw)
        }
        var document = ArchivedZone()
        var written: [String: Digest] = [:]
        let own = try store.ownFiles(definition, claim)
        document.zone = try moment(
            definition, own.path, try lifecycle.image(of: definition), claim, &archive, &written, isOwn: true)
        for snapshot in try store.snapshots(of: claim.name) {
            let then = try store.definition(of: claim.name, at: snapshot.name)
            let folder = store.folders.snapshot(snapshot.name, of: claim.name)
            var moment = try moment(then, folder, try lifecycle.image(of: then), claim, &archive, &written)
            moment.snapshot = snapshot
            document.snapshots.append(moment)
        }
        do throws(ImageError) {
            try archive.finish(
                document: document.serialized(), mediaType: ArchivedZone.mediaType, name: claim.name)
        } catch {
            throw ZoneError(error)
        }
        for name in definition.mounts.compactMap(\.volumeName) {
            report("volume \(name) is not in the archive: 'zonectl volume export \(name)' writes it")
        }
    }

    /// `folder`: what holds the files; `isOwn`: they are the zone's own, which may run.
    private func moment(
        _ definition: ZoneDefinition, _ folder: String, _ image: Image, _ claim: borrowing ZoneStore.Claim,
        _ archive: inout ChangesArchive, _ written: inout [String: Digest], isOwn: Bool = false
    ) throws(ZoneError) -> ArchivedZone.Moment {
        var moment = ArchivedZone.Moment()
        moment.definition = definition
        // What a linked clone stands on goes along.
        moment.definition.base = nil
        moment.definition.image = image.name
        moment.definition.imageDigest = image.digest
        do throws(ImageError) { try archive.add(image) } catch { throw ZoneError(error) }
        for layer in try store.bases(of: definition).all.reversed() {
            // Snapshots stand on many of them together. Nobody writes to these.
            let digest = if let known = written[layer] { known } else { try add(layer, claim, &archive) { () } }
            written[layer] = digest
            moment.changes.append(digest)
        }
        let layer = ZoneChangesLayer(at: folder)
        defer { layer.end() }
        if layer.isThere {
            let below = try store.layers(of: definition)
            let marks = store.folders.marks
            moment.changes.append(
                try add(layer.path, claim, &archive, isOwn: isOwn) { () throws(ZoneError) in
                    try layer.find(upon: below, marks)
                })
        }
        return moment
    }

    /// Adds a layer of changes; `prepare` is called when nothing changes it any more, before it is looked at.
    private func add(
        _ folder: String, _ claim: borrowing ZoneStore.Claim, _ archive: inout ChangesArchive, isOwn: Bool = false,
        _ prepare: () throws(ZoneError) -> Void
    ) throws(ZoneError) -> Digest {
        var refusal: ZoneError?
        do throws(ImageError) {
            return try archive.add(changes: folder) { (body) throws(ImageError) in
                var failure: ImageError?
                func add() throws(ZoneError) {
                    try prepare()
                    do throws(ImageError) { try body() } catch { failure = error }
                }
                do throws(ZoneError) {
                    if isOwn {
                        try ZoneChanges(store).whileFrozen(claim, for: "export", add)
                    } else {
                        try add()
                    }
                } catch {
                    refusal = error
                    throw ImageError(.system, error.detail)
                }
                if let failure { throw failure }
            }
        } catch {
            throw refusal ?? ZoneError(error)
        }
    }

    // MARK: Import

    /// Makes a zone of an archive; `nil` reads stdin. Returns its name, which is the one that it had unless another is wanted.
    public func `import`(
        from path: String?, as wanted: String?, progress: (ImportProgress) -> Void
    ) throws(ZoneError) -> String {
        if let wanted { try ZoneName.validate(wanted) }
        var refusal: ZoneError?
        let name: String
        do throws(ImageError) {
            name = try store.folders.images.readChanges(from: path, mediaType: ArchivedZone.mediaType) {
                (reader) throws(ImageError) in
                do throws(ZoneError) { return try take(&reader, as: wanted, progress) } catch {
                    refusal = error
                    throw ImageError(.invalid, error.detail)
                }
            }
        } catch {
            throw (refusal ?? ZoneError(error)).inside("import")
        }
        EventLog(store.folders).record(.create, zone: name, ["from": path ?? "stdin"])
        return name
    }

    private func take(
        _ reader: inout ChangesReader, as wanted: String?, _ progress: (ImportProgress) -> Void
    ) throws(ZoneError) -> String {
        let document: ArchivedZone
        do throws(JSONError) { document = try ArchivedZone(parsing: reader.document) } catch {
            throw ZoneError(.invalid, "what the archive says of the zone: \(error)")
        }
        try document.verify()
        var definition = document.zone.definition
        let name = wanted ?? definition.name
        if try store.isTaken(name) { throw ZoneArchive.taken(name) }
        let moments = [document.zone] + document.snapshots
        for moment in moments {
            guard let digest = moment.definition.imageDigest else { continue }
            do throws(ImageError) { try reader.take(digest, progress) } catch { throw ZoneError(error) }
        }
        let claim = try claim(name)
        var rollback = Rollback()
        // What cannot be removed now, `rm -f` removes.
        rollback.add { [store] in try? store.eraseInterrupted(name) }
        try StorageMaker(store).make(&definition, in: claim.persistent)
        definition.name = name
        // Addresses are given out here.
        definition.networks = definition.networks.map(\.anew)
        // Not held while everything is read: that may take long.
        try NetworkStore(store).provided(for: definition)?.unlock()
        try NetworkLeases(store).lease(&definition)
        let own = try store.ownFiles(definition, claim)
        try unpack(document.zone, from: reader, into: own.folder)
        if !document.snapshots.isEmpty { try unpackSnapshots(document.snapshots, from: reader, claim) }
        definition.created = Int64(time(nil))
        // Two machines of one id would take each other's place in many a list.
        if let id = definition.machineID, try isMachine(id) { definition.machineID = try SystemZone.newMachineID() }
        definition.forgetAnonymousVolumes()
        definition.nameVolumes()
        do throws(ImageError) { try reader.record() } catch { throw ZoneError(error) }
        try attempting("make zone \(name)") { () throws(SystemError) in
            if definition.storage != nil { try own.sync() }
            _ = try check(zn_syncfs(claim.persistent.raw), "syncfs")
        }
        // Last: without it a zone's making counts as interrupted.
        try store.write(definition, in: claim.persistent)
        rollback.commit()
        return name
    }

    private func claim(_ name: String) throws(ZoneError) -> ZoneStore.Claim {
        do throws(ZoneError) { return try store.claim(name) } catch {
            throw error.code == .exists ? ZoneArchive.taken(name) : error
        }
    }

    private static func taken(_ name: String) -> ZoneError {
        ZoneError(
            .exists, "name \"\(name)\" is taken by another zone",
            hint: "give the new one another: zonectl import FILE NEW")
    }

    private func isMachine(_ id: String) throws(ZoneError) -> Bool {
        for zone in try store.names() where (try? store.definition(of: zone))??.machineID == id { return true }
        return false
    }

    private func unpack(
        _ moment: ArchivedZone.Moment, from reader: borrowing ChangesReader, into folder: borrowing Descriptor
    ) throws(ZoneError) {
        guard let image = moment.definition.imageDigest else { return }
        do throws(ImageError) { try reader.unpack(moment.changes, on: image, into: folder) } catch {
            throw ZoneError(error)
        }
    }

    private func unpackSnapshots(
        _ moments: [ArchivedZone.Moment], from reader: borrowing ChangesReader, _ claim: borrowing ZoneStore.Claim
    ) throws(ZoneError) {
        let attempt = "make zone \(claim.name)"
        let folder = try attempting(attempt) { () throws(SystemError) in
            try claim.persistent.makeDirectory("snapshots", mode: 0o700)
            return try claim.persistent.open("snapshots", [.readOnly, .directory], resolve: .beneath)
        }
        for moment in moments {
            guard let snapshot = moment.snapshot else { continue }
            let target = try attempting(attempt) { () throws(SystemError) in
                try folder.makeDirectory(snapshot.name, mode: 0o700)
                return try folder.open(snapshot.name, [.readOnly, .directory], resolve: .beneath)
            }
            try unpack(moment, from: reader, into: target)
            try attempting(attempt) { () throws(SystemError) in
                // As a snapshot of a zone that has never run has it.
                try target.ensureDirectory("upper", mode: 0o755)
                try target.replaceFile("definition.json", moment.definition.serialized(), mode: 0o600)
                try target.replaceFile("snapshot.json", snapshot.serialized(), mode: 0o600)
            }
        }
    }
}
