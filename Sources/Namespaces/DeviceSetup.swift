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

    /// Makes the nodes and links. A node that is there already must be the same device.
    func makeAll(_ devices: [DevicePlan]) throws(LaunchFailure) {
        for (index, device) in devices.enumerated() { try make(device, index) }
        for (index, link) in DeviceSetup.links.enumerated() {
            let directory = inside.find("/dev", noSymlinks: true)
            // A bundle without /dev wants no links in it.
            if directory == -ENOENT { return }
            let owner = Descriptor(owning: try attempt(.deviceLink, directory, index: index))
            let result = zn_symlinkat(link.target, owner.raw, link.name)
            if result != -EEXIST, result != -EROFS { try attempt(.deviceLink, result, index: index) }
        }
    }

    private func make(_ device: DevicePlan, _ index: Int) throws(LaunchFailure) {
        let (parentPath, name) = InsidePath.split(device.path)
        let found = inside.findOrMake(parentPath, directory: true, noSymlinks: true)
        let parent = Descriptor(owning: try attempt(.device, found, index: index))
        let kind: UInt32 = device.isBlock ? S_IFBLK : S_IFCHR
        let made = zn_mknodat(parent.raw, name, kind | device.mode, device.major, device.minor)
        if made == -EEXIST {
            var status = stat()
            try attempt(.device, zn_fstatat(parent.raw, name, &status, AT_SYMLINK_NOFOLLOW), index: index)
            let same =
                status.st_mode & S_IFMT == kind && zn_major(status.st_rdev) == device.major
                && zn_minor(status.st_rdev) == device.minor
            if !same { throw LaunchFailure(.device, .exists, index) }
            return
        }
        try attempt(.device, made, index: index)
        if device.uid != 0 || device.gid != 0 {
            let owned = zn_fchownat(parent.raw, name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW)
            try attempt(.device, owned, index: index)
        }
    }
}
