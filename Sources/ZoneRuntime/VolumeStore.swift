// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Makes, lists and removes volumes.
///
///     STORE/volumes/NAME/   volume.json, data/
///                   .new-…  one on its way to a name, locked by who makes it
///                   .gone-… one on its way out
///
/// Volumes come and go under the lock of STORE/volumes; the lock of one volume's folder is held while it is filled or
/// copied. Who wants several takes the locks of zones first, then that of STORE/volumes, then that of a volume.
///
/// A zone's definition is on the disk before its volumes are looked at, and who removes one has the lock while looking at
/// the definitions: one of the two sees the other.
public struct VolumeStore: Sendable {
    static let data = "data"
    static let record = "volume.json"
    private static let unfinished = ".new-"
    private static let gone = ".gone-"

    let zones: ZoneStore
    var folders: ZoneFolders { zones.folders }

    public init(_ folders: ZoneFolders) {
        zones = ZoneStore(folders)
    }

    init(_ zones: ZoneStore) {
        self.zones = zones
    }

    // MARK: Looking

    /// Returns all volumes, by name.
    public func list() throws(ZoneError) -> [Volume] {
        var volumes: [Volume] = []
        for name in try zones.names(ofAll: "volumes", in: folders.volumes) {
            // Removed since the list was read.
            if let volume = try volume(name) { volumes.append(volume) }
        }
        return volumes
    }

    /// Returns a volume, by its whole name.
    public func find(_ name: String) throws(ZoneError) -> Volume {
        try VolumeStore.validate(name)
        if let volume = try volume(name) { return volume }
        throw ZoneError(
            .notFound, "there is no volume \"\(name)\"", hint: "'zonectl volume ls' lists those that there are")
    }

    func volume(_ name: String) throws(ZoneError) -> Volume? {
        var volume: Volume? = try zones.read("\(folders.volume(name))/\(VolumeStore.record)")
        volume?.name = name
        return volume
    }

    /// Where a volume's files are on the host.
    public func path(of volume: Volume) -> String {
        switch volume.storageKind {
        case nil: folders.volumeData(volume.name)
        case .project: "\(folders.volume(volume.name))/\(OwnFiles.projectFolder)/\(VolumeStore.data)"
        // They are in it, and seen by zones only.
        case .image: "\(folders.volume(volume.name))/\(OwnFiles.image)"
        }
    }

    /// The directory that a volume's files are in, of one whose lock is held.
    func files(of volume: Volume, in folder: borrowing Descriptor) throws(ZoneError) -> OwnFiles {
        try attempting("open volume \(volume.name)") { () throws(SystemError) in
            try OwnFiles(volume.storageLimit, in: folder, at: folders.volume(volume.name))
        }
    }

    /// The zones that each volume is mounted into, running or not.
    public func users() throws(ZoneError) -> [String: [String]] {
        var users: [String: [String]] = [:]
        for zone in try zones.names() {
            // One whose making was interrupted before it was defined has none.
            guard let definition = try zones.definition(of: zone) else { continue }
            for mount in definition.mounts {
                if let name = mount.volumeName, users[name]?.last != zone { users[name, default: []].append(zone) }
            }
        }
        return users
    }

    static func validate(_ name: String) throws(ZoneError) {
        if ZoneName.isValid(name) { return }
        throw ZoneError(
            .invalid, "volume name \"\(name)\" is not valid",
            hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
    }

    // MARK: Locks

    /// The folder of all volumes, whose lock is held.
    struct Locked: ~Copyable {
        let folder: Descriptor
    }

    /// Waits for who is just making or removing a volume, and removes what one that was killed has left.
    func lock() throws(ZoneError) -> Locked {
        try attempting("open the folder of volumes") { () throws(SystemError) in
            // Nobody else may look in, as with zones: a setuid program there is a zone's, and not the host's users'.
            _ = try Descriptor.makePath(folders.volumes, mode: 0o700)
            let folder = try Descriptor.open(folders.volumes, [.readOnly, .directory, .noFollow])
            _ = try folder.lock()
            for name in try folder.entries() where VolumeStore.isLeft(name, in: folder) {
                try folder.removeTree(name)
            }
            return Locked(folder: folder)
        }
    }

    /// Whether it is half a volume whose maker, or remover, lives no more: who lives holds its lock.
    private static func isLeft(_ name: String, in folder: borrowing Descriptor) -> Bool {
        guard name.utf8.first == UInt8(ascii: "."),
            let left = try? folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath)
        else { return false }
        return (try? left.lock(wait: false)) ?? false
    }

    /// Opens a volume's folder and locks it, when nobody else has it; `nil` where there is none, or none any more.
    func open(_ name: String) throws(ZoneError) -> Descriptor? {
        do throws(SystemError) {
            while true {
                let folder = try Descriptor.open(folders.volume(name), [.readOnly, .directory, .noFollow])
                _ = try folder.lock()
                // Removed while we waited, and perhaps made again.
                let named = try? FileStatus.of(folders.volume(name), followLinks: false)
                if let named, try folder.stat().inode == named.inode { return folder }
            }
        } catch {
            if error.errno == .noEntry { return nil }
            throw ZoneError("lock volume \(name)", error)
        }
    }

    // MARK: Making

    /// A volume that is being put together, in a folder that nobody lists and whose lock is held.
    struct Draft: ~Copyable {
        let folder: Descriptor
        fileprivate let name: String
    }

    /// Gives a draft the storage that its volume is to have, and opens the directory that the files will be in.
    func provide(_ volume: inout Volume, _ draft: borrowing Draft) throws(ZoneError) -> OwnFiles {
        if let size = volume.storage {
            volume.storageLimit = try StorageMaker(zones).make(size, in: draft.folder, option: "--size")
        }
        let limit = volume.storageLimit
        return try attempting("make volume \(volume.name)") { () throws(SystemError) in
            try OwnFiles(limit, in: draft.folder, at: "\(folders.volumes)/\(draft.name)")
        }
    }

    func draft(_ locked: borrowing Locked) throws(ZoneError) -> Draft {
        let name = VolumeStore.unfinished + Volume.madeUpName()
        return try attempting("make a volume") { () throws(SystemError) in
            try locked.folder.makeDirectory(name, mode: 0o700)
            let folder = try locked.folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath)
            _ = try folder.lock()
            return Draft(folder: folder, name: name)
        }
    }

    /// Gives a draft its name, when all of it is on the disk.
    func finish(_ draft: borrowing Draft, as volume: Volume, _ locked: borrowing Locked) throws(ZoneError) {
        do throws(SystemError) {
            try draft.folder.replaceFile(VolumeStore.record, volume.serialized(), mode: 0o600)
            try check(zn_syncfs(draft.folder.raw), "syncfs")
            try locked.folder.rename(draft.name, to: volume.name, replace: false)
        } catch {
            if error.errno == .exists { throw taken(volume.name) }
            throw ZoneError("make volume \(volume.name)", error)
        }
    }

    /// Removes a draft that is not to be finished.
    func discard(_ draft: borrowing Draft) {
        // What cannot be removed now, the next one who takes the lock removes.
        let folder = try? Descriptor.open(folders.volumes, [.readOnly, .directory, .noFollow])
        if let folder { try? folder.removeTree(draft.name) }
    }

    func taken(_ name: String) -> ZoneError {
        ZoneError(
            .exists, "there is a volume \"\(name)\" already",
            hint: "choose another name, or remove that one with 'zonectl volume rm \(name)'")
    }

    /// Makes an empty volume. One of that name that is there already is left as it is, as docker does. Returns its name.
    /// `size`: bytes that its files may take.
    public func create(
        _ wanted: String?, labels: [String: String], size: Int64? = nil
    ) throws(ZoneError) -> String {
        var volume = Volume()
        volume.name = wanted ?? Volume.madeUpName()
        volume.isAnonymous = wanted == nil
        volume.labels = labels
        volume.storage = size
        try VolumeStore.validate(volume.name)
        if let size { try StorageLimit.verify(size, "--size") }
        let locked = try lock()
        let made = try ensure(volume, locked)
        if let size, made.storage != size {
            throw ZoneError(
                .exists,
                "there is a volume \"\(volume.name)\" already, \(made.storage.map { "of \(ByteSize.text($0))" } ?? "without a size")",
                hint: "choose another name, or remove that one with 'zonectl volume rm \(volume.name)'")
        }
        return volume.name
    }

    /// Makes a volume unless there is one of that name; returns the one that there is then.
    func ensure(_ wanted: Volume, _ locked: borrowing Locked) throws(ZoneError) -> Volume {
        if let volume = try volume(wanted.name) { return volume }
        var volume = wanted
        volume.created = Int64(time(nil))
        let draft = try draft(locked)
        do throws(ZoneError) {
            let own = try provide(&volume, draft)
            try attempting("make volume \(volume.name)") { () throws(SystemError) in
                try own.folder.makeDirectory(VolumeStore.data, mode: 0o755)
                if volume.storage != nil { try own.sync() }
            }
            try finish(draft, as: volume, locked)
        } catch {
            discard(draft)
            throw error
        }
        return volume
    }

    // MARK: Removing

    /// Removes a volume that no zone needs. `force`: there need not be one.
    public func remove(_ name: String, force: Bool) throws(ZoneError) {
        try VolumeStore.validate(name)
        if try remove(name, where: { _ in true }) || force { return }
        _ = try find(name)
    }

    /// Removes a volume if it is as wanted. Returns whether it was removed; one that a zone needs is an error.
    @discardableResult
    private func remove(
        _ name: String, where isWanted: (Volume) -> Bool
    ) throws(ZoneError) -> Bool {
        while true {
            let locked = try lock()
            let status = try? locked.folder.status(name)
            guard status != nil else { return false }
            // One whose record is lost can be removed, too.
            if let volume = try? volume(name), !isWanted(volume) { return false }
            if let users = try users()[name] { throw VolumeStore.inUse(name, users) }
            let folder = try attempting("open volume \(name)") { () throws(SystemError) in
                try locked.folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath)
            }
            // Who copies it may wait for zones, and these for the lock of all volumes: that is not held meanwhile.
            let isFree = try attempting("lock volume \(name)") { () throws(SystemError) in
                try folder.lock(wait: false)
            }
            if !isFree {
                drop(locked)
                _ = try attempting("lock volume \(name)") { () throws(SystemError) in try folder.lock() }
                continue
            }
            try attempting("remove volume \(name)") { () throws(SystemError) in
                let leaving = VolumeStore.gone + name
                try locked.folder.rename(name, to: leaving, replace: false)
                try locked.folder.removeTree(leaving)
            }
            return true
        }
    }

    private static func inUse(_ name: String, _ zones: [String]) -> ZoneError {
        let isOne = zones.count == 1
        return ZoneError(
            .wrongState,
            "volume \(name) is used by zone\(isOne ? "" : "s") \(zones.joined(separator: ", "))",
            hint: "remove \(isOne ? "that zone" : "those zones") first: zonectl rm \(zones.joined(separator: " "))")
    }

    /// Removes volumes that no zone needs: those without a name of their own, or all. Snapshots stay. Returns their names.
    public func prune(all: Bool) throws(ZoneError) -> [String] {
        var removed: [String] = []
        for volume in try list() where volume.snapshotOf == nil && (all || volume.isAnonymous) {
            do throws(ZoneError) {
                if try remove(volume.name, where: { $0.snapshotOf == nil && (all || $0.isAnonymous) }) {
                    removed.append(volume.name)
                }
            } catch {
                // In use.
                if error.code != .wrongState { throw error }
            }
        }
        return removed
    }

    /// Removes volumes that were made for a zone alone, when that is gone. One that another zone uses by its name stays.
    func removeAnonymous(_ names: [String]) throws(ZoneError) {
        for name in names {
            do throws(ZoneError) { try remove(name, where: { $0.isAnonymous }) } catch {
                if error.code != .wrongState { throw error }
            }
        }
    }
}
