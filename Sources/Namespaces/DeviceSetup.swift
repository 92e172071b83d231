// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Fills /dev: the plan's nodes, and the links that every Linux program expects (config-linux.md, "Default Devices").
struct DeviceSetup {
    /// Links below /dev.
    static let links: [(name: String, target: String)] = [
        ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"),
    ]

    private let inside: InsidePath

    init(root: CInt) {
        inside = InsidePath(root: root)
    }

    /// Makes the nodes and links. A node that is there already must be the same device. A plan without devices is of a
    /// zone that brings its /dev with it: nothing may be made in what could be the host's.
    func makeAll(_ devices: [DevicePlan]) throws(LaunchFailure) {
        if devices.isEmpty { return }
        for (index, device) in devices.enumerated() { try make(device, index) }
        let directory = inside.find("/dev", noSymlinks: true)
        // A bundle without /dev wants no links in it.
        if directory == -ENOENT { return }
        let owner = Descriptor(owning: try attempt(.deviceLink, directory))
        for (index, link) in DeviceSetup.links.enumerated() {
            let result = zn_symlinkat(link.target, owner.raw, link.name)
            if result != -EEXIST, result != -EROFS { try attempt(.deviceLink, result, index: index) }
        }
    }

    private func make(_ device: DevicePlan, _ index: Int) throws(LaunchFailure) {
        let (parentPath, name) = InsidePath.split(device.path)
        let found = inside.findOrMake(parentPath, directory: true, noSymlinks: true)
        if found == -EROFS, device.isDefault { return }
        let parent = Descriptor(owning: try attempt(.device, found, index: index))
        if try isThere(device, parent, name, index) { return }
        if let node = device.hostNode { return try bind(node, device, index) }
        let made = zn_mknodat(parent.raw, name, device.fileType | device.mode, device.major, device.minor)
        if made == -EROFS, device.isDefault { return }
        try attempt(.device, made, index: index)
        if device.uid != 0 || device.gid != 0 {
            let owned = zn_fchownat(parent.raw, name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW)
            try attempt(.device, owned, index: index)
        }
    }

    /// Whether the node is there; throws `EEXIST` where something else is in its place.
    private func isThere(
        _ device: DevicePlan,
        _ parent: borrowing Descriptor,
        _ name: String,
        _ index: Int
    ) throws(LaunchFailure) -> Bool {
        var status = stat()
        let seen = zn_fstatat(parent.raw, name, &status, AT_SYMLINK_NOFOLLOW)
        if seen == -ENOENT { return false }
        try attempt(.device, seen, index: index)
        // A mount point for the host's node, made by an earlier start from the same root.
        if device.hostNode != nil, status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 { return false }
        let same =
            status.st_mode & S_IFMT == device.fileType
            && (device.kind == .fifo
                || zn_major(status.st_rdev) == device.major && zn_minor(status.st_rdev) == device.minor)
        if !same { throw LaunchFailure(.device, .exists, index) }
        // In a user namespace a node of the image's own cannot be opened: the kernel gives its mounts "nodev".
        return device.hostNode == nil
    }

    private func bind(_ node: CInt, _ device: DevicePlan, _ index: Int) throws(LaunchFailure) {
        let found = inside.findOrMake(device.path, directory: false, noSymlinks: true)
        if found == -EROFS, device.isDefault { return }
        let place = Descriptor(owning: try attempt(.device, found, index: index))
        try attempt(.device, zn_move_mount(node, place.raw), index: index)
    }
}

extension DevicePlan {
    fileprivate var fileType: UInt32 {
        switch kind {
        case .character: S_IFCHR
        case .block: S_IFBLK
        case .fifo: S_IFIFO
        }
    }
}
