// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Unpacks a tar archive into a tree that is in use, as tar(1) would there: nothing is a whiteout, and files replace files.
public struct TreeExtractor {
    private let policy: CopyPolicy
    private let maker: EntryMaker
    private let isAll: Bool

    /// `isAll`: the target is to be what the archive holds and nothing else. What that says of `.` holds for the target
    /// itself, and one that has no end was cut short, though nobody else would mind.
    public init(_ policy: CopyPolicy, isAll: Bool = false) {
        self.policy = policy
        self.isAll = isAll
        maker = EntryMaker(policy)
    }

    /// Opens a directory, given relative to the target, that lies behind a symbolic link of the target's.
    public typealias LookUp = (String) -> Descriptor?

    /// Reads the archive from a descriptor that stays the caller's, compressed or not. Only the target's owner knows what
    /// its links mean: `lookUp`.
    public func extract(
        _ raw: CInt, into target: borrowing Descriptor, lookUp: LookUp
    ) throws(ImageError) {
        let limits = UnpackLimits()
        let copy = try attempting("read the archive") { () throws(SystemError) in
            Descriptor(owning: try check(zn_fcntl(raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor"))
        }
        let stream = try BlobStream(copy, limits: limits)
        let archive = try TarReader(stream, limits: limits)
        var directories: [(path: LayerPath, attributes: FileAttributes)] = []
        var root: FileAttributes?
        var members = 0
        while let entry = try archive.next() {
            members += 1
            let path = try LayerPath(entry.path)
            if path.isRoot {
                if entry.kind == .directory { root = TreeExtractor.attributes(of: entry) }
                continue
            }
            do throws(SystemError) {
                if let made = try makeEntry(entry, path, target, archive, lookUp) { directories.append((path, made)) }
            } catch {
                throw ImageError("unpack \(path.shown)", error)
            }
        }
        guard members > 0 else { throw ImageError(.invalid, "an archive without members") }
        _ = try stream.finish()
        if isAll, stream.trailingZeros < 1024 {
            throw ImageError(.invalid, "the archive has no end: it was cut short")
        }
        // Each member that was made in a directory has changed its time.
        for (path, attributes) in directories.reversed() {
            guard let parent = try? parent(of: path, target, lookUp), let directory = try? parent.openEntry(path.name)
            else {
                continue
            }
            _ = zn_utimensat(directory.raw, "", attributes.seconds, attributes.nanoseconds, atEmptyPath)
        }
        if isAll, let root {
            try attempting("unpack .") { () throws(SystemError) in
                try maker.set(root, of: target, .directory, [CChar(bitPattern: UInt8(ascii: ".")), 0])
            }
        }
    }

    private static func attributes(of entry: TarEntry) -> FileAttributes {
        FileAttributes(
            mode: entry.mode, uid: entry.uid, gid: entry.gid, seconds: entry.time.seconds,
            nanoseconds: entry.time.nanoseconds,
            extended: entry.attributes.map { ExtendedAttribute(name: $0.name, value: $0.value) })
    }

    /// Makes a member; returns the attributes of a directory that is new.
    private func makeEntry(
        _ entry: TarEntry, _ path: LayerPath, _ target: borrowing Descriptor, _ archive: TarReader, _ lookUp: LookUp
    ) throws(SystemError) -> FileAttributes? {
        let attributes = TreeExtractor.attributes(of: entry)
        let parent = try parent(of: path, target, lookUp)
        switch entry.kind {
        case .directory:
            // One that is there keeps its attributes.
            if case .some = try existingDirectory(path, in: parent, lookUp) { return nil }
            try maker.set(attributes, of: try maker.directory(path.name, in: parent).file, .directory, path.name)
            return attributes
        case .regular:
            let made = try maker.file(path.name, in: parent)
            do throws(SystemError) { try write(archive, size: entry.size, to: made.file) } catch {
                maker.discard(made, in: parent)
                throw error
            }
            try maker.finish(made, attributes, .regular, in: parent)
        case .hardLink:
            guard let first = try? LayerPath(entry.link), !first.isRoot, first != path else {
                throw SystemError("link", TarEntry.shown(entry.link), .invalid)
            }
            let folder = try self.parent(of: first, target, lookUp)
            guard try maker.hardLink(path.name, to: first.name, of: folder, in: parent) else {
                throw SystemError("link", first.shown, .noEntry)
            }
        case .symlink:
            let text = LayerPath.terminated(entry.link)
            let made = try maker.symlink(path.name, to: text, in: parent)
            try maker.finish(made, attributes, .symlink, in: parent)
        case .characterDevice, .blockDevice, .fifo:
            let kind: FileStatus.Kind =
                entry.kind == .fifo ? .fifo : entry.kind == .blockDevice ? .blockDevice : .characterDevice
            let made = try maker.node(path.name, kind, major: entry.major, minor: entry.minor, in: parent)
            try maker.finish(made, attributes, kind, in: parent)
        }
        return nil
    }

    private func write(_ archive: TarReader, size: Int64, to file: borrowing Descriptor) throws(SystemError) {
        do throws(ImageError) {
            while let (offset, bytes) = try archive.nextData() {
                guard offset >= 0, offset <= size, Int64(bytes.count) <= size - offset else {
                    throw ImageError(.invalid, "data beyond the file's end")
                }
                var done = 0
                while let base = bytes.baseAddress, done < bytes.count {
                    let count = zn_pwrite(file.raw, base + done, bytes.count - done, Int(offset) + done)
                    if count < 0 {
                        throw ImageError("write", SystemError("write", "", Errno(rawValue: CInt(clamping: -count))))
                    }
                    done += count
                }
            }
        } catch {
            throw error.cause ?? SystemError("read the archive: \(error.detail)", "", .invalid)
        }
        try check(zn_ftruncate(file.raw, Int(size)), "truncate")
    }

    // MARK: Names

    /// A directory that is there, be it behind a link, as /bin is on most systems.
    private func existingDirectory(
        _ path: LayerPath, in parent: borrowing Descriptor, _ lookUp: LookUp
    ) throws(SystemError) -> Descriptor? {
        guard let found = try parent.openEntry(path.name) else { return nil }
        switch try found.stat().kind {
        case .directory: return found
        case .symlink: return lookUp(path.whole.shown)
        default: return nil
        }
    }

    /// Opens the directory that a member lies in; makes those that are missing.
    private func parent(of path: LayerPath, _ target: borrowing Descriptor, _ lookUp: LookUp) throws(SystemError)
        -> Descriptor
    {
        let flags = OpenFlags([.path, .directory, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks, .noMagicLinks])
        let raw = zn_openat2(target.raw, path.parent, UInt64(flags.rawValue), 0, resolve.rawValue)
        if raw >= 0 { return Descriptor(owning: raw) }
        if raw == -ELOOP, let directory = lookUp(path.parent.shown) { return directory }
        guard raw == -ENOENT, let up = path.up else {
            throw SystemError("open", path.parent.shown, Errno(rawValue: -raw))
        }
        let above = try parent(of: up, target, lookUp)
        if let directory = try existingDirectory(up, in: above, lookUp) { return directory }
        try check(zn_mkdirat(above.raw, up.name, 0o755), "mkdir", up.shown)
        guard let made = try existingDirectory(up, in: above, lookUp) else {
            throw SystemError("mkdir", up.shown, .noEntry)
        }
        return made
    }
}
