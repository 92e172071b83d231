// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import Images
import LinuxSystem

/// Copies files between zones and the host.
///
/// Nothing of a zone's is executed, loaded or trusted (CVE-2019-14271): names are looked up by ``ZoneTree``, one after the
/// other, and files are read and written by descriptors (``TreeTransfer``).
public struct ZoneCopy: Sendable {
    /// One of the two ends.
    public enum End: Sendable, Equatable {
        case zone(String, path: String)
        case host(String)
        /// A tar archive from stdin, or to stdout.
        case stream
    }

    let store: ZoneStore
    /// Owners and all that goes with them are kept; else copies are root's in a zone, and the caller's on the host.
    public var keepsOwners = false
    /// A source that is a symbolic link is followed.
    public var followsLink = false
    let report: @Sendable (String) -> Void

    /// `report` gets lines about what is left out.
    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void) {
        store = ZoneStore(folders)
        self.report = report
    }

    public func copy(from source: End, to target: End) throws(ZoneError) {
        if try copyWithMachine(from: source, to: target) { return }
        switch (source, target) {
        case (.zone, .host), (.zone, .stream), (.host, .zone), (.stream, .zone): break
        case (.zone(let from, let path), .zone(let to, let other)):
            return try copy(path, of: from, to: other, of: to)
        default:
            throw ZoneError(
                .invalid, "cp: neither of the two is a zone's",
                hint: "a zone's path is written ZONE:PATH, as in web:/etc")
        }
        let isZones = if case .zone = target { true } else { false }
        // Before a zone's root is mounted, which changes what paths of the host's mean.
        let from = try place(source, writes: false)
        let to = try place(target, writes: true)
        switch (source, target) {
        case (.zone(_, let path), .stream): try archive(path, from)
        case (.stream, .zone(_, let path)): try extract(to: path, to)
        case (.zone(_, let path), .host(let destination)), (.host(let path), .zone(_, let destination)):
            try copy(path, from, to: destination, to, isZones: isZones)
        default: break
        }
    }

    /// From one zone to another.
    private func copy(
        _ path: String, of source: String, to destination: String, of target: String
    ) throws(ZoneError) {
        let (first, second) = (try store.find(source).name, try store.find(target).name)
        if first == second {
            throw ZoneError(
                .unsupported, "cp: both are in zone \(first)",
                hint: "its own programs do that: zonectl exec \(first) cp \(path) \(destination)")
        }
        // Each locks a zone that does not run: in the order of their names, so that two of us never wait for one another.
        if first < second {
            let from = try place(.zone(first, path: path), writes: false)
            let to = try place(.zone(second, path: destination), writes: true)
            return try copy(path, from, to: destination, to, isZones: true)
        }
        let to = try place(.zone(second, path: destination), writes: true)
        let from = try place(.zone(first, path: path), writes: false)
        try copy(path, from, to: destination, to, isZones: true)
    }

    private func place(_ end: End, writes: Bool) throws(ZoneError) -> CopyPlace {
        guard case .zone(let name, let path) = end else { return CopyPlace(nil) }
        if path.isEmpty {
            throw ZoneError(.invalid, "cp: the path in zone \(name) is empty", hint: "its root is \(name):/")
        }
        return CopyPlace(try ZoneTree.open(name, in: store, for: "cp", writes: writes, report: report))
    }

    // MARK: Files

    /// A source, open, with what its path says besides.
    private struct Source: ~Copyable {
        let file: Descriptor
        let status: FileStatus
        /// What it is called; `nil` where only what is in it is meant.
        let name: String?
    }

    private func source(_ path: String, _ place: borrowing CopyPlace) throws(ZoneError) -> Source {
        let (_, name) = CopyPlace.split(path)
        // `dir/` is the directory `dir`, which a link may lead to; `dir/.` is what is in it.
        var trimmed = path[...]
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed = trimmed.dropLast() }
        let called = name ?? CopyPlace.split(String(trimmed)).name
        let file = try place.open(path, follows: followsLink || name == nil)
        let status: FileStatus
        do throws(SystemError) { status = try file.stat() } catch { throw place.failure(path, error) }
        if name == nil, status.kind != .directory {
            throw ZoneError(.invalid, "cp: \(place.describe(path)): it is no directory")
        }
        return Source(file: file, status: status, name: called)
    }

    private func policy(isZones: Bool) -> CopyPolicy {
        var policy = CopyPolicy()
        // Another's set-id program or device node would mean something else, and more, to whoever gets it.
        if !keepsOwners { policy.owner = isZones ? (0, 0) : (geteuid(), getegid()) }
        policy.makesNodes = keepsOwners
        return policy
    }

    func copy(
        _ path: String, _ from: borrowing CopyPlace, to destination: String, _ to: borrowing CopyPlace, isZones: Bool
    ) throws(ZoneError) {
        let source = try source(path, from)
        var transfer = TreeTransfer(policy(isZones: isZones), report: report)
        let isDirectory = source.status.kind == .directory
        let target: CopyPlace.Target
        do throws(ZoneError) { target = try to.target(destination) } catch {
            // `docker cp` makes no directories on the way, either.
            guard error.code == .notFound else { throw error }
            throw ZoneError(error.code, error.detail, hint: "make that directory first")
        }
        if target.isTaken, isDirectory {
            throw ZoneError(
                .invalid, "cp: \(to.describe(destination)) is a file, and cannot be replaced by a directory")
        }
        do throws(SystemError) {
            guard let name = target.name ?? source.name.map({ $0.utf8CString.map { $0 } }) else {
                return try transfer.copyContent(of: source.file, to: target.directory)
            }
            // `dir/.` under a new name is a new directory with what is in it.
            try transfer.copy(source.file, to: target.directory, as: name)
        } catch {
            throw to.failure(destination, error)
        }
    }

    // MARK: Archives

    private func archive(_ path: String, _ from: borrowing CopyPlace) throws(ZoneError) {
        let source = try source(path, from)
        if isatty(1) == 1 {
            throw ZoneError(
                .invalid, "cp: an archive is nothing for a terminal", hint: "send stdout to a file or a program")
        }
        try attemptingImage { () throws(ImageError) in
            var writer = try TreeArchiver(to: 1, report: report)
            try writer.add(source.file, as: source.name ?? ".")
            try writer.finish()
        }
    }

    private func extract(to path: String, _ to: borrowing CopyPlace) throws(ZoneError) {
        let target = try to.target(path)
        guard target.name == nil else {
            throw ZoneError(
                .invalid, "cp: \(to.describe(path)) must be a directory that there is, for an archive's members")
        }
        var policy = CopyPolicy()
        policy.makesNodes = true
        do throws(ImageError) {
            try TreeExtractor(policy).extract(0, into: target.directory) { below in to.directory(below, of: path) }
        } catch {
            throw ZoneError(error).inside("cp: \(to.describe(path))")
        }
    }
}
