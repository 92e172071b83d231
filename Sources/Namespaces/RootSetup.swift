// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Makes the plan's root the process's `/`, first of all mounts.
///
/// Everything else is mounted after the old root is gone, so that no path of an image's, whatever links it holds, can
/// reach the host: what the zone gets from the host was opened by the parent and arrives as detached mounts.
enum RootSetup {
    /// Enters the root and returns a descriptor of it, which is also the mount that ``MountSetup/sealAll`` works on.
    static func enter(_ plan: borrowing LaunchPlan) throws(LaunchFailure) -> Descriptor {
        guard let root = plan.root else { return try openRoot() }
        // Nothing mounted here may appear on the host, and nothing the host mounts may appear here.
        try attempt(.propagation, zn_set_root_propagation(UInt(MS_PRIVATE)))
        switch root.source {
        case .tree(let tree):
            let anchor = Descriptor(
                owning: try attempt(.attachRoot, zn_openat(AT_FDCWD, root.anchor, directoryFlags, 0)))
            try attempt(.attachRoot, zn_move_mount(tree, anchor.raw))
            try attempt(.enterRoot, zn_fchdir(tree))
        case .overlay(let options, let directory):
            try attempt(.attachRoot, zn_chdir(directory))
            try attempt(.attachRoot, zn_mount_overlay(root.anchor, options))
            try attempt(.enterRoot, zn_chdir(root.anchor))
        }
        // With "." for both, the old root is stacked on top of the new one, and unmounting it uncovers ours:
        // pivot_root(2), "pivot_root(".", ".")".
        try attempt(.enterRoot, zn_pivot_root(".", "."))
        try attempt(.enterRoot, zn_umount_detach("."))
        try attempt(.enterRoot, zn_chdir("/"))
        return try openRoot()
    }

    private static let directoryFlags = OpenFlags([.path, .directory, .closeOnExec]).rawValue

    private static func openRoot() throws(LaunchFailure) -> Descriptor {
        Descriptor(owning: try attempt(.enterRoot, zn_openat(AT_FDCWD, "/", directoryFlags, 0)))
    }
}
