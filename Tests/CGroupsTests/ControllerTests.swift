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
        isNew: Bool = false,
        files: [String]
    ) throws -> [String: String] {
        try folder.makeFolder("zonectl/z")
        for file in files where !folder.has("zonectl/z/\(file)") { try folder.write("zonectl/z/\(file)") }
        let group = try CGroupFiles("\(folder.path)/zonectl/z", isNew: isNew)
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

    @Test(arguments: [(2048, 1024), (nil, 1024), (-1, 1024)] as [(Int64?, Int64)])
    func swapThatCannotBeCountedIsRefused(_ limit: Int64?, _ swap: Int64) throws {
        let error = #expect(throws: SystemError.self) {
            _ = try apply(MemoryController(), memory(limit: limit, swap: swap), unified: true, files: Self.memory2)
        }
        #expect(error?.errno == .invalid)
        #expect(try folder.read("zonectl/z/memory.max").isEmpty, "before anything was written")
    }

    /// An update of swap alone counts from the limit that the group has.
    @Test func swapAloneIsCountedFromTheLimit() throws {
        try folder.write("zonectl/z/memory.max", "4096\n")
        let written = try apply(MemoryController(), memory(swap: 10_000), unified: true, files: Self.memory2)
        #expect(written["memory.swap.max"] == "5904")
    }

    @Test func memoryThatBecomesUnlimitedTakesSwapAlong() throws {
        #expect(
            try apply(MemoryController(), memory(limit: -1), unified: true, files: Self.memory2)
                == ["memory.max": "max", "memory.swap.max": "max"])
        #expect(
            try apply(MemoryController(), memory(limit: -1), unified: false, files: Self.memory1)
                == ["memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"])
    }

    @Test func aLimitBelowWhatIsUsedIsRefusedWhenAsked() throws {
        try folder.write("zonectl/z/memory.current", "5000\n")
        var resources = memory(limit: 4096)
        resources.memory?.checkBeforeUpdate = true
        let error = #expect(throws: SystemError.self) {
            _ = try apply(MemoryController(), resources, unified: true, files: Self.memory2)
        }
        #expect(error?.errno == .busy)
        resources.memory?.limit = 8192
        #expect(
            try apply(MemoryController(), resources, unified: true, files: Self.memory2)["memory.max"] == "8192")
    }

    /// Zeros, and a swappiness of -1, are how engines say nothing.
    @Test(arguments: [true, false]) func zerosSayNothing(_ unified: Bool) throws {
        var resources = memory(limit: 0, swap: 0, reservation: 0)
        resources.memory?.swappiness = .max
        resources.memory?.kernel = 0
        resources.cpu = Spec.CPU()
        resources.cpu?.shares = 0
        resources.cpu?.quota = 0
        resources.cpu?.period = 0
        resources.cpu?.cpus = ""
        resources.blockIO = Spec.BlockIO()
        resources.blockIO?.weight = 0
        resources.network = Spec.NetworkPriority()
        resources.network?.classID = 0
        for controller in CGroups.controllers {
            #expect(!controller.isAsked(resources), "\(controller.name)")
            #expect(try apply(controller, resources, unified: unified, isNew: true, files: []).isEmpty)
        }
    }

    @Test func whatOnlyVersion1HasIsNamedOnVersion2() throws {
        let changes: [(String, (inout Spec.Resources) -> Void)] = [
            (
                "disableOOMKiller",
                {
                    $0.memory = .init()
                    $0.memory?.disableOOMKiller = true
                }
            ),
            (
                "swappiness",
                {
                    $0.memory = .init()
                    $0.memory?.swappiness = 5
                }
            ),
            (
                "memory.kernel",
                {
                    $0.memory = .init()
                    $0.memory?.kernel = 5
                }
            ),
            (
                "kernelTCP",
                {
                    $0.memory = .init()
                    $0.memory?.kernelTCP = 5
                }
            ),
            (
                "realtimeRuntime",
                {
                    $0.cpu = .init()
                    $0.cpu?.realtimeRuntime = 5
                }
            ),
            (
                "leafWeight",
                {
                    $0.blockIO = .init()
                    $0.blockIO?.leafWeight = 5
                }
            ),
            (
                "classID",
                {
                    $0.network = .init()
                    $0.network?.classID = 5
                }
            ),
        ]
        for (name, change) in changes {
            var resources = Spec.Resources()
            change(&resources)
            let error = #expect(throws: SystemError.self) {
                for controller in CGroups.controllers {
                    _ = try apply(controller, resources, unified: true, files: Self.memory2)
                }
            }
            #expect(error?.errno == .notSupported && error?.subject.contains(name) == true, "\(name)")
        }
    }

    @Test func oldKernelLimitsAreWrittenWhereTheFileExists() throws {
        var resources = memory()
        resources.memory?.kernel = 4096
        resources.memory?.disableOOMKiller = true
        let files = ["memory.kmem.limit_in_bytes", "memory.oom_control"]
        #expect(
            try apply(MemoryController(), resources, unified: false, files: files)
                == ["memory.kmem.limit_in_bytes": "4096", "memory.oom_control": "1"])
        resources.memory?.kernelTCP = 1
        let error = #expect(throws: SystemError.self) {
            _ = try apply(MemoryController(), resources, unified: false, files: files)
        }
        #expect(error?.errno == .notSupported && error?.subject.contains("kernelTCP") == true)
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
        arguments: [(-1, 50_000, "max 50000"), (-1, nil, "max"), (nil, 50_000, "max 50000"), (1000, nil, "1000")]
            as [(Int64?, UInt64?, String)])
    func noQuotaIsMax(_ quota: Int64?, _ period: UInt64?, _ text: String) throws {
        let resources = cpu {
            $0.quota = quota
            $0.period = period
        }
        #expect(try apply(CPUController(), resources, unified: true, files: Self.cpu2) == ["cpu.max": text])
    }

    @Test func aNewPeriodLeavesTheQuota() throws {
        try folder.write("zonectl/z/cpu.max", "7000 100000\n")
        let written = try apply(CPUController(), cpu { $0.period = 200_000 }, unified: true, files: Self.cpu2)
        // The file of the kernel's would hold this alone.
        #expect(written["cpu.max"]?.hasPrefix("7000 200000") == true)
    }

    @Test func realTimeOnVersion1() throws {
        let resources = cpu {
            $0.realtimePeriod = 1_000_000
            $0.realtimeRuntime = 950_000
        }
        #expect(
            try apply(
                CPUController(), resources, unified: false, files: ["cpu.rt_period_us", "cpu.rt_runtime_us"])
                == ["cpu.rt_period_us": "1000000", "cpu.rt_runtime_us": "950000"])
    }

    @Test func realTimeThatTheKernelLacksIsNamed() {
        let error = #expect(throws: SystemError.self) {
            _ = try apply(CPUController(), cpu { $0.realtimeRuntime = 1 }, unified: false, files: ["cpu.shares"])
        }
        #expect(error?.errno == .notSupported)
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
        let written = try apply(
            CPUSetController(), resources, unified: false, isNew: true, files: ["cpuset.cpus", "cpuset.mems"])
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
            try controller.applyLegacy(Spec.Resources(), to: group)
        }
        #expect(try folder.descriptor.entries().isEmpty)
        #expect(
            Set(CGroups.controllers.map(\.name))
                == [
                    "memory", "cpu", "cpuset", "pids", "blkio", "hugetlb", "rdma", "net_cls", "net_prio", "devices",
                ])
    }

    // MARK: io, hugetlb, rdma, network

    private func io() -> Spec.Resources {
        var resources = Spec.Resources()
        var io = Spec.BlockIO()
        io.weight = 500
        var rate = Spec.DeviceRate()
        rate.major = 8
        rate.rate = 1_048_576
        io.throttleReadBpsDevice = [rate]
        rate.minor = 16
        rate.rate = 0
        io.throttleWriteIOPSDevice = [rate]
        resources.blockIO = io
        return resources
    }

    @Test func blockDevicesOnVersion2() throws {
        var resources = io()
        resources.blockIO?.throttleWriteIOPSDevice = []
        #expect(
            try apply(BlockIOController(), resources, unified: true, files: ["io.weight", "io.max"])
                == ["io.weight": "4950", "io.max": "8:0 rbps=1048576"])
        resources = io()
        resources.blockIO?.throttleReadBpsDevice = []
        try folder.write("zonectl/z/io.bfq.weight")
        try folder.write("zonectl/z/io.max")
        let written = try apply(BlockIOController(), resources, unified: true, files: ["io.bfq.weight", "io.max"])
        #expect(written == ["io.bfq.weight": "500", "io.max": "8:16 wiops=max"])
    }

    @Test(arguments: [(10, 1), (1000, 10_000), (100, 910), (5, 1)] as [(UInt16, Int)])
    func weightsMeetAtTheEnds(_ weight: UInt16, _ converted: Int) {
        #expect(BlockIOController.ioWeight(weight) == converted)
    }

    @Test func blockDevicesOnVersion1() throws {
        var resources = io()
        var device = Spec.DeviceWeight()
        device.major = 8
        device.weight = 300
        device.leafWeight = 200
        resources.blockIO?.weightDevice = [device]
        resources.blockIO?.leafWeight = 40
        let written = try apply(
            BlockIOController(), resources, unified: false,
            files: [
                "blkio.weight", "blkio.leaf_weight", "blkio.weight_device", "blkio.leaf_weight_device",
                "blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device",
            ])
        #expect(
            written == [
                "blkio.weight": "500", "blkio.leaf_weight": "40", "blkio.weight_device": "8:0 300",
                "blkio.leaf_weight_device": "8:0 200", "blkio.throttle.read_bps_device": "8:0 1048576",
                "blkio.throttle.write_iops_device": "8:16 0",
            ])
    }

    @Test func aSchedulerWithoutWeightsIsNamed() {
        let error = #expect(throws: SystemError.self) {
            _ = try apply(BlockIOController(), io(), unified: false, files: ["blkio.throttle.read_bps_device"])
        }
        #expect(error?.errno == .notSupported && error?.subject.contains("blockIO.weight") == true)
    }

    @Test(arguments: [true, false]) func hugePages(_ unified: Bool) throws {
        let suffix = unified ? "max" : "limit_in_bytes"
        var resources = Spec.Resources()
        resources.hugepageLimits = [.init(), .init()]
        resources.hugepageLimits[0].pageSize = "2MB"
        resources.hugepageLimits[0].limit = 4_194_304
        resources.hugepageLimits[1].pageSize = "1GB"
        let files = ["hugetlb.2MB.\(suffix)", "hugetlb.2MB.rsvd.\(suffix)", "hugetlb.1GB.\(suffix)"]
        #expect(
            try apply(HugetlbController(), resources, unified: unified, files: files)
                == [files[0]: "4194304", files[1]: "4194304", files[2]: "0"])
        resources.hugepageLimits[0].pageSize = "64KB"
        let error = #expect(throws: SystemError.self) {
            _ = try apply(HugetlbController(), resources, unified: unified, files: files)
        }
        #expect(error?.errno == .notSupported && error?.subject.contains("64KB") == true)
    }

    /// It becomes part of a file's name.
    @Test(arguments: [
        "", "B", "MB", "2", "2M", "2mb", "02MB", "-2MB", "../2MB", "2/MB", "2MB/", "99999999999999MB", "2 MB",
    ])
    func otherTextsAreNoPageSize(_ text: String) {
        #expect(!HugetlbController.isPageSize(text))
    }

    @Test func markedTrafficAndRDMA() throws {
        var resources = Spec.Resources()
        resources.network = Spec.NetworkPriority()
        resources.network?.classID = 1_048_577
        resources.network?.priorities = [.init()]
        resources.network?.priorities[0].name = "eth0"
        resources.network?.priorities[0].priority = 5
        #expect(
            try apply(NetworkClassController(), resources, unified: false, files: ["net_cls.classid"])
                == ["net_cls.classid": "1048577"])
        #expect(
            try apply(NetworkPriorityController(), resources, unified: false, files: ["net_prio.ifpriomap"])
                == ["net_prio.ifpriomap": "eth0 5"])
        var limit = Spec.RDMA()
        limit.hcaHandles = 3
        limit.hcaObjects = 10_000
        resources.rdma = ["mlx5_1": limit]
        #expect(
            try apply(RDMAController(), resources, unified: true, files: ["rdma.max"])
                == ["rdma.max": "mlx5_1 hca_handle=3 hca_object=10000"])
        resources.rdma = ["mlx5 x": limit]
        #expect(throws: SystemError.self) {
            _ = try apply(RDMAController(), resources, unified: true, files: ["rdma.max"])
        }
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
