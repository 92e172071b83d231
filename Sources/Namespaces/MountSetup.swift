// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Mounts what the plan lists, in its order, on places inside the zone's root.
struct MountSetup: ~Copyable {
    private let inside: InsidePath
    /// The zone's own procfs, kept as a descriptor: what is written to it cannot be redirected by a mount or a link at
    /// /proc (CVE-2025-52881).
    private var proc: Descriptor?
    private var sealed: [(index: Int, mount: CInt)] = []

    init(root: CInt) {
        inside = InsidePath(root: root)
    }

    /// Mounts everything.
    mutating func mountAll(_ mounts: [MountPlan]) throws(LaunchFailure) {
        for (index, mount) in mounts.enumerated() {
            switch mount.source {
            case .tree(let tree, let isDirectory):
                try attach(tree, mount, isDirectory, index)
                if mount.sealsAtEnd { sealed.append((index, tree)) }
            case .fileSystem(let type, let options):
                let made = try make(type, options, mount, index)
                try attach(made.raw, mount, true, index)
                if type == "proc", mount.target == "/proc" {
                    proc = Descriptor(owning: try attempt(.mount, zn_fcntl(made.raw, F_DUPFD_CLOEXEC, 3), index: index))
                }
                if mount.sealsAtEnd { sealed.append((index, made.release())) }
            }
        }
    }

    private func make(
        _ type: String,
        _ options: [(key: String, value: String?)],
        _ mount: MountPlan,
        _ index: Int
    ) throws(LaunchFailure) -> Descriptor {
        do throws(SystemError) {
            let context = try FileSystemContext(type)
            for option in options { try context.set(option.key, option.value) }
            return try context.mount(mount.attributes)
        } catch {
            throw LaunchFailure(.mount, error.errno, index)
        }
    }

    private func attach(
        _ tree: CInt,
        _ mount: MountPlan,
        _ isDirectory: Bool,
        _ index: Int
    ) throws(LaunchFailure) {
        let found = inside.findOrMake(mount.target, directory: isDirectory, noSymlinks: mount.refusesSymlinks)
        let target = Descriptor(owning: try attempt(.mount, found, index: index))
        let moved = zn_move_mount(tree, target.raw)
        var status = stat()
        // The kernel only says "invalid" where one is a directory and the other is not.
        if moved == -EINVAL, zn_fstatat(target.raw, "", &status, 0x1000) >= 0,
            (status.st_mode & S_IFMT == S_IFDIR) != isDirectory
        {
            throw LaunchFailure(.mount, isDirectory ? .notDirectory : .isDirectory, index)
        }
        try attempt(.mount, moved, index: index)
    }

    /// Writes sysctls to the zone's own procfs.
    func writeSysctls(_ sysctls: [(name: String, value: String)]) throws(LaunchFailure) {
        for (index, sysctl) in sysctls.enumerated() {
            // As sysctl(8): dots separate, unless slashes do.
            let name = sysctl.name.contains("/") ? sysctl.name : String(sysctl.name.map { $0 == "." ? "/" : $0 })
            let flags = OpenFlags([.writeOnly, .closeOnExec]).rawValue
            let resolve: ResolveFlags = [.beneath, .noSymlinks]
            let base: CInt
            switch proc {
            case .some(let descriptor): base = descriptor.raw
            case .none: throw LaunchFailure(.sysctl, .noEntry, index)
            }
            let opened = zn_openat2(base, "sys/\(name)", UInt64(flags), 0, resolve.rawValue)
            let file = Descriptor(owning: try attempt(.sysctl, opened, index: index))
            let written = sysctl.value.withCString { zn_write(file.raw, $0, sysctl.value.utf8.count) }
            try attempt(.sysctl, CInt(truncatingIfNeeded: written), index: index)
        }
    }

    /// Makes the mounts read-only that had to be written to first, and the root if the plan says so.
    func sealAll(_ mounts: [MountPlan], root: RootPlan?) throws(LaunchFailure) {
        let readOnly = MountAttributes.readOnly.rawValue
        for entry in sealed {
            try attempt(.sealMount, zn_mount_setattr(entry.mount, false, readOnly, 0, 0), index: entry.index)
        }
        if let root, root.isReadOnly {
            try attempt(.sealMount, zn_mount_setattr(inside.root, false, readOnly, 0, 0))
        }
    }
}
