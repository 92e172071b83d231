// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Makes the plan's root the process's `/`, first of all mounts.
///
/// Everything else is mounted after the old root is gone, so that no path of an image's, whatever links it holds, can
/// reach the host: what the zone gets from the host was opened by the parent and arrives as detached mounts. Only where
/// hooks must find the zone at the host's path (`createRuntime`, `createContainer`) the root is changed after them; the
/// lookups below the root's descriptor are the same then.
enum RootSetup {
    /// Puts the root into the mount namespace and returns a descriptor of it, through which everything is mounted.
    static func attach(_ plan: borrowing LaunchPlan) throws(LaunchFailure) -> Descriptor {
        guard let root = plan.root else { return try openRoot() }
        if case .directory(let path) = root.source {
            return Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, path, directoryFlags, 0)))
        }
        // Nothing mounted here may appear on the host, and nothing the host mounts may appear here.
        try attempt(.propagation, zn_set_root_propagation(UInt(MS_PRIVATE)))
        try stage(plan)
        switch root.source {
        case .directory: break
        case .tree(let tree):
            let anchor = Descriptor(
                owning: try attempt(.attachRoot, zn_openat(AT_FDCWD, root.anchor, directoryFlags, 0)))
            try attempt(.attachRoot, zn_move_mount(tree, anchor.raw))
            try attempt(.enterRoot, zn_fchdir(tree))
        case .overlay(let options, let directory):
            try attempt(.attachRoot, zn_chdir(directory))
            try attempt(.attachRoot, zn_mount("overlay", root.anchor, "overlay", 0, options))
            try attempt(.enterRoot, zn_chdir(root.anchor))
        }
        return Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, ".", directoryFlags, 0)))
    }

    /// Trees that are to be copied must be in the namespace: until the host's root goes they lie in a file system of
    /// their own upon it. Each in a directory of its own: what is mounted upon a shared tree would appear wherever that
    /// is shared with, on the host too.
    private static func stage(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        guard hasStage(plan) else { return }
        do throws(SystemError) {
            let stage = try FileSystemContext("tmpfs").mount([.noSuid, .noDevices, .noExecution])
            let top = try Descriptor.open("/", [.path, .directory])
            try check(zn_move_mount(stage.raw, top.raw), "move_mount")
            for (index, mount) in plan.mounts.enumerated() where mount.keepsOrder {
                guard case .tree(let tree, _) = mount.source else { continue }
                try stage.makeDirectory(String(index), mode: 0o700)
                let place = try stage.open(String(index), [.path, .directory], resolve: .beneath)
                try check(zn_move_mount(tree, place.raw), "move_mount")
            }
        } catch {
            throw LaunchFailure(.attachRoot, error.errno)
        }
    }

    private static func hasStage(_ plan: borrowing LaunchPlan) -> Bool { plan.mounts.contains { $0.keepsOrder } }

    /// Makes the attached root the process's `/`; the host's is gone from its sight.
    static func enter(_ plan: borrowing LaunchPlan, _ attached: borrowing Descriptor) throws(LaunchFailure) {
        guard let root = plan.root else { return }
        try attempt(.enterRoot, zn_fchdir(attached.raw))
        if case .directory = root.source {
            try attempt(.enterRoot, zn_chroot("."))
        } else if root.pivots {
            // With "." for both, the old root is stacked on top of the new one, and unmounting it uncovers ours:
            // pivot_root(2), "pivot_root(".", ".")".
            try attempt(.enterRoot, zn_pivot_root(".", "."))
            // The stage lies upon the host's root and goes first: only the topmost mount is ever unmounted.
            if hasStage(plan) { try attempt(.enterRoot, zn_umount_detach(".")) }
            try attempt(.enterRoot, zn_umount_detach("."))
        } else {
            // The mount becomes the namespace's topmost root first, so that nothing is above it: mount(8), switch_root(8).
            if root.anchor != "/" {
                let top = Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, "/", directoryFlags, 0)))
                try attempt(.enterRoot, zn_move_mount(attached.raw, top.raw))
            }
            try attempt(.enterRoot, zn_chroot("."))
        }
        try attempt(.enterRoot, zn_chdir("/"))
        try verify(attached)
    }

    /// Makes sure that nothing lies upon the root: `..` at the root leads to what is mounted there, and were that the
    /// host's root, every program would walk out of the zone.
    private static func verify(_ attached: borrowing Descriptor) throws(LaunchFailure) {
        let above = Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, "..", directoryFlags, 0)))
        var root = stat()
        var found = stat()
        try attempt(.enterRoot, zn_fstatat(attached.raw, "", &root, 0x1000))
        try attempt(.enterRoot, zn_fstatat(above.raw, "", &found, 0x1000))
        guard root.st_dev == found.st_dev, root.st_ino == found.st_ino else {
            throw LaunchFailure(.enterRoot, .busy)
        }
    }

    private static let directoryFlags = OpenFlags([.path, .directory, .closeOnExec]).rawValue

    private static func openRoot() throws(LaunchFailure) -> Descriptor {
        Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, "/", directoryFlags, 0)))
    }
}
