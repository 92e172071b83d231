// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Groups below groups. A zone with a delegated tree makes them as it likes: with names that are no UTF-8, deeper in one
/// another than a path can say, threaded. So they are walked from directory to directory, by names as they are.
extension CGroupFiles {
    /// Levels below a zone's own group that are followed, each with a descriptor: far more than ``DelegatedCGroup`` allows.
    private static let deepest = 500

    /// Removes a group and the groups below it.
    static func remove(_ path: String) throws(SystemError) {
        try remove(path, remove: { rmdir(path) == 0 ? 0 : -errno }) { () throws(SystemError) in
            try Descriptor.open(path, [.readOnly, .directory, .noFollow])
        }
    }

    /// `remove`: rmdir(2) of the group, 0 or a negated errno. `open`: opens its directory.
    private static func remove(
        _ shown: String,
        level: Int = 0,
        remove: () -> CInt,
        open: () throws(SystemError) -> Descriptor
    ) throws(SystemError) {
        var delay: Int32 = 1
        while true {
            let result = remove()
            if result >= 0 || result == -ENOENT { return }
            guard result == -EBUSY || result == -ENOTEMPTY else {
                throw SystemError("rmdir", shown, Errno(rawValue: -result))
            }
            // Groups below, or a process that has ended but is not gone yet: the latter takes moments.
            try removeChildren(shown, level: level, open)
            let second = remove()
            if second >= 0 || second == -ENOENT { return }
            if delay > 512 { throw SystemError("rmdir", shown, .busy) }
            pause(milliseconds: delay)
            delay *= 2
        }
    }

    private static func removeChildren(
        _ shown: String,
        level: Int,
        _ open: () throws(SystemError) -> Descriptor
    ) throws(SystemError) {
        guard let directory = try openIfThere(open) else { return }
        for name in try children(directory) {
            if level == deepest { throw SystemError("rmdir", shown, Errno(rawValue: ELOOP)) }
            try remove(
                "\(shown)/\(text(name))", level: level + 1, remove: { zn_unlinkat(directory.raw, name, AT_REMOVEDIR) }
            ) { () throws(SystemError) in try openChild(name, of: directory) }
        }
    }

    /// Returns the processes of a group and of the groups below it.
    static func processes(_ path: String) throws(SystemError) -> [Int32] {
        let group = try openIfThere { () throws(SystemError) in
            try Descriptor.open(path, [.readOnly, .directory, .noFollow])
        }
        guard let group else { return [] }
        return try processes(of: group, path, level: 0)
    }

    private static func processes(
        of group: borrowing Descriptor, _ shown: String, level: Int
    ) throws(SystemError) -> [Int32] {
        var pids: [Int32] = []
        do throws(SystemError) {
            let text = String(decoding: try group.readFile("cgroup.procs"), as: UTF8.self)
            pids = text.split(separator: "\n").compactMap { Int32($0) }
        } catch {
            if error.errno == .noEntry || error.errno == .noDevice { return [] }
            // A threaded group's processes are in the list of the group above whose threads it divides.
            if error.errno != .notSupported { throw error.during("read", "\(shown)/cgroup.procs") }
        }
        for name in try children(group) {
            if level == deepest { throw SystemError("read", shown, Errno(rawValue: ELOOP)) }
            let child = try openIfThere { () throws(SystemError) in try openChild(name, of: group) }
            if let child { pids += try processes(of: child, "\(shown)/\(text(name))", level: level + 1) }
        }
        return pids
    }

    /// Names of the groups right below a group, each with a NUL; none for one that is gone, be it while its folder is read:
    /// systemd removes a scope as soon as its last process has ended.
    private static func children(_ group: borrowing Descriptor) throws(SystemError) -> [[CChar]] {
        do throws(SystemError) {
            // A group's links count the groups in it. Looking at each entry instead would give every file of the group
            // an inode, which takes longer than all else here, and rmdir(2) would have to throw them away.
            if try group.stat().links <= 2 { return [] }
            var names: [[CChar]] = []
            try group.forEachEntry { entry in
                if entry.isDirectory { names.append(entry.name.map { CChar(bitPattern: $0) } + [0]) }
            }
            return names
        } catch {
            if error.errno == .noEntry || error.errno == .noDevice { return [] }
            throw error
        }
    }

    private static func openChild(_ name: [CChar], of group: borrowing Descriptor) throws(SystemError) -> Descriptor {
        let flags = OpenFlags([.readOnly, .directory, .noFollow, .closeOnExec])
        return Descriptor(owning: try check(zn_openat(group.raw, name, flags.rawValue, 0), "open", text(name)))
    }

    private static func openIfThere(_ open: () throws(SystemError) -> Descriptor) throws(SystemError) -> Descriptor? {
        do throws(SystemError) { return try open() } catch {
            if error.errno == .noEntry || error.errno == .noDevice { return nil }
            throw error
        }
    }

    private static func text(_ name: [CChar]) -> String {
        String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
