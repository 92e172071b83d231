// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// Mounts what a guest's zone gets: its root, and folders of the host's.
struct GuestRootMount {
    let root: GuestRoot

    /// The image's disk, and the one of the zone's changes, among the agent's own mounts.
    private static let lower = "/lower"
    static let changes = "/upper"

    /// How long a disk may take to appear, in milliseconds.
    private static let patience: Int64 = 5_000

    /// Mounts the host's folders.
    static func mountShares() throws(ZoneError) {
        try attempting("mount the host's folders") { () throws(SystemError) in
            let place = try Descriptor.makePath(GuestConfiguration.sharePlace, mode: 0o700)
            let shares = try FileSystemContext("virtiofs", source: GuestConfiguration.shareTag).mount()
            try check(zn_move_mount(shares.raw, place.raw), "move_mount", GuestConfiguration.sharePlace)
        }
    }

    /// The zone's root, detached.
    func mount() throws(ZoneError) -> Descriptor {
        if let share = root.share {
            return try attempting("find the zone's root among the host's folders") { () throws(SystemError) in
                let all = try Descriptor.open(GuestConfiguration.sharePlace, [.path, .directory])
                let folder = try all.open(share, [.path, .directory], resolve: .beneath)
                return try Descriptor.cloneTree("/proc/self/fd/\(folder.raw)", recursive: false)
            }
        }
        guard let image = root.image else {
            throw ZoneError(.invalid, "the zone's root: neither a disk nor a folder is named")
        }
        try attempting("mount the image's disk") { () throws(SystemError) in
            let context = try FileSystemContext("erofs", source: "/dev/\(try GuestRootMount.disk(image))")
            try context.set("ro")
            try GuestRootMount.attach(try context.mount([.readOnly, .noAccessTime]), at: GuestRootMount.lower)
        }
        try attempting("mount the disk of the zone's changes") { () throws(SystemError) in
            try GuestRootMount.attach(try changes(), at: GuestRootMount.changes)
        }
        return try attempting("mount the zone's overlay file system") { () throws(SystemError) in
            try GuestRootMount.makeFolders()
            let context = try FileSystemContext("overlay")
            try context.set("lowerdir", GuestRootMount.lower)
            try context.set("upperdir", "\(GuestRootMount.changes)/upper")
            try context.set("workdir", "\(GuestRootMount.changes)/work")
            return try context.mount()
        }
    }

    private func changes() throws(SystemError) -> Descriptor {
        guard let serial = root.changes else {
            let context = try FileSystemContext("tmpfs")
            try context.set("mode", "755")
            return try context.mount()
        }
        let context = try FileSystemContext("ext4", source: "/dev/\(try GuestRootMount.disk(serial))")
        return try context.mount([.noAccessTime])
    }

    private static func attach(_ mount: consuming Descriptor, at path: String) throws(SystemError) {
        let place = try Descriptor.makePath(path, mode: 0o700)
        try check(zn_move_mount(mount.raw, place.raw), "move_mount", path)
    }

    /// The owner and mode of `upper` are those of the zone's root: they are the image's at first.
    private static func makeFolders() throws(SystemError) {
        let folder = try Descriptor.open(changes, [.path, .directory])
        let result = zn_mkdirat(folder.raw, "upper", 0o755)
        if result != -EEXIST {
            try check(result, "mkdir", "upper")
            let root = try FileStatus.of(lower)
            try check(zn_fchownat(folder.raw, "upper", root.uid, root.gid, 0), "chown", "upper")
            try check(zn_fchmodat(folder.raw, "upper", root.mode), "chmod", "upper")
        }
        try folder.ensureDirectory("work", mode: 0o700)
    }

    /// The name of the disk with a serial number.
    private static func disk(_ serial: String) throws(SystemError) -> String {
        let begin = MonotonicClock.milliseconds
        while true {
            let names = (try? Descriptor.open("/sys/block", [.path, .directory]).entries()) ?? []
            for name in names where name.hasPrefix("vd") {
                guard let text = try? readHostFile("/sys/block/\(name)/serial", limit: 4096) else { continue }
                if text.prefix(while: { $0 != UInt8(ascii: "\n") }).elementsEqual(serial.utf8) { return name }
            }
            if MonotonicClock.milliseconds - begin > patience { throw SystemError("find disk", serial, .noDevice) }
            pause(milliseconds: 2)
        }
    }

    /// Brings what was written to the disk, which is then as after an orderly end.
    static func close() {
        _ = zn_umount(changes)
        sync()
    }
}
