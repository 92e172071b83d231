// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Stops and resumes all processes of a zone: by `cgroup.freeze` where there is a version 2 group, as a hybrid host has
/// one too, else by version 1's `freezer`.
struct Freezer {
    let unified: UnifiedFreezer?
    let legacy: LegacyFreezer?

    init(_ directories: [CGroupDirectory]) {
        unified = directories.first { $0.hierarchy.isEmpty }.map { UnifiedFreezer(path: $0.path) }
        legacy = directories.first { $0.controllers.contains("freezer") }.map { LegacyFreezer(path: $0.path) }
    }

    func freeze(milliseconds: Int = 10_000) throws(SystemError) {
        if let unified { return try unified.freeze(milliseconds: milliseconds) }
        guard let legacy else { throw Freezer.missing }
        try legacy.freeze(milliseconds: milliseconds)
    }

    /// Both, as others may have used the one that we do not.
    func thaw() throws(SystemError) {
        if unified == nil && legacy == nil { throw Freezer.missing }
        if let unified { try unified.thaw() }
        if let legacy { try legacy.thaw() }
    }

    func isFrozen() throws(SystemError) -> Bool {
        if let unified, try unified.isFrozen() { return true }
        return try legacy?.isFrozen() ?? false
    }

    private static let missing = SystemError("freeze", "the zone has no group that can be frozen", .notSupported)
}

/// Version 2: `cgroup.freeze`, Linux 5.2.
struct UnifiedFreezer {
    let path: String

    func freeze(milliseconds: Int) throws(SystemError) {
        let group = try CGroupFiles(path)
        // Opened before the order is given, so that no notification can be missed.
        let events = try Descriptor.open("\(path)/cgroup.events", [.readOnly])
        try group.write("cgroup.freeze", "1", for: "freezing")
        let end = MonotonicClock.milliseconds + Int64(milliseconds)
        while true {
            events.rewind()
            let text = String(decoding: try events.readAll(limit: 4096, "\(path)/cgroup.events"), as: UTF8.self)
            if text.split(separator: "\n").contains("frozen 1") { return }
            let left = end - MonotonicClock.milliseconds
            if left <= 0 { break }
            // kernfs shows a change as an exceptional condition, not as data.
            var entry = pollfd(fd: events.raw, events: Int16(POLLPRI), revents: 0)
            _ = zn_poll(&entry, 1, CInt(min(left, 1000)))
        }
        try? group.write("cgroup.freeze", "0")
        throw SystemError("freeze", path, .timedOut)
    }

    func thaw() throws(SystemError) {
        try CGroupFiles(path).write("cgroup.freeze", "0", for: "freezing")
    }

    /// Whether freezing was asked for here: a group above may be frozen as well.
    func isFrozen() throws(SystemError) -> Bool {
        try CGroupFiles(path).readIfThere("cgroup.freeze") == "1"
    }
}

/// Version 1: `freezer.state`.
struct LegacyFreezer {
    let path: String

    func freeze(milliseconds: Int) throws(SystemError) {
        let group = try CGroupFiles(path)
        let end = MonotonicClock.milliseconds + Int64(milliseconds)
        var round = 0
        repeat {
            // A process that forks meanwhile can keep the group in FREEZING for good; written again, the state reaches
            // the new ones. Now and then a thaw helps, as processes may wait for one another.
            if round % 64 == 63 {
                try group.write("freezer.state", "THAWED")
                pause(milliseconds: 5)
            }
            try group.write("freezer.state", "FROZEN")
            if try group.read("freezer.state") == "FROZEN" { return }
            pause(milliseconds: round < 8 ? 1 : 10)
            round += 1
        } while MonotonicClock.milliseconds < end
        try? group.write("freezer.state", "THAWED")
        throw SystemError("freeze", path, .timedOut)
    }

    func thaw() throws(SystemError) {
        do throws(SystemError) { try CGroupFiles(path).write("freezer.state", "THAWED") } catch {
            if error.errno != .noEntry { throw error }
        }
    }

    func isFrozen() throws(SystemError) -> Bool {
        let state = try CGroupFiles(path).readIfThere("freezer.state")
        return state == "FROZEN" || state == "FREEZING"
    }
}
