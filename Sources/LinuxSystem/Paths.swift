// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// Changes below a directory, each by a name relative to a descriptor.
extension Descriptor {
    /// Makes a directory; the mode is subject to the umask. The corresponding system call is `mkdirat`.
    public func makeDirectory(_ name: String, mode: UInt32 = 0o755) throws(SystemError) {
        try check(zn_mkdirat(raw, name, mode), "mkdir", name)
    }

    /// Makes a directory unless it exists.
    public func ensureDirectory(_ name: String, mode: UInt32 = 0o755) throws(SystemError) {
        let result = zn_mkdirat(raw, name, mode)
        if result == -EEXIST { return }
        try check(result, "mkdir", name)
    }

    /// Removes a file, or an empty directory where `directory` is set. The corresponding system call is `unlinkat`.
    public func remove(_ name: String, directory: Bool = false) throws(SystemError) {
        try check(zn_unlinkat(raw, name, directory ? AT_REMOVEDIR : 0), directory ? "rmdir" : "unlink", name)
    }

    /// Waits until the file system that holds this open directory is on its disk. The corresponding system call is `syncfs`.
    public func sync() throws(SystemError) {
        try check(zn_syncfs(raw), "syncfs")
    }

    /// Renames within this directory, replacing what is there. The corresponding system call is `renameat2`.
    public func rename(_ from: String, to: String, replace: Bool = true) throws(SystemError) {
        let result = replace ? zn_renameat2(raw, from, raw, to, 0) : renameToNew(raw, from, raw, to)
        try check(result, "rename", "\(from) to \(to)")
    }

    /// Makes a symbolic link. The corresponding system call is `symlinkat`.
    public func makeSymlink(_ name: String, to target: String) throws(SystemError) {
        try check(zn_symlinkat(target, raw, name), "symlink", name)
    }

    /// Returns a symbolic link's target.
    public func readLink(_ name: String) throws(SystemError) -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = try check(zn_readlinkat(raw, name, &buffer, buffer.count), "readlink", name)
        return String(decoding: buffer[..<count].lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Looks at a name in this directory without following a symbolic link.
    public func status(_ name: String) throws(SystemError) -> FileStatus {
        var status = Glibc.stat()
        try check(zn_fstatat(raw, name, &status, AT_SYMLINK_NOFOLLOW), "stat", name)
        return FileStatus(status)
    }

    /// As ``status(_:)``, for a name that need not be UTF-8; it ends with a NUL.
    public func status(rawName name: [CChar]) throws(SystemError) -> FileStatus {
        var status = Glibc.stat()
        let shown = { String(decoding: name.dropLast().lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self) }
        try check(zn_fstatat(raw, name, &status, AT_SYMLINK_NOFOLLOW), "stat", shown())
        return FileStatus(status)
    }

    /// Replaces the file `name` by one that holds `bytes`: written beside it, then renamed over it, so that a reader
    /// sees the old content or the new, and a crash leaves one of the two. `durable` waits for the disk.
    public func replaceFile(
        _ name: String,
        _ bytes: [UInt8],
        mode: UInt32 = 0o644,
        durable: Bool = false
    ) throws(SystemError) {
        let temporary = ".\(name).new"
        let file = try open(temporary, [.writeOnly, .create, .truncate, .noFollow], mode: mode, resolve: .beneath)
        do throws(SystemError) {
            try file.writeAll(bytes, name)
            if durable { try check(zn_fsync(file.raw), "fsync", name) }
            try rename(temporary, to: name)
        } catch {
            _ = zn_unlinkat(raw, temporary, 0)
            throw error
        }
    }

    /// Reads a small file below this directory; more than `limit` bytes is `EFBIG`.
    public func readFile(_ name: String, limit: Int = 16 << 20) throws(SystemError) -> [UInt8] {
        let file = try open(name, [.readOnly], resolve: .beneath)
        return try file.readAll(limit: limit, name)
    }

    /// Returns the names in this directory, without `.` and `..`, in the kernel's order.
    public func entries() throws(SystemError) -> [String] {
        try rawEntries().map { name in
            String(decoding: name.dropLast().lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// As ``entries()``, for directories whose names need not be UTF-8: bytes that end with a NUL.
    public func rawEntries() throws(SystemError) -> [[CChar]] {
        var names: [[CChar]] = []
        try forEachEntry { entry in names.append(entry.name.map { CChar(bitPattern: $0) } + [0]) }
        return names
    }

    /// What getdents64(2) says of a name: without a NUL; not every file system knows the type.
    public struct Entry {
        public let name: ArraySlice<UInt8>
        public let inode: UInt64
        public let isDirectory: Bool
    }

    /// Calls `body` with each entry of this directory, without `.` and `..`, in the kernel's order.
    public func forEachEntry(_ body: (Entry) -> Void) throws(SystemError) {
        let listing = try open(".", [.readOnly, .directory], resolve: .beneath)
        var buffer = [UInt8](repeating: 0, count: 32768)
        while true {
            let result = buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_getdents64(listing.raw, $0, bytes.count) } ?? 0
            }
            let size = try check(result, "read directory")
            if size == 0 { return }
            // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name: see getdents64(2).
            var offset = 0
            while offset + 19 <= size {
                let length = Int(buffer[offset + 16]) | Int(buffer[offset + 17]) << 8
                guard length >= 20, offset + length <= size else { break }
                let name = buffer[(offset + 19)..<(offset + length)].prefix { $0 != 0 }
                let dot = UInt8(ascii: ".")
                if name != [dot], name != [dot, dot] {
                    let inode = (0..<8).reduce(UInt64(0)) { $0 | UInt64(buffer[offset + $1]) << (8 * UInt64($1)) }
                    body(Entry(name: name, inode: inode, isDirectory: buffer[offset + 18] == DT_DIR))
                }
                offset += length
            }
        }
    }

    /// Takes an advisory lock that lives as long as this open file; `false` where another holds it and `wait` is off.
    /// The corresponding system call is `flock`.
    public func lock(exclusive: Bool = true, wait: Bool = true) throws(SystemError) -> Bool {
        let result = zn_flock(raw, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB))
        if result == -EWOULDBLOCK { return false }
        try check(result, "flock")
        return true
    }

    /// Gives the lock up before the file is closed, for every copy of the descriptor.
    public func unlock() {
        // A file that is open can be unlocked.
        _ = zn_flock(raw, LOCK_UN)
    }

    /// Makes the directories of an absolute host path that are missing and opens the last one.
    public static func makePath(_ path: String, mode: UInt32 = 0o755) throws(SystemError) -> Descriptor {
        let result = zn_openat(AT_FDCWD, path, OpenFlags([.path, .directory, .closeOnExec]).rawValue, 0)
        if result >= 0 { return Descriptor(owning: result) }
        guard result == -ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            try check(result, "open", path)
            throw SystemError("open", path, .noEntry)
        }
        let parent = try makePath(String(path[..<slash]), mode: mode)
        let name = String(path[path.index(after: slash)...])
        if !name.isEmpty {
            do throws(SystemError) { try parent.ensureDirectory(name, mode: mode) } catch {
                throw error.during("mkdir", path)
            }
        }
        return try open(path, [.path, .directory])
    }
}

/// Renames to a name that nothing has yet; `-EEXIST` where something has. Names end with a NUL. File systems that know no
/// flags of renameat2(2), NFS and many in user space, are asked before: there, only locks keep two from the same name.
public func renameToNew(
    _ folder: CInt, _ name: UnsafePointer<CChar>, _ other: CInt, _ new: UnsafePointer<CChar>
) -> CInt {
    // RENAME_NOREPLACE
    let result = zn_renameat2(folder, name, other, new, 1)
    guard result == -EINVAL else { return result }
    var status = stat()
    let found = zn_fstatat(other, new, &status, AT_SYMLINK_NOFOLLOW)
    if found != -ENOENT { return found < 0 ? found : -EEXIST }
    return zn_renameat2(folder, name, other, new, 0)
}

/// Reads a small file that somebody else named: what would block or has no end, as a pipe or a device, is `EINVAL`.
public func readRegularFile(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
    let file = try Descriptor.open(path, [.readOnly, .nonBlocking, .noControllingTerminal])
    guard try file.stat().kind == .regular else { throw SystemError("read", "\(path): not a regular file", .invalid) }
    return try file.readAll(limit: limit, path)
}

/// Reads a small file of the host's.
public func readHostFile(_ path: String, limit: Int = 16 << 20) throws(SystemError) -> [UInt8] {
    let file = try Descriptor.open(path, [.readOnly])
    return try file.readAll(limit: limit, path)
}
