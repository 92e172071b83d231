// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

/// A folder of files poses as a control group; what is written to it is what the kernel would get.
@Suite struct ControllerTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    /// Applies limits to a group that has these files, and returns what each then holds; only those that changed.
    private func apply(
        _ controller: any Controller,
        _ resources: Spec.Resources,
        unified: Bool,
        files: [String]
    ) throws -> [String: String] {
        for file in files { try folder.write("zonectl/z/\(file)") }
        let group = try CGroupFiles("\(folder.path)/zonectl/z")
        if unified {
            try controller.applyUnified(resources, to: group)
        } else {
            try controller.applyLegacy(resources, to: group)
        }
        var result: [String: String] = [:]
        for file in files {
            let text = try group.read(file)
            if !text.isEmpty { result[file] = text }
        }
        return result
    }

    // MARK: memory

    private static let memory2 = ["memory.max", "memory.low", "memory.swap.max"]
    private static let memory1 = [
        "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness",
    ]

    private func memory(limit: Int64? = nil, swap: Int64? = nil, reservation: Int64? = nil) -> Spec.Resources {
        var resources = Spec.Resources()
        resources.memory = Spec.Memory()
        resources.memory?.limit = limit
        resources.memory?.swap = swap
        resources.memory?.reservation = reservation
        return resources
    }

    @Test func memoryOnVersion2CountsSwapAlone() throws {
        let written = try apply(
            MemoryController(), memory(limit: 1 << 20, swap: 3 << 20, reservation: 4096), unified: true,
            files: Self.memory2)
        #expect(written == ["memory.max": "1048576", "memory.swap.max": "2097152", "memory.low": "4096"])
    }

    @Test func unlimitedMemoryIsMax() throws {
        let written = try apply(MemoryController(), memory(limit: -1, swap: -1), unified: true, files: Self.memory2)
        #expect(written == ["memory.max": "max", "memory.swap.max": "max"])
    }

    @Test func swapBelowMemoryIsNone() throws {
        let written = try apply(MemoryController(), memory(limit: 2048, swap: 1024), unified: true, files: Self.memory2)
        #expect(written["memory.swap.max"] == "0")
    }

    @Test func memoryOnVersion1CountsBoth() throws {
        var resources = memory(limit: 1 << 20, swap: 3 << 20, reservation: 4096)
        resources.memory?.swappiness = 7
        let written = try apply(MemoryController(), resources, unified: false, files: Self.memory1)
        #expect(
            written == [
                "memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "3145728",
                "memory.soft_limit_in_bytes": "4096", "memory.swappiness": "7",
            ])
    }

    /// A kernel without swap accounting has no such file; docker's users get the limit all the same.
    @Test(arguments: [true, false])
    func aKernelWithoutSwapAccountingIsFine(_ unified: Bool) throws {
        let file = unified ? "memory.max" : "memory.limit_in_bytes"
        let written = try apply(MemoryController(), memory(limit: 4096, swap: 8192), unified: unified, files: [file])
        #expect(written == [file: "4096"])
    }

    @Test func aMissingFileIsAnErrorWithPlaceAndReason() {
        let error = #expect(throws: SystemError.self) {
            _ = try apply(MemoryController(), memory(limit: 4096), unified: true, files: ["cgroup.procs"])
        }
        #expect(error?.errno == .noEntry)
        #expect(error?.subject == "\(folder.path)/zonectl/z/memory.max")
    }

    // MARK: cpu

    private func cpu(_ change: (inout Spec.CPU) -> Void) -> Spec.Resources {
        var resources = Spec.Resources()
        var cpu = Spec.CPU()
        change(&cpu)
        resources.cpu = cpu
        return resources
    }

    private static let cpu2 = ["cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle"]
    private static let cpu1 = ["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.idle"]

    @Test func cpuTime() throws {
        let resources = cpu {
            $0.shares = 1024
            $0.quota = 150_000
            $0.period = 100_000
            $0.burst = 5000
            $0.idle = 1
        }
        #expect(
            try apply(CPUController(), resources, unified: true, files: Self.cpu2)
                == ["cpu.weight": "100", "cpu.max": "150000 100000", "cpu.max.burst": "5000", "cpu.idle": "1"])
        #expect(
            try apply(CPUController(), resources, unified: false, files: Self.cpu1)
                == [
                    "cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000",
                    "cpu.cfs_burst_us": "5000", "cpu.idle": "1",
                ])
    }

    @Test(
        arguments: [(-1, 50_000, "max 50000"), (0, nil, "max"), (nil, 50_000, "max 50000"), (1000, nil, "1000")]
            as [(Int64?, UInt64?, String)])
    func noQuotaIsMax(_ quota: Int64?, _ period: UInt64?, _ text: String) throws {
        let resources = cpu {
            $0.quota = quota
            $0.period = period
        }
        #expect(try apply(CPUController(), resources, unified: true, files: Self.cpu2) == ["cpu.max": text])
    }

    /// Both ends and the defaults meet; beyond the ends it stays there.
    @Test(
        arguments: [
            (2, 1), (1024, 100), (262_144, 10_000), (1, 1), (UInt64.max, 10_000), (0, 0), (512, 59), (2048, 174),
        ] as [(UInt64, UInt64)])
    func sharesBecomeWeight(_ shares: UInt64, _ weight: UInt64) {
        #expect(CPUController.weight(shares: shares) == weight)
    }

    @Test func moreSharesNeverWeighLess() {
        var last: UInt64 = 0
        for shares in stride(from: UInt64(2), through: 262_144, by: 97) {
            let weight = CPUController.weight(shares: shares)
            #expect(weight >= last && (1...10_000).contains(weight))
            last = weight
        }
    }

    // MARK: cpuset, pids

    @Test func placementOnVersion2() throws {
        let resources = cpu {
            $0.cpus = "0-1"
            $0.mems = "0"
        }
        let written = try apply(CPUSetController(), resources, unified: true, files: ["cpuset.cpus", "cpuset.mems"])
        #expect(written == ["cpuset.cpus": "0-1", "cpuset.mems": "0"])
    }

    /// A new version 1 cpuset is empty, and so are those above it: each gets its parent's values, the last the limits.
    @Test func placementOnVersion1ComesFromAbove() throws {
        try folder.write("cpuset.cpus", "0-7\n")
        try folder.write("cpuset.mems", "0-1\n")
        try folder.write("zonectl/cpuset.cpus")
        try folder.write("zonectl/cpuset.mems")
        let resources = cpu { $0.cpus = "3" }
        // Unlike a file of the kernel's, this one keeps what a shorter write does not cover.
        let written = try apply(CPUSetController(), resources, unified: false, files: ["cpuset.cpus", "cpuset.mems"])
        #expect(try folder.read("zonectl/cpuset.cpus") == "0-7")
        #expect(try folder.read("zonectl/cpuset.mems") == "0-1")
        #expect(written["cpuset.cpus"]?.hasPrefix("3") == true)
        #expect(written["cpuset.mems"] == "0-1")
    }

    @Test(arguments: [true, false], [(100, "100"), (0, "max"), (-1, "max")] as [(Int64, String)])
    func tasks(_ unified: Bool, _ limit: (Int64, String)) throws {
        var resources = Spec.Resources()
        resources.pids = Spec.Pids(limit: limit.0)
        #expect(try apply(PidsController(), resources, unified: unified, files: ["pids.max"]) == ["pids.max": limit.1])
    }

    @Test func nothingAskedIsNothingWritten() throws {
        for controller in CGroups.controllers {
            #expect(!controller.isAsked(Spec.Resources()))
            let group = try CGroupFiles(folder.path)
            try controller.applyUnified(Spec.Resources(), to: group)
            if controller.name != "cpuset" { try controller.applyLegacy(Spec.Resources(), to: group) }
        }
        #expect(try folder.descriptor.entries().isEmpty)
        #expect(Set(CGroups.controllers.map(\.name)) == ["memory", "cpu", "cpuset", "pids", "devices"])
    }

    // MARK: Groups

    @Test func countersAreFoundByTheirWholeName() throws {
        try folder.write("memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 9\nbad x\n")
        let group = try CGroupFiles(folder.path)
        #expect(try group.counter("oom_kill", in: "memory.events") == 3)
        #expect(try group.counter("oom", in: "memory.events") == 5)
        #expect(try group.counter("bad", in: "memory.events") == 0)
        #expect(try group.counter("missing", in: "memory.events") == 0)
    }

    @Test func makesAndRemovesGroups() throws {
        let path = "\(folder.path)/a/b/c"
        try CGroupFiles.make(path)
        try CGroupFiles.make(path)
        #expect(try FileStatus.of(path).kind == .directory)
        try CGroupFiles.make("\(path)/delegated/deep")
        try CGroupFiles.remove(path)
        #expect(!folder.has("a/b/c"))
        #expect(folder.has("a/b"))
        try CGroupFiles.remove(path)
    }

    @Test func processesAreFoundInGroupsBelow() throws {
        try folder.write("g/cgroup.procs", "11\n12\n")
        try folder.write("g/below/cgroup.procs", "13\n")
        try folder.write("g/below/deeper/cgroup.procs", "")
        #expect(try CGroupFiles.processes("\(folder.path)/g").sorted() == [11, 12, 13])
        #expect(try CGroupFiles.processes("\(folder.path)/gone").isEmpty)
    }

    @Test func version2EnablesControllersOnTheWayDown() throws {
        try folder.write("cgroup.controllers", "cpu memory pids io\n")
        for path in ["", "zonectl/"] { try folder.write("\(path)cgroup.subtree_control") }
        try folder.write("zonectl/cgroup.subtree_control", "cpu\n")
        try folder.write("zonectl/z/pids.max")
        let manager = CGroups.manager(CGroupLayout(unified: folder.path, legacy: []), path: "zonectl/z")
        var resources = Spec.Resources()
        resources.pids = Spec.Pids(limit: 7)
        try manager.create(resources)
        #expect(try folder.read("cgroup.subtree_control") == "+cpu +memory +pids")
        #expect(try folder.read("zonectl/cgroup.subtree_control").hasPrefix("+memory +pids"))
        #expect(try folder.read("zonectl/z/pids.max") == "7")
        resources.cpu = Spec.CPU()
        resources.cpu?.cpus = "0"
        let error = #expect(throws: SystemError.self) { try manager.create(resources) }
        #expect(error?.errno == .notSupported)
        #expect(error?.subject.contains("cpuset") == true)
    }

    @Test func recordedGroupsAreFoundAgain() throws {
        for (layout, path) in [
            (CGroupLayout(unified: "/u", legacy: []), "z"),
            (CGroupLayout(unified: "/u", legacy: [.init(controllers: ["memory"], mountPoint: "/m")]), "z"),
        ] {
            let manager = CGroups.manager(layout, path: path)
            let again = CGroups.manager(recorded: manager.directories)
            #expect(again.directories == manager.directories)
            #expect(type(of: again) == type(of: manager))
        }
    }
}
