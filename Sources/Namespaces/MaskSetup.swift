// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Hides the plan's masked paths and makes its read-only paths read-only.
struct MaskSetup {
    private let inside: InsidePath

    init(root: CInt) {
        inside = InsidePath(root: root)
    }

    /// Works on all paths; one that does not exist needs no mask.
    func maskAll(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        // Its number; open until execve.
        var emptyDirectory: CInt = -1
        for (index, path) in plan.maskedPaths.enumerated() {
            let found = inside.find(path)
            if found == -ENOENT || found == -ENOTDIR { continue }
            let target = Descriptor(owning: try attempt(.maskedPath, found, index: index))
            if try isDirectory(target, index) {
                try maskDirectory(target, &emptyDirectory, index)
            } else {
                try maskFile(target, index)
            }
        }
        for (index, path) in plan.readonlyPaths.enumerated() {
            let found = inside.find(path)
            if found == -ENOENT || found == -ENOTDIR { continue }
            let target = Descriptor(owning: try attempt(.readonlyPath, found, index: index))
            let clone = zn_open_tree(target.raw, "", true)
            let tree = Descriptor(owning: try attempt(.readonlyPath, clone, index: index))
            let set = MountAttributes.readOnly.rawValue
            try attempt(.readonlyPath, zn_mount_setattr(tree.raw, true, set, 0, 0), index: index)
            try attempt(.readonlyPath, zn_move_mount(tree.raw, target.raw), index: index)
        }
    }

    private func isDirectory(_ target: borrowing Descriptor, _ index: Int) throws(LaunchFailure) -> Bool {
        var status = stat()
        try attempt(.maskedPath, zn_fstatat(target.raw, "", &status, 0x1000), index: index)
        return status.st_mode & S_IFMT == S_IFDIR
    }

    /// Covers a file with /dev/null, opened and verified for each: what lies at that path could have been exchanged,
    /// and then the mask would show a file of the attacker's choice (CVE-2025-31133).
    private func maskFile(_ target: borrowing Descriptor, _ index: Int) throws(LaunchFailure) {
        let null = Descriptor(
            owning: try attempt(.maskedPath, inside.find("/dev/null", noSymlinks: true), index: index))
        var status = stat()
        try attempt(.maskedPath, zn_fstatat(null.raw, "", &status, 0x1000), index: index)
        guard status.st_mode & S_IFMT == S_IFCHR, zn_major(status.st_rdev) == 1, zn_minor(status.st_rdev) == 3 else {
            throw LaunchFailure(.maskedPath, .noDevice, index)
        }
        let tree = Descriptor(owning: try attempt(.maskedPath, zn_open_tree(null.raw, "", false), index: index))
        try attempt(.maskedPath, zn_move_mount(tree.raw, target.raw), index: index)
    }

    /// Covers a directory with one empty read-only tmpfs, shared by all of them.
    private func maskDirectory(
        _ target: borrowing Descriptor,
        _ empty: inout CInt,
        _ index: Int
    ) throws(LaunchFailure) {
        if empty >= 0 {
            let tree = Descriptor(owning: try attempt(.maskedPath, zn_open_tree(empty, "", false), index: index))
            try attempt(.maskedPath, zn_move_mount(tree.raw, target.raw), index: index)
            return
        }
        do throws(SystemError) {
            let context = try FileSystemContext("tmpfs")
            // The kernel takes tmpfs size=0 as "no limit", so the bound is on files: the root directory and no more.
            try context.set("nr_inodes", "1")
            let tree = try context.mount([.readOnly, .noSuid, .noDevices, .noExecution])
            try check(zn_move_mount(tree.raw, target.raw), "move_mount")
            empty = tree.release()
        } catch {
            throw LaunchFailure(.maskedPath, error.errno, index)
        }
    }
}
