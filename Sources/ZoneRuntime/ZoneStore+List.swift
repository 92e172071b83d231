// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Which zones there are.
extension ZoneStore {
    /// Returns all zones, by name: those made from images and those made from bundles.
    public func list() throws(ZoneError) -> [Entry] {
        try entries(try names())
    }

    /// As ``list()``, for who only shows them: the records' `cgroups` are not read, which are most of what is recorded.
    /// `forEngines`: a store that cannot be read has nothing for the caller, whose zones are bundles'.
    public func summaries(forEngines: Bool = false) throws(ZoneError) -> [Entry] {
        try entries(try names(forEngines: forEngines), leavingOut: ["cgroups"])
    }

    private func entries(_ names: [String], leavingOut unread: [String] = []) throws(ZoneError) -> [Entry] {
        // A thousand zones are two thousand files to read, half of them of /proc, which are the slower ones.
        if names.count < ZoneStore.fewestToHurry { return names.map { entry($0, leavingOut: unread) } }
        let kept = (try? keptZones()) ?? []
        return Threads.map(names, on: min(Threads.available, 8)) { (name: String) in
            entry(name, isKept: kept.contains(name), leavingOut: unread)
        }
    }

    /// From how many zones on a thread costs less than it saves.
    private static let fewestToHurry = 100

    /// The zones whose keepers live, all at one look: each holds a ``PresenceLock`` on ROOT/NAME.
    private func keptZones() throws(SystemError) -> Set<String> {
        let root = try Descriptor.open(folders.root, [.readOnly, .directory])
        let held = try PresenceLock.inodes(on: try root.stat().device)
        var names: Set<String> = []
        try root.forEachEntry { entry in
            if held.contains(entry.inode) { names.insert(String(decoding: entry.name, as: UTF8.self)) }
        }
        return names
    }

    /// The names alone, in their order: no zone's record is read.
    public func names(forEngines: Bool = false) throws(ZoneError) -> [String] {
        let zones = try names(in: folders.zones, isOptional: forEngines).filter { ZoneName.isValid($0) }
        let bundles = try names(in: folders.root).filter { ZoneName.isValidID($0) }
        return Set(zones).union(bundles).sorted()
    }

    /// The names in a folder of the store's, in their order; what is not finished, or is going, has one that begins with a dot.
    func names(ofAll things: String, in folder: String) throws(ZoneError) -> [String] {
        do throws(SystemError) {
            let names = try Descriptor.open(folder, [.readOnly, .directory, .noFollow]).entries()
            return names.filter { ZoneName.isValid($0) }.sorted()
        } catch {
            if error.errno == .noEntry { return [] }
            throw ZoneError("list \(things)", error)
        }
    }

    private func names(in folder: String, isOptional: Bool = false) throws(ZoneError) -> [String] {
        do throws(SystemError) {
            return try Descriptor.open(folder, [.readOnly, .directory]).entries()
        } catch {
            if error.errno == .noEntry || isOptional && error.errno == .accessDenied { return [] }
            throw ZoneError("list zones", error)
        }
    }

    /// Returns the zone of this name, or the only one whose name begins so. `exactly`: only the former, for what cannot
    /// be undone.
    public func find(_ name: String, exactly: Bool = false) throws(ZoneError) -> Entry {
        if ZoneName.isValidID(name), exists(name) { return entry(name) }
        let matches = name.isEmpty ? [] : try names().filter { $0.hasPrefix(name) }.map { entry($0) }
        if let only = matches.first, matches.count == 1 {
            if !exactly { return only }
            throw ZoneError(
                .notFound, "no zone is named \"\(name)\"",
                hint: "did you mean \(only.name)? 'rm -f' wants the whole name")
        }
        if matches.isEmpty {
            throw ZoneError(.notFound, "no zone is named \"\(name)\"", hint: "'zonectl ls' lists all zones")
        }
        let names = matches.map(\.name).joined(separator: ", ")
        throw ZoneError(.invalid, "\"\(name)\" could be any of \(names)", hint: "give more of the name")
    }
}
