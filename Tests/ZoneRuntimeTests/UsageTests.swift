// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups
@testable import ZoneRuntime

@Suite struct UsageTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    @Test func versionTwo() throws {
        try folder.write("cpu.stat", "usage_usec 1500\nuser_usec 1\nnr_throttled 3\nthrottled_usec 7\n")
        try folder.write("memory.current", "1000\n")
        try folder.write("memory.stat", "anon 5\nxinactive_file 1\ninactive_file 300\n")
        try folder.write("memory.max", "max\n")
        try folder.write("memory.events", "max 2\noom 1\noom_kill 4\n")
        try folder.write("pids.current", "5\n")
        try folder.write("pids.max", "10\n")
        try folder.write("io.stat", "8:0 rbytes=10 wbytes=20 dbytes=1\n8:16 rbytes=1 wbytes=2\n")
        try folder.write("memory.pressure", "some avg10=12.34 avg60=1.00 avg300=0.00 total=99\nfull avg10=1.00\n")
        let usage = CGroupUsage([CGroupDirectory(hierarchy: "", path: folder.path)])
        var wanted = CGroupUsage()
        (wanted.cpu, wanted.throttled, wanted.throttledPeriods) = (1_500_000, 7000, 3)
        (wanted.memory, wanted.memoryKills, wanted.pids, wanted.pidsLimit) = (700, 4, 5, 10)
        (wanted.read, wanted.written) = (11, 22)
        wanted.memoryPressure = .init(average10: 1234, total: 99)
        #expect(usage == wanted)
    }

    @Test func hybrid() throws {
        try folder.write("cpu/cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n")
        try folder.write("cpu/cpuacct.usage", "42\n")
        try folder.write("memory/memory.usage_in_bytes", "1000\n")
        try folder.write("memory/memory.limit_in_bytes", "9223372036854771712\n")
        try folder.write("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n")
        try folder.write("v2/cpu.stat", "usage_usec 1\n")
        try folder.write("v2/cpu.pressure", "some avg10=0.05 avg60=0.00 avg300=0.00 total=1\n")
        try folder.write(
            "blkio/blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\n")
        let usage = CGroupUsage([
            CGroupDirectory(hierarchy: "cpu,cpuacct", path: "\(folder.path)/cpu"),
            CGroupDirectory(hierarchy: "memory", path: "\(folder.path)/memory"),
            CGroupDirectory(hierarchy: "blkio", path: "\(folder.path)/blkio"),
            CGroupDirectory(hierarchy: "", path: "\(folder.path)/v2"),
        ])
        #expect(usage.cpu == 42)
        #expect(usage.throttled == 3)
        // Read one after the other, the part may be the larger one.
        #expect(usage.memory == 0)
        #expect(usage.memoryLimit == nil)
        #expect(usage.read == 4096)
        #expect(usage.written == 1)
        #expect(usage.cpuPressure == .init(average10: 5, total: 1))
        #expect(usage.pids == nil)
    }

    @Test(arguments: [
        "", "\n", "some", "some avg10=", "some avg10=1", "some avg10=1.", "some avg10=x.00", "full avg10=1.00 total=1",
        "some avg10=99999999999999999999.00 total=1",
    ])
    func noPressure(_ text: String) {
        #expect(UsageText(bytes: Array(text.utf8)).pressure == nil)
    }

    @Test func ofAGroupThatIsGoneNothingIsTold() {
        #expect(CGroupUsage([CGroupDirectory(hierarchy: "", path: "/nonexistent")]) == CGroupUsage())
    }

    @Test func networkIsSummedUp() {
        let text = """
            Inter-|   Receive                                                |  Transmit
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
                lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
              eth0:    2000       2    0    0    0     0          0         0     3000       3    0    0    0     0       0          0
            e:1: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0
            bad: x
            """
        let usage = NetworkUsage(Array(text.utf8))
        #expect(usage.received == 2001)
        #expect(usage.sent == 3002)
    }

    @Test func ratesAreDifferences() {
        var earlier = ZoneUsage()
        (earlier.cpuTime, earlier.readBytes, earlier.sentBytes) = (1_000_000_000, 100, 500)
        var now = ZoneUsage()
        (now.cpuTime, now.readBytes, now.sentBytes) = (2_500_000_000, 300, 100)
        now.compare(with: earlier, nanoseconds: 2_000_000_000)
        #expect(now.cpuPercent?.text == "75.00")
        #expect(now.readRate == 100)
        // A counter that begins anew.
        #expect(now.sendRate == 0)
        #expect(now.receiveRate == nil)
        now.cpuPercent = nil
        now.compare(with: earlier, nanoseconds: 0)
        #expect(now.cpuPercent == nil)
    }

    @Test func labelsAreEscaped() {
        #expect(ZoneMetrics.escaped("a\\b\"c\nd\u{301}") == "a\\\\b\\\"c\\nd\u{301}")
        #expect(ZoneMetrics.seconds(1_000_000_001) == "1.000000001")
        #expect(ZoneMetrics.seconds(5) == "0.000000005")
    }
}
