// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import Images
import LinuxSystem

/// Makes volumes of others, and of archives, and archives of volumes. Zones that run with a volume are frozen while it is
/// copied, so that the copy is what it was at one moment; not for an archive, whose reader may take its time.
///
/// A copy gets its name when all of it is on the disk.
public struct VolumeCopies: Sendable {
    private let volumes: VolumeStore

    public init(_ folders: ZoneFolders) {
        volumes = VolumeStore(folders)
    }

    /// Makes a volume that begins as another one is. Returns its name.
    public func clone(
        _ source: String, to wanted: String?, labels: [String: String] = [:]
    ) throws(ZoneError) -> String {
        let origin = try volumes.find(source)
        var volume = Volume()
        volume.name = wanted ?? Volume.madeUpName()
        volume.isAnonymous = wanted == nil
        volume.labels = origin.labels.merging(labels) { $1 }
        volume.isUsed = origin.isUsed
        volume.storage = origin.storage
        return try copy(origin, to: volume, for: "volume clone")
    }

    /// Keeps a volume as it is now, as a volume that nothing changes. Returns its name: SOURCE-snap1 and so on where none
    /// is wanted.
    public func snapshot(_ source: String, name wanted: String?) throws(ZoneError) -> String {
        let origin = try volumes.find(source)
        if let first = origin.snapshotOf {
            throw ZoneError(
                .wrongState, "volume \(origin.name) is a snapshot of \(first) itself",
                hint: "'zonectl volume clone \(origin.name)' makes a volume of it that can change")
        }
        var volume = Volume()
        volume.labels = origin.labels
        volume.isUsed = true
        volume.snapshotOf = origin.name
        if let wanted {
            volume.name = wanted
            return try copy(origin, to: volume, for: "volume snapshot")
        }
        let base = String(origin.name.prefix(52))
        var number = 1
        while true {
            volume.name = "\(base)-snap\(number)"
            if try volumes.volume(volume.name) == nil {
                do throws(ZoneError) { return try copy(origin, to: volume, for: "volume snapshot") } catch {
                    // Another snapshot was faster.
                    if error.code != .exists { throw error }
                }
            }
            number += 1
        }
    }

    private func copy(_ origin: Volume, to wanted: Volume, for verb: String) throws(ZoneError) -> String {
        try make(wanted) { (target) throws(ZoneError) in
            try whileQuiet(origin.name, for: verb) { (data) throws(ZoneError) in
                try attempting("copy volume \(origin.name)") { () throws(SystemError) in
                    var policy = CopyPolicy()
                    policy.merges = false
                    policy.makesNodes = !Rootless.isInside
                    var transfer = TreeTransfer(policy)
                    try transfer.copy(data, to: target, as: VolumeStore.data.utf8CString.map { $0 })
                }
            }
        }
    }

    /// Writes a volume as a tar archive to a descriptor that stays the caller's. `report` gets lines about what is left out.
    public func export(
        _ name: String, to raw: CInt, report: @escaping (String) -> Void
    ) throws(ZoneError) {
        let origin = try volumes.find(name)
        try whileHeld(origin.name) { (data) throws(ZoneError) in
            try attemptingImage { () throws(ImageError) in
                var archiver = try TreeArchiver(to: raw, report: report)
                try archiver.add(data, as: ".")
                try archiver.finish()
            }
        }
    }

    /// Makes a volume of a tar archive, compressed or not, that is read from a descriptor of the caller's.
    public func `import`(
        _ raw: CInt, as name: String, labels: [String: String]
    ) throws(ZoneError) -> String {
        var volume = Volume()
        volume.name = name
        volume.labels = labels
        volume.isUsed = true
        return try make(volume) { (target) throws(ZoneError) in
            let data = try attempting("make volume \(name)") { () throws(SystemError) in
                try target.makeDirectory(VolumeStore.data, mode: 0o755)
                return try target.open(VolumeStore.data, [.readOnly, .directory, .noFollow], resolve: .beneath)
            }
            var policy = CopyPolicy()
            policy.makesNodes = !Rootless.isInside
            do throws(ImageError) {
                // No link leads anywhere while the volume is being made.
                try TreeExtractor(policy, isAll: true).extract(raw, into: data) { _ in nil }
            } catch {
                throw ZoneError(error).inside("volume import")
            }
        }
    }

    /// Makes a volume whose files `body` puts into a folder; whole or not at all.
    private func make(
        _ wanted: Volume, _ body: (borrowing Descriptor) throws(ZoneError) -> Void
    ) throws(ZoneError) -> String {
        try VolumeStore.validate(wanted.name)
        if try volumes.volume(wanted.name) != nil { throw volumes.taken(wanted.name) }
        var volume = wanted
        volume.created = Int64(time(nil))
        let locked = try volumes.lock()
        let draft = try volumes.draft(locked)
        // Others go on meanwhile.
        drop(locked)
        do throws(ZoneError) {
            let own = try volumes.provide(&volume, draft)
            try body(own.folder)
            if volume.storage != nil {
                try attempting("make volume \(volume.name)") { () throws(SystemError) in try own.sync() }
            }
            try volumes.finish(draft, as: volume, try volumes.lock())
        } catch {
            volumes.discard(draft)
            throw error
        }
        return volume.name
    }

    // MARK: Reading

    /// Does something with a volume's files while no zone changes them, and nobody removes or fills it.
    private func whileQuiet(
        _ name: String, for verb: String, _ body: (borrowing Descriptor) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        // In the order of their names: two that freeze the same zones must not wait for one another.
        let users = (try volumes.users()[name] ?? []).sorted()
        try whileFrozen(users[...], for: verb) { () throws(ZoneError) in try whileHeld(name, body) }
    }

    /// Does something with a volume's files while nobody removes or fills it.
    private func whileHeld(
        _ name: String, _ body: (borrowing Descriptor) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        guard let folder = try volumes.open(name), let volume = try volumes.volume(name) else {
            throw ZoneError(.notFound, "volume \(name) has just been removed")
        }
        let own = try volumes.files(of: volume, in: folder)
        let data = try attempting("open volume \(name)") { () throws(SystemError) in
            try own.folder.open(VolumeStore.data, [.readOnly, .directory, .noFollow], resolve: .beneath)
        }
        try body(data)
    }

    private func whileFrozen(
        _ zones: ArraySlice<String>, for verb: String, _ body: () throws(ZoneError) -> Void
    ) throws(ZoneError) {
        guard let zone = zones.first else { return try body() }
        let claim: ZoneStore.Claim
        do throws(ZoneError) { claim = try volumes.zones.lock(zone) } catch {
            // Removed meanwhile: one less that could change anything.
            if error.code == .notFound { return try whileFrozen(zones.dropFirst(), for: verb, body) }
            throw error
        }
        try ZoneChanges(volumes.zones).whileFrozen(claim, for: verb) { () throws(ZoneError) in
            try whileFrozen(zones.dropFirst(), for: verb, body)
        }
    }
}
