// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Tells when a group's memory limit was reached and the kernel looked for a process to kill.
///
/// Version 2: inotify on `memory.events` and `cgroup.events`. Version 1: an eventfd that `cgroup.event_control` connects
/// with `memory.oom_control`; it says nothing of the last process's end, so that the caller watches its own pidfd.
public struct MemoryWatcher: ~Copyable {
    public enum Event: Sendable, Equatable {
        /// `kills`: how many processes were killed for it so far.
        case outOfMemory(kills: Int)
        /// The group has no process any more, or is gone.
        case ended
    }

    private let descriptor: Descriptor
    private let group: CGroupDirectory
    private var kills: Int

    /// For `poll(2)`: readable when ``next()`` may have something.
    public var raw: CInt { descriptor.raw }

    private init(_ descriptor: consuming Descriptor, _ group: CGroupDirectory) throws(SystemError) {
        self.descriptor = descriptor
        self.group = group
        kills = try MemoryWatcher.count(group) ?? 0
    }

    init(_ directories: [CGroupDirectory]) throws(SystemError) {
        if let legacy = directories.first(where: { $0.controllers.contains("memory") }) {
            self = try MemoryWatcher(MemoryWatcher.connect(legacy), legacy)
            return
        }
        guard let unified = directories.first(where: { $0.hierarchy.isEmpty }),
            try CGroupFiles(unified.path).exists("memory.events")
        else {
            throw SystemError("watch memory", "the zone has no group that counts memory", .notSupported)
        }
        let descriptor = Descriptor(owning: try check(zn_inotify(), "inotify_init1"))
        for file in ["memory.events", "cgroup.events"] {
            let path = "\(unified.path)/\(file)"
            try check(zn_inotify_watch(descriptor.raw, path, UInt32(IN_MODIFY | IN_DELETE_SELF)), "inotify", path)
        }
        self = try MemoryWatcher(descriptor, unified)
    }

    private static func connect(_ group: CGroupDirectory) throws(SystemError) -> Descriptor {
        let descriptor = Descriptor(owning: try check(zn_eventfd(), "eventfd"))
        let control = try Descriptor.open("\(group.path)/memory.oom_control", [.readOnly])
        try CGroupFiles(group.path).write(
            "cgroup.event_control", "\(descriptor.raw) \(control.raw)", for: "watching memory")
        return descriptor
    }

    /// Returns what has happened since the last call, `nil` for nothing of interest. Does not wait.
    public mutating func next() throws(SystemError) -> Event? {
        var isSignalled = false
        // Only that there was something counts, not how often. 4096 bytes hold any inotify event.
        while true {
            do throws(SystemError) {
                if try descriptor.read(upTo: group.hierarchy.isEmpty ? 4096 : 8).isEmpty { break }
            } catch {
                if error.errno == .again { break }
                throw error
            }
            isSignalled = true
        }
        if !isSignalled { return nil }
        guard let now = try MemoryWatcher.count(group) else { return .ended }
        if group.hierarchy.isEmpty {
            let isMore = now > kills
            kills = now
            if isMore { return .outOfMemory(kills: now) }
            return try isPopulated() ? nil : .ended
        }
        // The notification comes before the kill is counted, and without a kill where the killer is switched off.
        kills = now
        return .outOfMemory(kills: now)
    }

    /// `nil` where the group is gone.
    private static func count(_ group: CGroupDirectory) throws(SystemError) -> Int? {
        let file = group.hierarchy.isEmpty ? "memory.events" : "memory.oom_control"
        do throws(SystemError) { return try CGroupFiles(group.path).counter("oom_kill", in: file) } catch {
            if error.errno == .noEntry || error.errno == .noDevice { return nil }
            throw error
        }
    }

    private func isPopulated() throws(SystemError) -> Bool {
        do throws(SystemError) {
            return try CGroupFiles(group.path).counter("populated", in: "cgroup.events") > 0
        } catch {
            if error.errno == .noEntry || error.errno == .noDevice { return false }
            throw error
        }
    }
}
