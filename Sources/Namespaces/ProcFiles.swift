// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A procfs by the descriptor of its root, the only way in which the set-up writes to one.
///
/// What lies at the path /proc of a zone was put there by its image or its mounts, and a write to it would go where
/// they want it, to a sysctl of the host for example (CVE-2025-52881). So the file system is verified, and no mount
/// on top of any part of it is entered.
struct ProcFiles: ~Copyable {
    private let root: Descriptor

    /// The corresponding C constants are `PROC_SUPER_MAGIC` and `PROC_ROOT_INO`.
    private static let magic: Int64 = 0x9fa0
    private static let rootInode: ino_t = 1

    /// Takes the root of a procfs; throws `ENODEV` where it is something else.
    init(_ descriptor: consuming Descriptor, _ step: LaunchStep, _ index: Int = -1) throws(LaunchFailure) {
        var magic: Int64 = 0
        try attempt(step, zn_fstatfs_magic(descriptor.raw, &magic), index: index)
        var status = stat()
        try attempt(step, zn_fstatat(descriptor.raw, "", &status, 0x1000), index: index)
        guard magic == ProcFiles.magic, status.st_ino == ProcFiles.rootInode else {
            throw LaunchFailure(step, .noDevice, index)
        }
        root = descriptor
    }

    /// Makes an instance of the caller's pid namespace that is attached nowhere.
    static func makePrivate(_ step: LaunchStep) throws(LaunchFailure) -> ProcFiles {
        let made: Descriptor
        do throws(SystemError) {
            made = try FileSystemContext("proc").mount([.noSuid, .noDevices, .noExecution])
        } catch {
            throw LaunchFailure(step, error.errno)
        }
        return try ProcFiles(made, step)
    }

    /// The host's, for who still has the host's root. It shows the caller as `self` in whatever pid namespace it is.
    static func openHost(_ step: LaunchStep) throws(LaunchFailure) -> ProcFiles {
        let flags = OpenFlags([.path, .directory, .closeOnExec]).rawValue
        return try ProcFiles(Descriptor(owning: try attempt(step, zn_openat(AT_FDCWD, "/proc", flags, 0))), step)
    }

    /// Writes `text` in one call to a file of this procfs.
    func write(_ path: String, _ text: String, _ step: LaunchStep, _ index: Int = -1) throws(LaunchFailure) {
        // `self` is a symbolic link; others, which could be magic, are not followed.
        let resolve: ResolveFlags = [.beneath, .noMagicLinks, .noCrossing]
        let flags = OpenFlags([.writeOnly, .closeOnExec]).rawValue
        let opened = zn_openat2(root.raw, path, UInt64(flags), 0, resolve.rawValue)
        let file = Descriptor(owning: try attempt(step, opened, index: index))
        let written = text.withCString { zn_write(file.raw, $0, text.utf8.count) }
        try attempt(step, CInt(truncatingIfNeeded: written), index: index)
    }

    /// Whether there is a file of that path.
    func has(_ path: String) -> Bool {
        let resolve: ResolveFlags = [.beneath, .noMagicLinks, .noCrossing]
        let flags = OpenFlags([.path, .closeOnExec]).rawValue
        let opened = zn_openat2(root.raw, path, UInt64(flags), 0, resolve.rawValue)
        if opened >= 0 { _ = zn_close(opened) }
        return opened >= 0
    }
}
