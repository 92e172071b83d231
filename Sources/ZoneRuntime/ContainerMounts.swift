// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A line of /proc/PID/mountinfo, proc_pid_mountinfo(5).
struct MountEntry: Equatable {
    let id: Int
    let parent: Int
    /// `major:minor` of the file system.
    let device: String
    /// What of the file system is mounted.
    let root: String
    let point: String
    let type: String

    init?(_ line: ArraySlice<UInt8>) {
        let fields = line.split(separator: UInt8(ascii: " "))
        guard let dash = fields.firstIndex(where: { $0.elementsEqual([UInt8(ascii: "-")]) }), dash >= 6,
            fields.count > dash + 1, let id = Int(String(decoding: fields[0], as: UTF8.self)),
            let parent = Int(String(decoding: fields[1], as: UTF8.self))
        else { return nil }
        self.id = id
        self.parent = parent
        device = String(decoding: fields[2], as: UTF8.self)
        root = MountInfo.decode(fields[3])
        point = MountInfo.decode(fields[4])
        type = String(decoding: fields[dash + 1], as: UTF8.self)
    }
}

/// A running zone's mounts, as criu must see them: which of them come from outside, and from where.
struct ContainerMounts: ~Copyable {
    private let root: Descriptor
    private let entries: [MountEntry]
    private let spec: Spec
    /// Mounts of the configuration by the numbers of the mounts that they have become.
    private let owners: [Int: Int]

    init(of pid: Int32, _ spec: Spec) throws(SystemError) {
        let text = try readHostFile("/proc/\(pid)/mountinfo")
        let entries = text.split(separator: UInt8(ascii: "\n")).compactMap { MountEntry($0) }
        let root = try Descriptor.open("/proc/\(pid)/root", [.path, .directory])
        var owners: [Int: Int] = [:]
        for (index, mount) in spec.mounts.enumerated() {
            // Behind links the mount is elsewhere than the configuration says; where it is, its number tells.
            guard let place = try? root.open(mount.destination, [.path], resolve: .zone),
                let number = try? ContainerMounts.number(of: place)
            else { continue }
            owners[number] = index
        }
        self.entries = entries
        self.spec = spec
        self.owners = owners
        self.root = root
    }

    /// The mount that an open file is on.
    static func number(of file: borrowing Descriptor) throws(SystemError) -> Int {
        try number(in: "/proc/self/fdinfo/\(file.raw)")
    }

    private static func number(in path: String) throws(SystemError) -> Int {
        for line in String(decoding: try readHostFile(path), as: UTF8.self).split(separator: "\n") {
            let parts = line.split { $0 == ":" || $0 == "\t" || $0 == " " }
            if parts.count == 2, parts[0] == "mnt_id", let number = Int(parts[1]) { return number }
        }
        throw SystemError("read", path, .invalid)
    }

    private func entry(_ id: Int) -> MountEntry? { entries.first { $0.id == id } }

    /// The zone's own root.
    private var top: MountEntry? { entries.first { $0.point == "/" } }

    /// Those whose file system is not the zone's own.
    func external() -> [SavedMount] {
        entries.compactMap { entry in
            if entry.id == top?.id { return nil }
            guard let (owner, index) = owner(of: entry) else { return unowned(entry) }
            let mount = spec.mounts[index]
            if entry.type == "cgroup" || entry.type == "cgroup2" { return group(entry) }
            guard mount.isBind else { return unowned(entry) }
            var saved = SavedMount(entry)
            saved.destination = mount.destination
            saved.below = entry.id == owner.id ? "" : String(entry.point.dropFirst(owner.point.utf8.count))
            return saved
        }
    }

    /// The mount of the configuration that this one is, or is part of.
    private func owner(of entry: MountEntry) -> (MountEntry, Int)? {
        var place: MountEntry? = entry
        // As many steps as there are mounts: a list that changes while it is read may go round in circles.
        for _ in entries.indices {
            guard let current = place else { return nil }
            if let index = owners[current.id] { return (current, index) }
            place = self.entry(current.parent)
        }
        return nil
    }

    /// Part of a file system that is mounted as a whole here is restored with it; what is not, is the host's.
    private func unowned(_ entry: MountEntry) -> SavedMount? {
        if entry.type == "cgroup" || entry.type == "cgroup2" { return group(entry) }
        if entry.root == "/" { return nil }
        if entries.contains(where: { $0.device == entry.device && $0.root == "/" && $0.id != top?.id }) { return nil }
        if let top, top.device == entry.device, entry.root.hasPrefix(top.root == "/" ? "/" : top.root + "/") {
            return nil
        }
        // Devices for an ordinary user, and masks.
        guard entry.type == "devtmpfs" else { return nil }
        var saved = SavedMount(entry)
        saved.source = "/dev\(entry.root)"
        return saved
    }

    private func group(_ entry: MountEntry) -> SavedMount? {
        // A hierarchy that was mounted as a whole is mounted again by criu.
        var saved = SavedMount(entry)
        saved.hierarchy = entry.type == "cgroup2" ? "" : String(entry.point.split(separator: "/").last ?? "")
        return saved
    }

    /// What lies upon the root itself: a fresh root file system needs these places.
    func places() -> [SavedPlace] {
        guard let top else { return [] }
        return entries.filter { $0.parent == top.id && $0.id != top.id }.map { entry in
            let status = try? root.open(entry.point, [.path], resolve: .zone).stat()
            return SavedPlace(point: entry.point, isDirectory: status.map { $0.kind == .directory } ?? true)
        }
    }

    /// criu's name of what a descriptor of the zone's is, for one that comes from outside; else what it is.
    static func name(ofStream number: Int, pid: Int32, mounts: borrowing ContainerMounts) throws(SystemError) -> String
    {
        let folder = try Descriptor.open("/proc/\(pid)/fd", [.path, .directory])
        let text: String
        do throws(SystemError) { text = try folder.readLink(String(number)) } catch {
            // The program has closed it.
            if error.errno == .noEntry { return "" }
            throw error
        }
        guard text.isAbsolutePath else { return text }
        let mount = try ContainerMounts.number(in: "/proc/\(pid)/fdinfo/\(number)")
        if mounts.entry(mount) != nil { return text }
        let file = try FileStatus.of("/proc/\(pid)/fd/\(number)")
        return "file[\(String(mount, radix: 16)):\(String(file.inode, radix: 16))]"
    }
}
