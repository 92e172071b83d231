// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The folders that zones are kept in: whether they can be used, by nobody else, and hold what zones need.
enum DoctorStorage {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [
            folder("storage.store", host.folders.store, "--store", host),
            folder("storage.root", host.folders.root, "--root", host), overlay(host), space(host),
        ]
    }

    // MARK: Rights

    private static func folder(_ check: String, _ path: String, _ option: String, _ host: DoctorHost) -> DoctorFinding {
        let place = existing(path)
        let status: FileStatus
        do throws(SystemError) { status = try FileStatus.of(place) } catch {
            return .problem(
                check, "\(place): \(error.errno.message)", affects: "zones and images",
                fix: "choose another folder with \(option)")
        }
        guard status.kind == .directory else {
            return .problem(
                check, "\(place) is not a folder", affects: "zones and images",
                fix: "remove it, or choose another folder with \(option)")
        }
        let result = access(place, R_OK | W_OK | X_OK)
        if result != 0 {
            let reason = Errno(rawValue: errno).message
            return .problem(
                check, place == path ? "\(path): \(reason)" : "\(path) cannot be made in \(place): \(reason)",
                affects: "zones and images",
                fix: "chown \(host.userName) \(place), or choose another folder with \(option)")
        }
        if place != path { return .ok(check, "\(path) will be made when it is needed") }
        return rights(check, path, status, host)
    }

    static func rights(_ check: String, _ path: String, _ status: FileStatus, _ host: DoctorHost) -> DoctorFinding {
        if status.uid != host.uid && status.uid != 0 {
            return .problem(
                check, "\(path) belongs to user \(status.uid)", affects: "that user could change images and zones",
                fix: "chown \(host.userName) \(path)")
        }
        if status.mode & 0o022 != 0 {
            return .problem(
                check, "\(path) can be written by others (mode \(String(status.mode, radix: 8)))",
                affects: "others could change images and zones", fix: "chmod go-w \(path)")
        }
        return .ok(check, path)
    }

    /// The folder, or the nearest above it that is there.
    private static func existing(_ path: String) -> String {
        var place = path
        while place != "/", (try? FileStatus.of(place))?.kind == nil {
            // What cannot be looked at ends the search: the reason is told.
            if access(place, F_OK) != 0, errno != ENOENT, errno != ENOTDIR { return place }
            let parent = place.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(place[..<$0]) } ?? ""
            place = parent.isEmpty ? "/" : parent
        }
        return place
    }

    // MARK: File system

    private static func overlay(_ host: DoctorHost) -> DoctorFinding {
        guard let system = FileSystem(existing(host.folders.store)) else {
            return .skipped("storage.overlay", "the store's file system does not tell")
        }
        return overlay(system.magic, host, kernel: KernelVersion.running)
    }

    static func overlay(_ magic: Int64, _ host: DoctorHost, kernel: KernelVersion) -> DoctorFinding {
        let check = "storage.overlay"
        let fix = "choose a folder on ext4, XFS or Btrfs with --store"
        if let name = good[magic] { return .ok(check, "the store is on \(name)") }
        if magic == tmpfs {
            // Ordinary users' overlays keep their marks in user.* attributes.
            if host.isRoot || kernel >= KernelVersion(6, 6) { return .ok(check, "the store is on tmpfs, in memory") }
            return .warning(
                check, "the store is on tmpfs, which has no user.* attributes before Linux 6.6", affects: copies,
                fix: fix)
        }
        if let name = bad[magic] {
            return .warning(
                check, "the store is on \(name), over which there is no overlay with changes", affects: copies, fix: fix
            )
        }
        let hex = String(magic, radix: 16)
        return .warning(
            check, "the store is on a file system that is not known here (0x\(hex))",
            affects: "\(copies), if overlayfs cannot work there", fix: fix)
    }

    static let copies = "each zone's first start copies all files of its image, and linked clones are refused"

    // Numbers of statfs(2).
    private static let tmpfs: Int64 = 0x0102_1994
    private static let good: [Int64: String] = [
        0xEF53: "ext4", 0x5846_5342: "XFS", 0x9123_683E: "Btrfs", 0xF2F5_2010: "F2FS", 0x2FC1_2FC1: "ZFS",
        0xCA45_1A4E: "bcachefs",
    ]
    private static let bad: [Int64: String] = [
        0x794C_7630: "overlay", 0x6969: "NFS", 0x4D44: "FAT", 0x0102_1997: "9p", 0xFF53_4D42: "CIFS",
        0xFE53_4D42: "SMB", 0x7371_7368: "squashfs", 0x9660: "ISO 9660", 0xE0F5_E1E2: "EROFS", 0x2011_BAB0: "exFAT",
        0x5346_544E: "NTFS",
    ]

    private static func space(_ host: DoctorHost) -> DoctorFinding {
        guard let system = FileSystem(existing(host.folders.store)) else {
            return .skipped("storage.space", "the store's file system does not tell")
        }
        return space(free: system.free, inodes: system.inodes)
    }

    /// `inodes` is the most there can be where a file system does not count them.
    static func space(free: UInt64, inodes: UInt64) -> DoctorFinding {
        let check = "storage.space"
        let text = ByteSize.text(Int64(clamping: free))
        let fix = "remove what is not needed ('zonectl image ls', 'zonectl ls'), or choose another --store"
        if free < 64 << 20 || inodes < 1000 {
            return .problem(
                check, "\(text) and \(inodes) files are free in the store", affects: "images and zones cannot be made",
                fix: fix)
        }
        if free < 1 << 30 || inodes < 20_000 {
            let files = inodes == .max ? "" : " and \(inodes) files"
            return .warning(check, "\(text)\(files) are free in the store", affects: "greater images", fix: fix)
        }
        return .ok(check, "\(text) are free in the store")
    }

    private struct FileSystem {
        var magic: Int64 = 0
        var size: UInt64 = 0
        var free: UInt64 = 0
        var inodes: UInt64 = 0

        init?(_ path: String) {
            if zn_statfs(path, &magic, &size, &free, &inodes) < 0 { return nil }
        }
    }
}
