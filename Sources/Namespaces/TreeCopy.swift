// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Copies what a directory holds into another one, by descriptors only: no symbolic link is followed, and no mount
/// below the directory is entered. Modes, owners, times of files, extended attributes, links and nodes are kept.
struct TreeCopy: ~Copyable {
    /// Directories inside one another; each level holds two descriptors.
    private static let maximumDepth = 200

    /// Files with several names, by their numbers in the source, and where they are in the copy.
    private var linked: [FileNumber: [CChar]] = [:]
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    private struct FileNumber: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    /// The root of the copy, below which hard links are found again.
    private var top: CInt = -1

    init() {}

    mutating func copyContent(of source: borrowing Descriptor, to target: borrowing Descriptor) throws(SystemError) {
        top = target.raw
        try copyContent(of: source, to: target, path: [], depth: 0)
    }

    /// `path` is that of the target below the root of the copy; empty or with a slash at its end.
    private mutating func copyContent(
        of source: borrowing Descriptor,
        to target: borrowing Descriptor,
        path: [CChar],
        depth: Int
    ) throws(SystemError) {
        guard depth < TreeCopy.maximumDepth else { throw SystemError("copy", "", .loop) }
        for name in try source.rawEntries() {
            try copy(name, from: source, to: target, path: path, depth: depth)
        }
    }

    private mutating func copy(
        _ name: [CChar],
        from source: borrowing Descriptor,
        to target: borrowing Descriptor,
        path: [CChar],
        depth: Int
    ) throws(SystemError) {
        var status = stat()
        let seen = zn_fstatat(source.raw, name, &status, AT_SYMLINK_NOFOLLOW)
        // A program of the host's may remove files at any time.
        if seen == -ENOENT { return }
        try check(seen, "stat")
        let kind = status.st_mode & S_IFMT
        let mode = status.st_mode & 0o7777
        let number = FileNumber(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        if kind != S_IFDIR, status.st_nlink > 1 {
            if let first = linked[number] {
                try check(zn_linkat(top, first, target.raw, name, 0), "link")
                return
            }
            linked[number] = path + name
        }
        switch kind {
        case S_IFDIR:
            let from = try open(source, name, [.readOnly, .directory])
            try check(zn_mkdirat(target.raw, name, 0o700), "mkdir")
            let to = try open(target, name, [.readOnly, .directory])
            try copyContent(of: from, to: to, path: path + name.dropLast() + [slash], depth: depth + 1)
            try copyAttributes(from, to)
            try own(target, name, status)
            try check(zn_fchmod(to.raw, mode), "chmod")
        case S_IFREG:
            let from = try open(source, name, [.readOnly, .nonBlocking])
            let flags: OpenFlags = [.writeOnly, .create, .exclusive, .noFollow, .closeOnExec]
            let raw = zn_openat(target.raw, name, flags.rawValue, 0o600)
            let to = Descriptor(owning: try check(raw, "create"))
            try copyBytes(from, to)
            // The owner first: a change of owner takes set-id bits and file capabilities away.
            try own(target, name, status)
            try copyAttributes(from, to)
            try check(zn_fchmod(to.raw, mode), "chmod")
        case S_IFLNK:
            try check(zn_symlinkat(try linkText(source, name), target.raw, name), "symlink")
            try own(target, name, status)
        case S_IFCHR, S_IFBLK, S_IFIFO:
            let made = zn_mknodat(
                target.raw, name, status.st_mode, zn_major(status.st_rdev), zn_minor(status.st_rdev))
            // In a user namespace of its own a zone has no right to make nodes; it gets those of the plan.
            if made == -EPERM { return }
            try check(made, "mknod")
            try own(target, name, status)
        default:
            // A socket is of no use without the program behind it.
            return
        }
        _ = zn_utimensat(
            target.raw, name, Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec), AT_SYMLINK_NOFOLLOW)
    }

    private let slash = CChar(bitPattern: UInt8(ascii: "/"))

    private func open(
        _ directory: borrowing Descriptor,
        _ name: [CChar],
        _ flags: OpenFlags
    ) throws(SystemError) -> Descriptor {
        let resolve: ResolveFlags = [.beneath, .noSymlinks, .noCrossing]
        let all = flags.union([.noFollow, .closeOnExec])
        let raw = zn_openat2(directory.raw, name, UInt64(all.rawValue), 0, resolve.rawValue)
        return Descriptor(owning: try check(raw, "open"))
    }

    private func own(_ directory: borrowing Descriptor, _ name: [CChar], _ status: stat) throws(SystemError) {
        let result = zn_fchownat(directory.raw, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW)
        // An owner that this user namespace does not know: the file stays root's.
        if result == -EINVAL || result == -EOVERFLOW { return }
        try check(result, "chown")
    }

    private func linkText(_ directory: borrowing Descriptor, _ name: [CChar]) throws(SystemError) -> [CChar] {
        var text = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = try check(zn_readlinkat(directory.raw, name, &text, text.count - 1), "readlink")
        return text[..<count] + [0]
    }

    private mutating func copyBytes(_ from: borrowing Descriptor, _ to: borrowing Descriptor) throws(SystemError) {
        while true {
            let size = buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_read(from.raw, $0, bytes.count) } ?? 0
            }
            let count = try check(size, "read")
            if count == 0 { return }
            var done = 0
            while done < count {
                let written = buffer.withUnsafeBytes { bytes in
                    bytes.baseAddress.map { zn_write(to.raw, $0 + done, count - done) } ?? 0
                }
                done += try check(written, "write")
            }
        }
    }

    /// Copies extended attributes; those that the target's file system or this user namespace does not take are left.
    private func copyAttributes(_ from: borrowing Descriptor, _ to: borrowing Descriptor) throws(SystemError) {
        let size = zn_flistxattr(from.raw, nil, 0)
        if size == 0 || size == -Int(EOPNOTSUPP) { return }
        var names = [CChar](repeating: 0, count: try check(size, "listxattr"))
        let listed = try check(zn_flistxattr(from.raw, &names, names.count), "listxattr")
        for name in names[..<listed].split(separator: 0) {
            let name = Array(name) + [0]
            var value = [UInt8](repeating: 0, count: 64 << 10)
            let length = zn_fgetxattr(from.raw, name, &value, value.count)
            if length < 0 { continue }
            let result = zn_fsetxattr(to.raw, name, value, length)
            if result == -EOPNOTSUPP || result == -EPERM || result == -EINVAL { continue }
            try check(result, "setxattr")
        }
    }
}
