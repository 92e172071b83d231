// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// The corresponding C constant is `AT_EMPTY_PATH`, which glibc shows only to GNU sources.
let atEmptyPath: CInt = 0x1000

/// Whole-file operations on descriptors and on the host's own paths.
extension Descriptor {
    /// Reads up to `limit` bytes from the current position to the end; more than that is `EFBIG`.
    public func readAll(limit: Int, _ subject: @autoclosure () -> String = "") throws(SystemError) -> [UInt8] {
        let known = Int(statSize)
        // Before any memory is taken: a sparse file can claim to be of any size. Those of sysfs all claim to be a page.
        if known > Swift.max(limit, 4096) { throw SystemError("read", subject(), Errno(rawValue: EFBIG)) }
        let size = Swift.max(known + 1, 4096)
        var buffer: [UInt8] = []
        while true {
            var result = 0
            // Read to where it stays, which is not filled with zeros first.
            let part = [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
                result = bytes.baseAddress.map { zn_read(raw, $0, size) } ?? 0
                count = Swift.max(result, 0)
            }
            try check(result, "read", subject())
            if buffer.isEmpty { buffer = part } else { buffer += part }
            if buffer.count > limit { throw SystemError("read", subject(), Errno(rawValue: EFBIG)) }
            // Files of the kernel's have no size and are read until nothing comes; for others that call is saved.
            if part.isEmpty || known > 0 && buffer.count == known { return buffer }
        }
    }

    /// Reads at most `count` bytes, fewer where fewer are there; empty at the end.
    public func read(upTo count: Int) throws(SystemError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let result = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(raw, $0, count) } ?? 0
        }
        let size = try check(result, "read")
        buffer.removeLast(count - size)
        return buffer
    }

    /// Writes all of `bytes`.
    public func writeAll(_ bytes: [UInt8], _ subject: @autoclosure () -> String = "") throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                buffer.baseAddress.map { zn_write(raw, $0 + done, buffer.count - done) } ?? 0
            }
            done += try check(count, "write", subject())
        }
    }

    /// Writes all of `text`.
    public func writeAll(_ text: String, _ subject: @autoclosure () -> String = "") throws(SystemError) {
        try writeAll(Array(text.utf8), subject())
    }

    /// Writes `text` in one call, as files of the kernel's (cgroupfs, procfs) want it.
    public func writeOnce(_ text: String, _ subject: @autoclosure () -> String) throws(SystemError) {
        let result = text.withCString { zn_write(raw, $0, text.utf8.count) }
        try check(result, "write", "\(subject()) = \(text)")
    }

    /// Makes a file that has no name and lives in memory. The corresponding system call is `memfd_create`.
    public static func inMemory(_ label: String) throws(SystemError) -> Descriptor {
        Descriptor(owning: try check(zn_memfd_create(label, 1 /* MFD_CLOEXEC */), "memfd_create", label))
    }

    /// Moves the position back to the beginning, for a reader after a writer. The corresponding system call is `lseek`.
    public func rewind() {
        _ = lseek(raw, 0, SEEK_SET)
    }

    /// What `fstat(2)` tells.
    public func stat() throws(SystemError) -> FileStatus {
        var status = Glibc.stat()
        try check(zn_fstatat(raw, "", &status, atEmptyPath), "stat")
        return FileStatus(status)
    }

    private var statSize: Int64 {
        var status = Glibc.stat()
        return zn_fstatat(raw, "", &status, atEmptyPath) < 0 ? 0 : Int64(status.st_size)
    }
}

/// The parts of `struct stat` that this project uses.
public struct FileStatus: Sendable, Equatable {
    public enum Kind: Sendable {
        case regular, directory, symlink, characterDevice, blockDevice, fifo, socket
    }

    public let kind: Kind
    /// Permission bits, set-id bits and sticky bit.
    public let mode: UInt32
    public let uid: UInt32
    public let gid: UInt32
    /// Names of the file; for a directory most file systems count those in it, too: 2 and one for each.
    public let links: UInt64
    public let size: Int64
    public let inode: UInt64
    public let device: UInt64
    /// Major and minor number of a device node.
    public let major: UInt32
    public let minor: UInt32
    /// When the content was last changed, in nanoseconds since 1970.
    public let modified: Int64
    /// When the content or the inode was last changed, in nanoseconds since 1970; nobody can set it back.
    public let changed: Int64

    init(_ status: stat) {
        kind =
            switch status.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .symlink
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            case S_IFIFO: .fifo
            case S_IFSOCK: .socket
            default: .regular
            }
        mode = status.st_mode & 0o7777
        uid = status.st_uid
        gid = status.st_gid
        links = UInt64(status.st_nlink)
        size = Int64(status.st_size)
        inode = UInt64(status.st_ino)
        device = UInt64(status.st_dev)
        major = zn_major(status.st_rdev)
        minor = zn_minor(status.st_rdev)
        modified = FileStatus.nanoseconds(status.st_mtim)
        changed = FileStatus.nanoseconds(status.st_ctim)
    }

    /// The present, on the clock of ``modified`` and ``changed``.
    public static var now: Int64 {
        var time = timespec()
        return clock_gettime(CLOCK_REALTIME, &time) == 0 ? nanoseconds(time) : 0
    }

    /// Wraps instead of trapping: a file system may hold any time.
    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }

    /// Looks at an open file.
    public static func of(descriptor: CInt) throws(SystemError) -> FileStatus {
        var status = Glibc.stat()
        try check(zn_fstatat(descriptor, "", &status, atEmptyPath), "stat", "stream \(descriptor)")
        return FileStatus(status)
    }

    /// Looks at a path of the host's, following symbolic links unless told otherwise.
    public static func of(_ path: String, followLinks: Bool = true) throws(SystemError) -> FileStatus {
        var status = Glibc.stat()
        try check(zn_fstatat(AT_FDCWD, path, &status, followLinks ? 0 : AT_SYMLINK_NOFOLLOW), "stat", path)
        return FileStatus(status)
    }
}

/// The calling process's own output streams, which it does not own.
public enum StandardStream: CInt, Sendable {
    case output = 1
    case error = 2

    /// Writes all bytes.
    public func write(_ bytes: [UInt8]) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                buffer.baseAddress.map { zn_write(rawValue, $0 + done, buffer.count - done) } ?? 0
            }
            // Not `check`: a descriptor that the caller closed is the caller's doing, not a mistake of ours.
            if count < 0 { throw SystemError("write", "", Errno(rawValue: CInt(-count))) }
            done += count
        }
    }

    /// Makes sure that 0, 1 and 2 are open, so that no file opened later is taken for one of them. Those that were
    /// closed become /dev/null, opened the wrong way round: using them fails as if they were closed still, and nothing
    /// is handed to a program that inherits them.
    public static func reserve() {
        for number in CInt(0)...2 where zn_fcntl(number, F_GETFD, 0) < 0 {
            // The lowest free number is this one.
            _ = zn_openat(AT_FDCWD, "/dev/null", number == 0 ? O_WRONLY : O_RDONLY, 0)
        }
    }

    /// Closes everything from 3 on but the first `count`: what the caller left open is not ours to hand on.
    public static func closeOthers(keeping count: UInt32 = 0) {
        _ = zn_close_range(3 + min(count, 1 << 20), .max, 0)
    }
}
