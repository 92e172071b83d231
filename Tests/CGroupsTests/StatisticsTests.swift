// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

@Suite struct StatisticsTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private func read(_ hierarchies: [String]) throws -> CGroupStatistics {
        try CGroupStatistics(hierarchies.map { .init(hierarchy: $0, path: "\(folder.path)/\($0.isEmpty ? "v2" : $0)") })
    }

    private static let pressure = """
        some avg10=1.50 avg60=0.02 avg300=0.00 total=12345
        full avg10=0.00 avg60=0.00 avg300=0.00 total=9

        """

    @Test func version2() throws {
        for (name, text) in [
            "cpu.stat": """
            usage_usec 5000
            user_usec 3000
            system_usec 2000
            nr_periods 10
            nr_throttled 4
            throttled_usec 70

            """,
            "cpu.pressure": Self.pressure, "memory.current": "4096\n", "memory.max": "8192\n", "memory.peak": "6000\n",
            "memory.stat": "anon 1000\nfile 2000\nkernel 300\nsock 7\n", "memory.events": "low 0\nmax 3\noom 1\n",
            "memory.swap.current": "100\n", "memory.swap.max": "max\n", "pids.current": "5\n", "pids.max": "20\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:16 \n",
            "hugetlb.2MB.current": "2097152\n", "hugetlb.2MB.events": "max 2\n", "hugetlb.2MB.rsvd.current": "1\n",
            "cpuset.cpus": "0-2,5\n", "cpuset.mems": "0\n",
        ] { try folder.write("v2/\(name)", text) }
        let found = try read([""])
        #expect(found.cpu.usage.total == 5_000_000 && found.cpu.usage.user == 3_000_000)
        #expect(found.cpu.usage.kernel == 2_000_000 && found.cpu.throttling.throttledTime == 70_000)
        #expect(found.cpu.throttling.periods == 10 && found.cpu.throttling.throttledPeriods == 4)
        #expect(found.cpu.psi?.some.average10 == "1.50" && found.cpu.psi?.full.total == 9)
        #expect(found.memory.psi == nil)
        #expect(found.memory.cache == 2000 && found.memory.usage.limit == 8192 && found.memory.usage.usage == 4096)
        #expect(found.memory.usage.max == 6000 && found.memory.usage.failures == 3)
        #expect(found.memory.swap.usage == 4196 && found.memory.swap.limit == .max)
        #expect(found.memory.raw["anon"] == 1000 && found.memory.kernel.usage == 300)
        #expect(found.pids.current == 5 && found.pids.limit == 20)
        #expect(found.blkio.serviceBytes.map(\.operation) == ["Read", "Write", "Discard"])
        #expect(found.blkio.serviced.map(\.value) == [3, 4, 6])
        #expect(found.hugetlb.keys.sorted() == ["2MB"] && found.hugetlb["2MB"]?.failures == 2)
        #expect(found.cpuset?.cpus == [0, 1, 2, 5])
    }

    @Test func version1() throws {
        for (name, text) in [
            "cpu/cpu.stat": "nr_periods 2\nnr_throttled 1\nthrottled_time 500\n",
            "cpuacct/cpuacct.usage": "900\n", "cpuacct/cpuacct.usage_user": "600\n",
            "cpuacct/cpuacct.usage_sys": "300\n", "cpuacct/cpuacct.usage_percpu": "400 500 \n",
            "cpuacct/cpuacct.usage_all": "cpu user system\n0 250 150\n1 350 150\n",
            "memory/memory.stat": "cache 10\nrss 20\n", "memory/memory.usage_in_bytes": "30\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.max_usage_in_bytes": "40\n",
            "memory/memory.failcnt": "5\n", "memory/memory.memsw.usage_in_bytes": "31\n",
            "memory/memory.kmem.usage_in_bytes": "8\n", "pids/pids.current": "3\n", "pids/pids.max": "max\n",
            "blkio/blkio.bfq.io_service_bytes_recursive": "Total 0\n",
            "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Total 100\nTotal 100\n",
            "blkio/blkio.sectors_recursive": "8:0 7\n", "cpuset/cpuset.cpus": "1\n", "cpuset/cpuset.mems": "0\n",
            "cpuset/cpuset.sched_load_balance": "1\n", "cpuset/cpuset.sched_relax_domain_level": "-1\n",
            "hugetlb/hugetlb.2MB.usage_in_bytes": "1\n", "hugetlb/hugetlb.2MB.max_usage_in_bytes": "2\n",
            "hugetlb/hugetlb.2MB.failcnt": "3\n",
        ] { try folder.write(name, text) }
        let found = try read(["cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "hugetlb"])
        #expect(found.cpu.usage.total == 900 && found.cpu.usage.user == 600 && found.cpu.usage.kernel == 300)
        #expect(found.cpu.usage.perCPU == [400, 500] && found.cpu.usage.perCPUKernel == [150, 150])
        #expect(found.cpu.throttling.throttledTime == 500)
        #expect(found.memory.usage.limit == 9_223_372_036_854_771_712 && found.memory.usage.failures == 5)
        #expect(found.memory.swap.usage == 31 && found.memory.kernel.usage == 8 && found.memory.cache == 10)
        #expect(found.pids.current == 3 && found.pids.limit == 0)
        #expect(found.blkio.serviceBytes.map(\.operation) == ["Read", "Total"])
        #expect(found.blkio.sectors.map(\.value) == [7])
        #expect(found.cpuset?.flags == ["sched_load_balance": 1, "sched_relax_domain_level": -1])
        #expect(found.hugetlb["2MB"]?.max == 2 && found.hugetlb["2MB"]?.failures == 3)
    }

    /// A hybrid host's version 2 group counts CPU time where no version 1 group does, and nothing twice.
    @Test func hybrid() throws {
        try folder.write("v2/cpu.stat", "usage_usec 5\nnr_periods 99\n")
        try folder.write("v2/cpu.pressure", Self.pressure)
        try folder.write("v2/memory.current", "1\n")
        try folder.write("memory/memory.usage_in_bytes", "30\n")
        try folder.write("cpu/cpu.stat", "nr_periods 2\n")
        let found = try read(["memory", "cpu", ""])
        #expect(found.cpu.usage.total == 5000 && found.cpu.throttling.periods == 2)
        #expect(found.memory.usage.usage == 30 && found.cpu.psi != nil)
    }

    @Test func nothingIsZero() throws {
        for name in ["v2", "memory", "cpuacct", "blkio"] { try folder.makeFolder(name) }
        #expect(try read(["", "memory", "cpuacct", "blkio"]) == CGroupStatistics())
        #expect(throws: SystemError.self) { try read(["gone"]) }
    }

    /// As runc's `events --stats` has it, which containerd and podman read.
    @Test func asJSON() throws {
        var value = CGroupStatistics()
        value.hugetlb["2MB"] = .init()
        value.memory.raw["anon"] = 1
        value.cpu.psi = StatisticsText.pressure(Self.pressure)
        value.cpu.usage.perCPU = [1]
        value.blkio.serviceBytes = [.init(8, 0, "Read", 4)]
        let text = String(decoding: value.serialized(), as: UTF8.self)
        #expect(
            text == """
                {"cpu":{"usage":{"total":0,"percpu":[1],"kernel":0,"user":0},\
                "throttling":{"periods":0,"throttledPeriods":0,"throttledTime":0},\
                "psi":{"some":{"avg10":1.50,"avg60":0.02,"avg300":0.00,"total":12345},\
                "full":{"avg10":0.00,"avg60":0.00,"avg300":0.00,"total":9}}},\
                "memory":{"cache":0,"usage":{"limit":0,"usage":0,"max":0,"failcnt":0},\
                "swap":{"limit":0,"usage":0,"max":0,"failcnt":0},"kernel":{"limit":0,"usage":0,"max":0,"failcnt":0},\
                "kernelTCP":{"limit":0,"usage":0,"max":0,"failcnt":0},"raw":{"anon":1}},\
                "pids":{"current":0,"limit":0},\
                "blkio":{"ioServiceBytesRecursive":[{"major":8,"minor":0,"op":"Read","value":4}]},\
                "hugetlb":{"2MB":{"usage":0,"max":0,"failcnt":0}},"intel_rdt":{},"network_interfaces":null}

                """)
        #expect(try CGroupStatistics(parsing: value.serialized()) == value)
        let empty = String(decoding: CGroupStatistics().serialized(), as: UTF8.self)
        #expect(empty.contains("\"hugetlb\":{},\"intel_rdt\":{},\"network_interfaces\":null"))
    }

    @Test(arguments: [
        "", "some", "some avg10=x avg60 =1 total=-1", "other avg10=1", "some avg10=1e5 total=99999999999999999999999",
        "some avg10=01.5 avg60=+1 avg300=1.",
    ])
    func otherPressureIsZero(_ text: String) {
        let found = StatisticsText.pressure(text)
        #expect(found == nil || found == CGroupStatistics.Pressure())
    }

    @Test(arguments: ["", "x", "3-1", "1-", "-1", "0-65535", "1,,x", "70000", "1-2-3"])
    func otherTextsAreNoList(_ text: String) {
        #expect(NumberList.parse(text).isEmpty)
    }
}
