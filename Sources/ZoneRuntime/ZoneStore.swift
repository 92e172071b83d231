// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
public import OCI

/// Finds, claims and records zones on disk.
public struct ZoneStore: Sendable {
    public let folders: ZoneFolders

    public init(_ folders: ZoneFolders) {
        self.folders = folders
    }

    /// A zone as it was found.
    public struct Entry: Sendable {
        public let name: String
        /// `nil` where the zone's making was interrupted before anything was recorded, or the file is damaged.
        public let record: ZoneRecord?
        public let state: ZoneState
    }

    // MARK: Looking

    func exists(_ name: String) -> Bool {
        // A name that cannot be looked up is none of a zone.
        (try? FileStatus.of(folders.persistent(name))) != nil || (try? FileStatus.of(folders.volatile(name))) != nil
    }

    func entry(_ name: String, isKept: Bool = false, leavingOut unread: [String] = []) -> Entry {
        do throws(ZoneError) {
            let record = try record(of: name, leavingOut: unread)
            return Entry(
                name: name, record: record,
                state: record.map { ZoneState($0, isKept: isKept) } ?? .stopped(exitCode: nil))
        } catch {
            return Entry(name: name, record: nil, state: .damaged(error.detail))
        }
    }

    /// Reads `state.json`; `nil` where there is none, for example after a reboot, and where the one that is there is another
    /// store's: the zone of this name here has none.
    func record(of name: String, leavingOut unread: [String] = []) throws(ZoneError) -> ZoneRecord? {
        guard let record = try anyRecord(of: name, leavingOut: unread) else { return nil }
        if record.store != folders.store, record.bundle == nil, try isPersistent(name) { return nil }
        return record
    }

    /// As ``record(of:)``, whichever store's it is.
    func anyRecord(of name: String, leavingOut unread: [String] = []) throws(ZoneError) -> ZoneRecord? {
        try read("\(folders.volatile(name))/state.json", leavingOut: unread)
    }

    /// Whether ROOT/NAME is a zone's of another store that uses the same root, or a bundle's.
    func isRootOthers(_ name: String) throws(ZoneError) -> Bool {
        guard let record = try anyRecord(of: name) else { return false }
        return record.bundle != nil || record.store != folders.store
    }

    /// Reads what the zone is; `nil` where its making was interrupted before that was written.
    public func definition(of name: String) throws(ZoneError) -> ZoneDefinition? {
        var definition: ZoneDefinition? = try read("\(folders.persistent(name))/definition.json")
        // The folder's name is the zone's: it changes in one step.
        definition?.name = name
        return definition
    }

    /// Reads the configuration that the zone runs with.
    public func configuration(of name: String) throws(ZoneError) -> Spec? {
        try read("\(folders.volatile(name))/config.json")
    }

    /// Reads what is known of a living zone's health; `nil` where nobody checks it.
    public func health(of entry: Entry) -> HealthRecord? {
        guard entry.record?.isChecked ?? false, entry.state.process != nil else { return nil }
        // Of no weight for whoever lists zones: what cannot be read is not known.
        return (try? read("\(folders.volatile(entry.name))/\(HealthMonitor.fileName)")) ?? nil
    }

    func read<Record: JSONRecord>(_ path: String, leavingOut unread: [String] = []) throws(ZoneError) -> Record? {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try readHostFile(path) } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return nil }
            throw ZoneError("read", error)
        }
        do throws(JSONError) { return try Record(parsing: bytes, leavingOut: unread) } catch {
            throw ZoneError(file: path, error)
        }
    }

    // MARK: Claiming and changing

    /// A zone that this process holds the lock of.
    struct Claim: ~Copyable {
        let name: String
        /// STORE/zones/NAME, locked as long as this value lives.
        let persistent: Descriptor

        /// Lets others have the lock before this value ends. The lock is the open file's: copies of it in other processes
        /// lose it, too.
        func unlock() { persistent.unlock() }
    }

    /// Makes the zone's persistent folder, which is what makes the name taken, and locks it.
    func claim(_ wanted: String?) throws(ZoneError) -> Claim {
        if let wanted { try ZoneName.validate(wanted) }
        let zones = try attempting("make the folder of zones") { () throws(SystemError) in
            // Nobody else may look in: a zone's setuid programs are the zone's, not the host's users'.
            try Descriptor.makePath(folders.zones, mode: 0o700)
        }
        for _ in 0..<64 {
            let name = wanted ?? ZoneName.random()
            do throws(SystemError) {
                try zones.makeDirectory(name, mode: 0o700)
                do throws(SystemError) {
                    let folder = try zones.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath)
                    _ = try folder.lock()
                    // Removed by somebody before we had the lock: once more.
                    guard try isStill(folder, folders.persistent(name)) else { continue }
                    // Its control groups would be another zone's.
                    if (try? isRootOthers(name)) == true { throw SystemError("claim", name, .exists) }
                    return Claim(name: name, persistent: folder)
                } catch {
                    // Nobody else knows of it yet. The first error is the one to tell.
                    try? zones.remove(name, directory: true)
                    throw error
                }
            } catch {
                guard error.errno == .exists else { throw ZoneError("make zone \(name)", error) }
                if wanted != nil {
                    throw ZoneError(
                        .exists, "name \"\(name)\" is taken by another zone",
                        hint: "choose another --name, or remove that zone with 'zonectl rm \(name)'")
                }
            }
        }
        throw ZoneError(.exists, "no free name was found in 64 tries", hint: "choose one with --name")
    }

    /// Whether a zone has a folder in the store, as all do that are made from images.
    func isPersistent(_ name: String) throws(ZoneError) -> Bool {
        do throws(SystemError) {
            _ = try FileStatus.of(folders.persistent(name), followLinks: false)
            return true
        } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return false }
            throw ZoneError("look at zone \(name)", error)
        }
    }

    /// Locks an existing zone; waits for a `zonectl` that is just changing it, and finishes what one was killed in.
    func lock(_ name: String) throws(ZoneError) -> Claim {
        let claim = try lockAsItIs(name)
        try PendingRestore.finish(claim.persistent, name)
        return claim
    }

    /// The same for who is about to remove it.
    func lockAsItIs(_ name: String) throws(ZoneError) -> Claim {
        do throws(SystemError) {
            while true {
                let folder = try Descriptor.open(folders.persistent(name), [.readOnly, .directory, .noFollow])
                _ = try folder.lock()
                // What was locked may have been removed meanwhile, and the name be another zone's by now.
                if try isStill(folder, folders.persistent(name)) { return Claim(name: name, persistent: folder) }
            }
        } catch {
            if error.errno == .noEntry { throw ZoneError(.notFound, "zone \(name) has just been removed") }
            throw ZoneError("lock zone \(name)", error)
        }
    }

    /// Whether an open folder is the one that has the zone's name.
    private func isStill(_ folder: borrowing Descriptor, _ path: String) throws(SystemError) -> Bool {
        let held = try folder.stat()
        let named: FileStatus
        do throws(SystemError) { named = try FileStatus.of(path, followLinks: false) } catch {
            if error.errno == .noEntry { return false }
            throw error
        }
        return held.inode == named.inode && held.device == named.device
    }

    /// A zone made from a bundle that this process holds the lock of.
    struct BundleClaim: ~Copyable {
        let id: String
        /// ROOT/ID, locked as long as this value lives.
        let folder: Descriptor
    }

    /// Makes ROOT/ID for a bundle's zone, which is all that such a zone has, and locks it.
    func claimBundle(_ id: String) throws(ZoneError) -> BundleClaim {
        try ZoneName.validateID(id)
        let root = try attempting("make the folder of states") { () throws(SystemError) in
            try Descriptor.makePath(folders.root, mode: 0o700)
        }
        let isTaken = ZoneName.isValid(id) && (try? FileStatus.of(folders.persistent(id))) != nil
        do throws(SystemError) {
            if isTaken { throw SystemError("mkdir", id, .exists) }
            try root.makeDirectory(id, mode: 0o700)
            do throws(SystemError) {
                let folder = try root.open(id, [.readOnly, .directory, .noFollow], resolve: .beneath)
                _ = try folder.lock()
                return BundleClaim(id: id, folder: folder)
            } catch {
                // Nobody else knows of it yet. The first error is the one to tell.
                try? root.remove(id, directory: true)
                throw error
            }
        } catch {
            guard error.errno == .exists else { throw ZoneError("make container \(id)", error) }
            throw ZoneError(
                .exists, "container with id exists: \"\(id)\" already exists",
                hint: "choose another id, or remove that one with 'zonectl delete \(id)'")
        }
    }

    /// Locks an existing zone of a bundle's; waits for a `zonectl` that is just changing it.
    func lockBundle(_ id: String) throws(ZoneError) -> BundleClaim {
        do throws(SystemError) {
            while true {
                let folder = try Descriptor.open(folders.volatile(id), [.readOnly, .directory, .noFollow])
                _ = try folder.lock()
                if try isStill(folder, folders.volatile(id)) { return BundleClaim(id: id, folder: folder) }
            }
        } catch {
            if error.errno == .noEntry { throw ZoneError.noContainer(id) }
            throw ZoneError("lock container \(id)", error)
        }
    }

    /// The zone with exactly this id, as an engine means it.
    func findBundle(_ id: String) throws(ZoneError) -> Entry {
        try ZoneName.validateID(id)
        guard exists(id) else { throw ZoneError.noContainer(id) }
        return entry(id)
    }

    /// Makes ROOT/NAME for a zone whose name is claimed. Zones of another store may use the same root, and then not the
    /// same names: their groups would be the same.
    func makeVolatile(_ name: String) throws(ZoneError) -> Descriptor {
        let root = try attempting("make the folder of states") { () throws(SystemError) in
            try Descriptor.makePath(folders.root, mode: 0o700)
        }
        for _ in 0..<2 {
            do throws(SystemError) {
                try root.makeDirectory(name, mode: 0o700)
                return try root.open(name, [.path, .directory, .noFollow], resolve: .beneath)
            } catch {
                guard error.errno == .exists else { throw ZoneError("make the state folder of zone \(name)", error) }
            }
            let other = try anyRecord(of: name)
            if let bundle = other?.bundle {
                throw ZoneError(
                    .exists, "name \"\(name)\" is taken by a container of the bundle \(bundle)",
                    hint: "choose another --name, or remove that container with 'zonectl delete \(name)'")
            }
            if let other, other.store != folders.store {
                throw ZoneError(
                    .exists, "name \"\(name)\" is taken by a zone of the store \(other.store)",
                    hint: "choose another --name, or another --root for this store")
            }
            // Of a zone that was not removed to the end.
            try attempting("remove what is left of an older zone \(name)") { () throws(SystemError) in
                try root.removeTree(name)
            }
        }
        throw ZoneError(.exists, "the state folder of zone \(name) comes back when it is removed")
    }

    /// Opens ROOT/NAME.
    func openVolatile(_ name: String) throws(ZoneError) -> Descriptor {
        try attempting("open the state folder of zone \(name)") { () throws(SystemError) in
            try Descriptor.open(folders.volatile(name), [.path, .directory])
        }
    }

    /// Writes what the zone is.
    func write(_ definition: ZoneDefinition, in persistent: borrowing Descriptor) throws(ZoneError) {
        do throws(SystemError) {
            try persistent.replaceFile("definition.json", definition.serialized(), mode: 0o600)
        } catch {
            throw ZoneError("record zone \(definition.name)", error)
        }
    }

    /// Replaces the zone's `state.json`.
    func write(_ record: ZoneRecord, in volatile: borrowing Descriptor) throws(ZoneError) {
        do throws(SystemError) { try volatile.replaceFile("state.json", record.serialized(), mode: 0o600) } catch {
            throw ZoneError("record zone \(record.id)", error)
        }
    }

    /// What is there when somebody has stopped the zone: it is not to be started again by itself.
    static let stopMark = "stopped"

    /// Notes that the zone is to stay stopped. On the disk: it holds for the next boot, too.
    func noteStop(_ name: String) throws(ZoneError) {
        do throws(SystemError) {
            let folder = try Descriptor.open(folders.persistent(name), [.path, .directory, .noFollow])
            _ = try folder.open(
                ZoneStore.stopMark, [.writeOnly, .create, .noFollow], mode: 0o600, resolve: .beneath)
        } catch {
            // A zone that was removed meanwhile needs no note.
            if error.errno != .noEntry { throw ZoneError("note that zone \(name) is stopped", error) }
        }
    }

    /// Takes the note back: the zone is started.
    func noteStart(_ persistent: borrowing Descriptor) throws(ZoneError) {
        do throws(SystemError) { try persistent.remove(ZoneStore.stopMark) } catch {
            if error.errno != .noEntry { throw ZoneError("note that the zone is started", error) }
        }
    }

    /// Whether somebody has stopped the zone.
    func isToStayStopped(_ name: String) -> Bool {
        (try? FileStatus.of("\(folders.persistent(name))/\(ZoneStore.stopMark)", followLinks: false)) != nil
    }

    /// Ends and removes what a stopped zone has left in its groups, where its keeper was killed.
    func removeGroups(_ record: ZoneRecord) throws(ZoneError) {
        if record.cgroups.isEmpty { return }
        _ = try attempting("end what is left of zone \(record.id)") { () throws(SystemError) in try record.groups.kill()
        }
        try attempting("remove the control groups of zone \(record.id)") { () throws(SystemError) in
            try record.groups.remove()
        }
    }

    /// Removes what is left of a zone: control groups first, the name last, so that whatever interrupts this leaves
    /// something that can be listed and removed again.
    func erase(_ name: String, cgroups: [CGroupDirectory]) throws(ZoneError) {
        // A damaged record is taken for ours.
        if (try? isRootOthers(name)) != true { try eraseBundle(name, cgroups: cgroups) }
        try erasePersistent(name)
    }

    /// The same for a zone of a bundle, which has nothing in the store.
    func eraseBundle(_ name: String, cgroups: [CGroupDirectory]) throws(ZoneError) {
        do throws(SystemError) {
            if !cgroups.isEmpty { try cgroups.manager.remove() }
            // Neither folder needs to exist any more.
            if let root = try openIfThere(folders.root) { try root.removeTree(name) }
        } catch {
            throw ZoneError("remove zone \(name)", error)
        }
    }

    private func erasePersistent(_ name: String) throws(ZoneError) {
        // One that cannot be read has nothing that could be given back.
        if (try? FileStatus.of(folders.networks)) != nil, let definition = (try? definition(of: name)) ?? nil,
            !definition.networks.isEmpty
        {
            ZoneLinks(self, definition).forget()
            NetworkLeases(self).release(definition.networks, of: name)
        }
        try attempting("remove zone \(name)") { () throws(SystemError) in
            guard let zones = try openIfThere(folders.zones) else { return }
            // What it is goes first: half of its files must not be taken for a zone when this process is killed.
            try? zones.remove("\(name)/definition.json")
            try zones.removeTree(name)
        }
    }

    /// Removes a zone whose start did not succeed, with the groups that were recorded before they were made. `byUs`: this
    /// very process started it, and not a keeper of its own.
    func eraseInterrupted(_ name: String, byUs: Bool = true) throws(ZoneError) {
        let record = try record(of: name)
        let volumes = ((try? definition(of: name)) ?? nil)?.anonymousVolumes ?? []
        // What cannot be removed now, `volume prune` removes.
        defer { try? VolumeStore(self).removeAnonymous(volumes) }
        // Not what another store's zone of the same name has.
        if let record, record.store != folders.store || byUs && record.keeper.pid != getpid() {
            return try erasePersistent(name)
        }
        let groups = record?.cgroups.map(\.directory) ?? []
        do throws(SystemError) {
            if !groups.isEmpty { _ = try groups.manager.kill() }
        } catch {
            throw ZoneError("end the processes of zone \(name)", error)
        }
        if record?.bundle != nil { return try eraseBundle(name, cgroups: groups) }
        try erase(name, cgroups: groups)
    }

    private func openIfThere(_ path: String) throws(SystemError) -> Descriptor? {
        do throws(SystemError) { return try Descriptor.open(path, [.path, .directory]) } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return nil }
            throw error
        }
    }
}
