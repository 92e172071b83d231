// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import Images
import LinuxSystem
public import OCI

/// A zone that was moved to another image, as `restart --updated` tells it.
public struct ZoneUpdate: JSONRecord, Sendable, Equatable {
    public var zone = ""
    public var image = ""
    public var from = ""
    /// The same where the zone stands on what its image's name means already.
    public var to = ""
    public var restarted = false
    /// What the zone keeps its own way though the new image has it otherwise than the old one.
    public var kept: [KeptPath] = []

    public init() {}

    public var isMoved: Bool { from != to }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("zone", &zone)
        try visitor.required("image", &image)
        try visitor.required("from", &from)
        try visitor.required("to", &to)
        try visitor.required("restarted", &restarted)
        try visitor.required("kept", &kept)
    }
}

/// Moves zones to what the names of their images mean now.
///
/// A zone's own files are an upper layer, and what lies below it is a digest in its definition. So a move is one rename of
/// one file while the zone stands still: whenever it is interrupted, the zone is on its old image or on the new one.
public struct ZoneUpdates: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// The image that a zone would move to; `nil` where it is on what its image's name means, or where that means nothing.
    public func available(for definition: ZoneDefinition) -> Image? {
        guard let digest = definition.imageDigest else { return nil }
        let found: Image
        do throws(ImageError) { found = try store.folders.images.find(definition.image) } catch { return nil }
        return found.digest == digest ? nil : found
    }

    /// The zones made from images.
    public func zones() throws(ZoneError) -> [String] {
        try store.names().filter { name in
            // One that cannot be read is for who names it, and for `doctor`.
            ((try? store.definition(of: name)) ?? nil) != nil
        }
    }

    /// Moves a zone to what its image's name means now; one that runs is stopped, as with ``ZoneControl/stop(_:seconds:)``,
    /// and started again. One that is there already is left alone, also if it runs.
    public func update(_ wanted: String, seconds: Int?) throws(ZoneError) -> ZoneUpdate {
        let entry = try store.find(wanted)
        let zone = entry.name
        let verb = "restart --updated"
        let former = try store.definition(of: zone, for: verb)
        var result = ZoneUpdate()
        result.zone = zone
        result.image = former.image
        result.from = former.imageDigest?.description ?? ""
        result.to = result.from
        guard let image = available(for: former) else { return result }
        result.to = image.digest.description
        let runs = try isToRunAgain(entry, former, verb)
        // Whatever may fail does so before anything is stopped.
        let next = try moved(former, to: image)
        try verifyMachine(image, former)
        try ZoneLifecycle(store).check(next, image)
        result.kept = try kept(by: former, image)
        if runs {
            try ZoneControl(store.folders).stop(zone, seconds: seconds)
            result.restarted = true
        }
        try move(zone, to: image, verb)
        EventLog(store.folders).record(.update, zone: zone, ["from": result.from, "to": result.to])
        if runs { try startAgain(zone, result) }
        return result
    }

    private func isToRunAgain(
        _ entry: ZoneStore.Entry, _ definition: ZoneDefinition, _ verb: String
    ) throws(ZoneError) -> Bool {
        switch entry.state {
        case .stopped: return false
        case .creating, .created, .damaged:
            _ = try entry.state.runningProcess(for: verb, of: entry.name)
            return false
        case .running, .paused, .restarting: break
        }
        if definition.autoRemove {
            throw ZoneError(
                .wrongState, "\(verb): zone \(entry.name) was run with --rm, and would be gone when it is stopped",
                hint: "run it again: it gets the new image then")
        }
        return true
    }

    /// A tag may have been pulled for another machine meanwhile.
    private func verifyMachine(_ image: Image, _ former: ZoneDefinition) throws(ZoneError) {
        // An old image that cannot be read says nothing about machines.
        guard let before = try? ZoneLifecycle(store).image(of: former).platform else { return }
        let now = image.platform
        if now.os == before.os, now.architecture == before.architecture { return }
        throw ZoneError(
            .unsupported,
            "zone \(former.name) stays on its image for \(before.os)/\(before.architecture): \(image.name) is one for \(now.os)/\(now.architecture) now",
            hint: "zonectl image pull --platform \(before.os)/\(before.architecture) \(image.name)")
    }

    /// What the zone will be.
    private func moved(_ definition: ZoneDefinition, to image: Image) throws(ZoneError) -> ZoneDefinition {
        var next = definition
        next.imageDigest = image.digest
        try SystemZone.settle(&next, image, store.folders.images)
        return next
    }

    private func kept(by definition: ZoneDefinition, _ image: Image) throws(ZoneError) -> [KeptPath] {
        let zone = definition.name
        let before: Image
        do throws(ZoneError) { before = try ZoneLifecycle(store).image(of: definition) } catch {
            // It is gone, as no zonectl would do it: there is nothing to compare with.
            if error.code == .notFound { return [] }
            throw error
        }
        let bases = try store.bases(of: definition).all
        let old = try layers(of: before)
        let new = try layers(of: image)
        let marks = store.folders.marks
        let claim = try store.lock(zone)
        defer { claim.unlock() }
        let own = try store.ownFiles(definition, claim)
        do throws(SystemError) {
            var comparison = BaseComparison(old: try LayerTree(old, marks), new: try LayerTree(new, marks))
            if PlainRoot.exists(in: own.folder) {
                var changes = try PlainComparison(of: own.folder, with: try LayerTree(bases + old, marks))
                try changes.run()
                comparison.add(changes.changes)
                try comparison.add(try LayerEntry.open(bases, marks))
            } else {
                try comparison.add(try LayerEntry.open(["\(own.path)/upper"] + bases, marks))
            }
            return comparison.kept
        } catch {
            throw ZoneError("compare the changes of zone \(zone) with its new image", error)
        }
    }

    private func layers(of image: Image) throws(ZoneError) -> [String] {
        let skeleton = Skeleton.name(store.folders.marks)
        return try attemptingImage { () throws(ImageError) in try store.folders.images.layers(of: image) }
            + ["\(store.folders.store)/\(skeleton)"]
    }

    /// The move itself.
    private func move(_ zone: String, to image: Image, _ verb: String) throws(ZoneError) {
        let claim = try store.lock(zone)
        let state = ZoneControl(store.folders).settled(store.entry(zone)).state
        guard case .stopped = state else {
            throw ZoneError(
                .wrongState, "\(verb): zone \(zone) was started by somebody else meanwhile, and is \(state.word)",
                hint: "try again")
        }
        // Read again: it may have been changed before we had the lock.
        let former = try store.definition(of: zone, for: verb)
        let next = try moved(former, to: image)
        let own = try store.ownFiles(next, claim)
        let layer = ZoneChangesLayer(at: own.path)
        var failure: ZoneError?
        do throws(ZoneError) {
            try layer.find(upon: try store.layers(of: former), store.folders.marks)
            // What overlayfs noted there is about the old layers.
            try attempting("move zone \(zone)") { () throws(SystemError) in try own.folder.removeTree("work") }
            try attemptingImage { () throws(ImageError) in
                // A removal beside this looks at the definitions when it has the store again.
                try store.folders.images.whileListed(image) {
                    do throws(ZoneError) { try become(next, layer, claim) } catch { failure = error }
                }
            }
        } catch {
            failure = error
        }
        layer.end()
        if let failure { throw failure }
        drop(claim)
        try SystemdUnits(store).refresh(next)
    }

    /// A root that is a copy is given up for the changes in it: the next start copies the new image, and puts them upon it.
    private func become(
        _ next: ZoneDefinition, _ changes: ZoneChangesLayer, _ claim: borrowing ZoneStore.Claim
    ) throws(ZoneError) {
        guard changes.isWhole else { return try store.write(next, in: claim.persistent) }
        if next.storage == nil {
            try PendingRestore.prepare(claim, next, from: changes.folder, upon: nil)
        } else {
            try StorageChange(store).decide(next, filledFrom: changes.folder, claim)
        }
        try PendingRestore.finish(claim.persistent, claim.name)
    }

    private func startAgain(_ zone: String, _ update: ZoneUpdate) throws(ZoneError) {
        do throws(ZoneError) { try ZoneLifecycle(store).start(zone) } catch {
            throw ZoneError(
                error.code, "zone \(zone) is on the new image now, and does not start: \(error.detail)",
                hint:
                    "back to the old one: zonectl image tag \(update.from) \(update.image), then restart --updated and start \(zone)"
            )
        }
    }
}
