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
    private var proc: ProcFiles?
    private var sealed: [(index: Int, mount: CInt)] = []

    init(root: CInt) {
        inside = InsidePath(root: root)
    }

    /// Mounts everything.
    mutating func mountAll(_ mounts: [MountPlan]) throws(LaunchFailure) {
        for (index, mount) in mounts.enumerated() {
            switch mount.source {
            case .tree(let tree, let isDirectory):
                let target = try target(of: mount, isDirectory: isDirectory, index)
                if mount.keepsOrder {
                    try attachInOrder(tree, mount, target, index)
                } else {
                    try attach(tree, target, isDirectory, index)
                }
                if mount.sealsAtEnd { sealed.append((index, tree)) }
            case .fileSystem(let type, let options):
                let made = try mountFileSystem(type, options, mount, index)
                if type == "proc", mount.target == "/proc" {
                    let raw = try attempt(.mount, zn_fcntl(made.raw, F_DUPFD_CLOEXEC, 3), index: index)
                    proc = try ProcFiles(Descriptor(owning: raw), .mount, index)
                }
                if mount.sealsAtEnd { sealed.append((index, made.release())) }
            case .symlink(let text):
                try link(text, mount, index)
            case .remount(let options):
                try remount(options, mount, index)
            }
        }
    }

    // MARK: Kinds of mounts

    private func mountFileSystem(
        _ type: String,
        _ options: [(key: String, value: String?)],
        _ mount: MountPlan,
        _ index: Int
    ) throws(LaunchFailure) -> Descriptor {
        var options = options
        // An image's directory keeps its looks below a tmpfs, unless a mode is given: as with runc and crun.
        if type == "tmpfs", !options.contains(where: { $0.key == "mode" }) {
            options += try looks(of: mount, options, index)
        }
        let target = try target(of: mount, isDirectory: true, index)
        let made: Descriptor
        do throws(SystemError) {
            let context = try FileSystemContext(type, source: mount.device)
            for option in options { try context.set(option.key, option.value) }
            made = try context.mount(mount.changes.attributes.subtracting(mount.sealsAtEnd ? .readOnly : []))
        } catch {
            throw LaunchFailure(.mount, error.errno, index)
        }
        if mount.copiesUp { try copyUp(mount, into: made, index) }
        try attach(made.raw, target, true, index)
        if let propagation = mount.changes.propagation {
            try attempt(.mount, propagation.apply(to: made.raw), index: index)
        }
        return made
    }

    /// Mode and owner of the directory that a mount will cover, as options of tmpfs(5); empty where there is none yet.
    private func looks(
        of mount: MountPlan,
        _ options: [(key: String, value: String?)],
        _ index: Int
    ) throws(LaunchFailure) -> [(key: String, value: String?)] {
        let found = inside.find(mount.target, noSymlinks: mount.refusesSymlinks)
        if found == -ENOENT || found == -ENOTDIR { return [] }
        let directory = Descriptor(owning: try attempt(.mount, found, index: index))
        var status = stat()
        try attempt(.mount, zn_fstatat(directory.raw, "", &status, 0x1000), index: index)
        var looks: [(key: String, value: String?)] = [("mode", String(status.st_mode & 0o7777, radix: 8))]
        // An owner that this user namespace does not know cannot be given: the kernel shows it as 65534.
        for (key, id) in [("uid", status.st_uid), ("gid", status.st_gid)] where id != 0 && id != 65534 {
            if !options.contains(where: { $0.key == key }) { looks.append((key, String(id))) }
        }
        return looks
    }

    private func copyUp(
        _ mount: MountPlan,
        into made: borrowing Descriptor,
        _ index: Int
    ) throws(LaunchFailure) {
        let flags: OpenFlags = [.readOnly, .directory]
        let found = inside.find(mount.target, noSymlinks: mount.refusesSymlinks, flags: flags)
        let source = Descriptor(owning: try attempt(.copyUp, found, index: index))
        do throws(SystemError) {
            var copy = TreeCopy()
            try copy.copyContent(of: source, to: made)
        } catch {
            throw LaunchFailure(.copyUp, error.errno, index)
        }
    }

    /// Makes a link; one that is there already must say the same.
    private func link(_ text: String, _ mount: MountPlan, _ index: Int) throws(LaunchFailure) {
        let (parentPath, name) = InsidePath.split(mount.target)
        let found = inside.findOrMake(parentPath, directory: true, noSymlinks: mount.refusesSymlinks)
        let parent = Descriptor(owning: try attempt(.mount, found, index: index))
        let result = zn_symlinkat(text, parent.raw, name)
        if result == -EEXIST, (try? parent.readLink(name)) == text { return }
        try attempt(.mount, result, index: index)
    }

    private func remount(
        _ options: [(key: String, value: String?)],
        _ mount: MountPlan,
        _ index: Int
    ) throws(LaunchFailure) {
        let found = inside.find(mount.target, noSymlinks: mount.refusesSymlinks)
        let target = Descriptor(owning: try attempt(.mount, found, index: index))
        if !options.isEmpty {
            do throws(SystemError) {
                let context = try FileSystemContext(mountedAt: target.raw)
                for option in options { try context.set(option.key, option.value) }
                try context.reconfigure()
            } catch {
                throw LaunchFailure(.mount, error.errno, index)
            }
        }
        // EINVAL where nothing is mounted there.
        try attempt(.mount, mount.changes.applyAttributes(to: target.raw), index: index)
        if let propagation = mount.changes.propagation {
            try attempt(.mount, propagation.apply(to: target.raw), index: index)
        }
    }

    // MARK: Targets

    private func target(of mount: MountPlan, isDirectory: Bool, _ index: Int) throws(LaunchFailure) -> Descriptor {
        let found = inside.findOrMake(mount.target, directory: isDirectory, noSymlinks: mount.refusesSymlinks)
        return Descriptor(owning: try attempt(.mount, found, index: index))
    }

    /// Attaches a copy that is as young as its place in the plan.
    private func attachInOrder(
        _ tree: CInt,
        _ mount: MountPlan,
        _ target: borrowing Descriptor,
        _ index: Int
    ) throws(LaunchFailure) {
        let raw = zn_open_tree(tree, "", true)
        let copy = Descriptor(owning: try attempt(.mount, raw, index: index))
        // What is unbindable could not have been copied.
        if let propagation = mount.changes.propagation {
            try attempt(.mount, propagation.apply(to: copy.raw), index: index)
        }
        try attach(copy.raw, target, true, index)
    }

    private func attach(
        _ tree: CInt,
        _ target: borrowing Descriptor,
        _ isDirectory: Bool,
        _ index: Int
    ) throws(LaunchFailure) {
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

    // MARK: Afterwards

    /// Writes sysctls to the zone's own procfs, or to one that nobody else sees where the zone has none, or has
    /// something mounted on a part of it.
    mutating func writeSysctls(_ sysctls: [(name: String, value: String)]) throws(LaunchFailure) {
        if sysctls.isEmpty { return }
        var files: ProcFiles
        if let own = proc.take() { files = own } else { files = try ProcFiles.makePrivate(.sysctl) }
        for (index, sysctl) in sysctls.enumerated() {
            // As sysctl(8): dots separate, unless slashes do. By bytes, as the names were checked.
            let (dot, slash) = (UInt8(ascii: "."), UInt8(ascii: "/"))
            let bytes = sysctl.name.utf8
            let name = String(
                decoding: bytes.contains(slash) ? Array(bytes) : bytes.map { $0 == dot ? slash : $0 }, as: UTF8.self)
            do throws(LaunchFailure) { try files.write("sys/\(name)", sysctl.value, .sysctl, index) } catch {
                guard error.errno == .crossDevice else { throw error }
                files = try ProcFiles.makePrivate(.sysctl)
                try files.write("sys/\(name)", sysctl.value, .sysctl, index)
            }
        }
    }

    /// Makes the mounts read-only that had to be written to first, and the root if the plan says so; then lets the root
    /// spread mounts as the plan says.
    func sealAll(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        let readOnly = MountAttributes.readOnly.rawValue
        for entry in sealed {
            try attempt(.sealMount, zn_mount_setattr(entry.mount, false, readOnly, 0, 0), index: entry.index)
        }
        guard let root = plan.root else { return }
        if root.isReadOnly { try attempt(.sealMount, zn_mount_setattr(inside.root, false, readOnly, 0, 0)) }
        // Last: what is attached below a shared mount becomes shared itself.
        if let propagation = plan.rootPropagation {
            try attempt(.rootPropagation, propagation.apply(to: inside.root))
        }
    }
}
