// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

/// Version 2, with a folder of files for the hierarchy.
@Suite struct UnifiedTests {
    private let folder: TemporaryFolder
    private let layout: CGroupLayout

    init() throws {
        folder = try TemporaryFolder()
        layout = CGroupLayout(unified: folder.path, legacy: [])
        try folder.write("cgroup.controllers", "cpu memory pids io hugetlb\n")
        try folder.write("cgroup.subtree_control")
        try folder.makeFolder("e/z")
        try folder.write("e/cgroup.subtree_control")
    }

    private func engine(_ resources: Spec.Resources = .init()) throws -> any CGroupManager {
        try CGroups.engineManager(layout, path: "e/z", for: resources)
    }

    @Test func enginesGetAllThatTheHostPassesOn() throws {
        try engine().create(Spec.Resources())
        for file in ["cgroup.subtree_control", "e/cgroup.subtree_control"] {
            #expect(try folder.read(file) == "+cpu +hugetlb +io +memory +pids")
        }
    }

    /// What is enabled already, by whoever, needs no right to enable it.
    @Test func aDelegatedGroupIsTakenAsItIs() throws {
        try folder.write("e/z/cgroup.controllers", "cpu memory pids\n")
        try folder.write("cgroup.controllers", "cpu memory pids\n")
        try engine().create(Spec.Resources())
        #expect(try folder.read("cgroup.subtree_control").isEmpty)
        try folder.write("e/z/cgroup.controllers", "cpu\n")
        try folder.write("cgroup.subtree_control", "cpu memory pids")
        try folder.write("e/cgroup.subtree_control", "cpu pids")
        try engine().create(Spec.Resources())
        #expect(try folder.read("cgroup.subtree_control") == "cpu memory pids")
        #expect(try folder.read("e/cgroup.subtree_control").hasPrefix("+memory"))
    }

    /// With everything there, one file of the group's own tells it.
    @Test func nothingAboveIsReadWhenAllIsThere() throws {
        try folder.write("e/z/cgroup.controllers", UnifiedCGroup.engine.joined(separator: " ") + "\n")
        unlink("\(folder.path)/cgroup.controllers")
        unlink("\(folder.path)/cgroup.subtree_control")
        unlink("\(folder.path)/e/cgroup.subtree_control")
        try engine().create(Spec.Resources())
    }

    @Test func unifiedFilesAreWritten() throws {
        for file in ["memory.high", "memory.oom.group", "io.max", "cgroup.max.depth"] {
            try folder.write("e/z/\(file)")
        }
        var resources = Spec.Resources()
        resources.unified = [
            "memory.high": "4096", "memory.oom.group": "1", "cgroup.max.depth": "3", "io.max": "8:0 rbps=1\n",
        ]
        try engine().create(resources)
        #expect(try folder.read("e/z/memory.high") == "4096" && folder.read("e/z/memory.oom.group") == "1")
        #expect(try folder.read("e/z/io.max") == "8:0 rbps=1" && folder.read("e/z/cgroup.max.depth") == "3")
        try folder.write("e/z/memory.high")
        resources.unified = ["memory.high": "max"]
        _ = try CGroups.manager(recorded: engine().directories).update(Spec.Resources())
        try folder.write("e/z/cgroup.controllers", "memory\n")
        _ = try CGroups.manager(recorded: engine().directories).update(resources)
        #expect(try folder.read("e/z/memory.high") == "max")
    }

    @Test(
        arguments: [
            ("rdma.max", Errno.notSupported), ("nonsense.max", .notSupported), ("memory.nothing", .noEntry),
            ("../memory.max", .invalid), ("e/z", .invalid), ("memory", .invalid), (".max", .invalid), ("", .invalid),
            ("memory.max\0x", .invalid),
        ])
    func otherUnifiedFilesAreRefused(_ name: String, _ errno: Errno) throws {
        var resources = Spec.Resources()
        resources.unified = [name: "1"]
        let error = #expect(throws: SystemError.self) { try engine(resources).create(resources) }
        #expect(error?.errno == errno)
    }

    // MARK: Freezing, watching

    @Test func freezingWaitsForTheEvent() throws {
        let freezer = UnifiedFreezer(path: "\(folder.path)/e/z")
        try folder.write("e/z/cgroup.freeze", "0\n")
        try folder.write("e/z/cgroup.events", "populated 1\nfrozen 1\n")
        #expect(try !freezer.isFrozen())
        try freezer.freeze(milliseconds: 100)
        #expect(try freezer.isFrozen())
        try freezer.thaw()
        #expect(try !freezer.isFrozen())
    }

    @Test func whatCannotBeFrozenRunsOn() throws {
        try folder.write("e/z/cgroup.freeze", "0\n")
        try folder.write("e/z/cgroup.events", "populated 1\nfrozen 0\n")
        let error = #expect(throws: SystemError.self) {
            try UnifiedFreezer(path: "\(folder.path)/e/z").freeze(milliseconds: 50)
        }
        #expect(error?.errno == .timedOut)
        #expect(try folder.read("e/z/cgroup.freeze").hasPrefix("0"))
    }

    @Test func aWatcherTellsKillsAndTheEnd() throws {
        try folder.write("e/z/memory.events", "low 0\noom 0\noom_kill 2\n")
        try folder.write("e/z/cgroup.events", "populated 1\nfrozen 0\n")
        var watcher = try engine().watchMemory()
        #expect(try watcher.next() == nil)
        #expect(try !waitReadable(watcher.raw, milliseconds: 0))
        try folder.write("e/z/memory.events", "low 0\noom 1\noom_kill 2\n")
        #expect(try waitReadable(watcher.raw, milliseconds: 1000))
        #expect(try watcher.next() == nil)
        try folder.write("e/z/memory.events", "low 0\noom 2\noom_kill 5\n")
        #expect(try watcher.next() == .outOfMemory(kills: 5))
        #expect(try watcher.next() == nil)
        try folder.write("e/z/cgroup.events", "populated 0\nfrozen 0\n")
        #expect(try watcher.next() == .ended)
    }

    @Test func withoutMemoryNothingCanBeWatched() throws {
        let error = #expect(throws: SystemError.self) { _ = try engine().watchMemory() }
        #expect(error?.errno == .notSupported)
    }
}
