// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// A copy of the caller's mount namespace with the caller in it, for mounts that must not stay on the host.
///
/// It ends with the last process in it, so also when we are killed. What the host unmounts meanwhile goes here too.
public struct MountCopy: ~Copyable {
    private let namespace: Descriptor
    private let folder: Descriptor
    private let top: Descriptor

    private init(namespace: consuming Descriptor, folder: consuming Descriptor, top: consuming Descriptor) {
        self.namespace = namespace
        self.folder = folder
        self.top = top
    }

    /// Enters a new copy. The caller must have one thread only; see unshare(2).
    public static func enter() throws(SystemError) -> MountCopy {
        let namespace = try Descriptor.open("/proc/self/ns/mnt", [.readOnly])
        let folder = try Descriptor.open(".", [.path, .directory])
        let top = try Descriptor.open("/", [.path, .directory])
        // Who may join the namespace that it is in may come back to it: who may not learns it before anything is done.
        try join(namespace, folder, top)
        try check(zn_unshare(CLONE_NEWNS), "unshare", "the mount namespace")
        // From here on it goes back whatever happens.
        let copy = MountCopy(namespace: namespace, folder: folder, top: top)
        try check(zn_set_root_propagation(UInt(MS_SLAVE)), "mount", "/ rslave")
        return copy
    }

    private static func join(
        _ namespace: borrowing Descriptor, _ folder: borrowing Descriptor, _ top: borrowing Descriptor
    ) throws(SystemError) {
        // The kernel puts who joins a mount namespace at its root: the caller's root and folder come after.
        try check(zn_setns(namespace.raw, CLONE_NEWNS), "setns", "the mount namespace")
        try check(zn_fchdir(top.raw), "fchdir", "/")
        try check(zn_chroot("."), "chroot", "/")
        try check(zn_fchdir(folder.raw), "fchdir", "the working directory")
    }

    /// Goes back to the caller's namespace.
    public consuming func leave() {}

    deinit {
        do throws(SystemError) { try MountCopy.join(namespace, folder, top) } catch {
            // It worked before. To go on would do what follows in a namespace that is about to vanish, unseen by all:
            // ended here, the zone is listed and removed like one whose zonectl was killed.
            fatalError("the mount namespace of the host cannot be joined again: \(error)")
        }
    }
}
