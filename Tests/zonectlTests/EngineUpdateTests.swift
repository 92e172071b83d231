// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import TestSupport
import Testing
import ZoneRuntime

@testable import zonectl

/// Limits that `update` asks for; only what is said may change.
@Suite struct EngineUpdateTests {
    private func limits(_ words: [String]) throws -> Spec.Resources {
        try EngineUpdate.limits(
            ArgumentParser(
                command: "update", options: EngineUpdate.verb.options, endsOptionsAtOperand: false,
                takesSingleDash: true
            ).parse(words + ["id"]))
    }

    @Test func nothingSaidNothingChanged() throws {
        #expect(try limits([]) == Spec.Resources())
        #expect(try limits(["--kernel-memory", "1M"]) == Spec.Resources())
    }

    @Test func everyOptionFindsItsPlace() throws {
        let limits = try limits([
            "--blkio-weight", "500", "--cpu-period", "100000", "--cpu-quota=50000", "--cpu-burst", "10000",
            "--cpu-share", "512", "--cpu-rt-period", "1000000", "--cpu-rt-runtime", "950000", "--cpuset-cpus", "0-1",
            "--cpuset-mems", "0", "--memory", "512M", "--memory-reservation=256M", "-memory-swap", "1G",
            "--pids-limit", "100", "--cpu-idle", "1",
        ])
        var cpu = Spec.CPU()
        (cpu.period, cpu.quota, cpu.burst, cpu.shares) = (100_000, 50_000, 10_000, 512)
        (cpu.realtimePeriod, cpu.realtimeRuntime, cpu.idle) = (1_000_000, 950_000, 1)
        (cpu.cpus, cpu.mems) = ("0-1", "0")
        #expect(limits.cpu == cpu)
        var memory = Spec.Memory()
        (memory.limit, memory.reservation, memory.swap) = (512 << 20, 256 << 20, 1 << 30)
        #expect(limits.memory == memory)
        #expect(limits.pids == Spec.Pids(limit: 100))
        #expect(limits.blockIO?.weight == 500)
        #expect(limits.unified.isEmpty && limits.devices.isEmpty)
    }

    @Test func oneOptionLeavesTheOthersOut() throws {
        let limits = try limits(["--cpu-quota", "-1"])
        #expect(limits.cpu?.quota == -1 && limits.cpu?.period == nil && limits.cpu?.shares == nil)
        #expect(limits.memory == nil && limits.pids == nil && limits.blockIO == nil)
    }

    @Test(arguments: [("1024", 1024), ("1k", 1024), ("1.5G", 1_610_612_736), ("2MiB", 2_097_152), ("-1", -1)])
    func sizes(_ text: String, _ bytes: Int64) throws {
        for (option, path) in [
            ("--memory", \Spec.Memory.limit), ("--memory-reservation", \.reservation), ("--memory-swap", \.swap),
        ] {
            #expect(try limits([option, text]).memory?[keyPath: path] == bytes)
        }
    }

    @Test(arguments: [
        ["--memory", "-2"], ["--memory", "lots"], ["--memory="], ["--memory-swap", "1X"], ["--cpu-quota", "1.5"],
        ["--cpu-period", "-1"], ["--cpu-share", "99999999999999999999"], ["--pids-limit", "many"],
        ["--blkio-weight", "70000"], ["--cpu-idle", "yes"],
    ])
    func mistakesAreNamed(_ words: [String]) throws {
        let error = #expect(throws: ZoneError.self) { _ = try limits(words) }
        let option = words[0].prefix { $0 != "=" }
        #expect(error?.detail.hasPrefix("\(option) \"") == true)
        #expect(error?.code == .invalid)
    }

    @Test func resourcesAreReadFromAFile() throws {
        let folder = try TemporaryFolder()
        try folder.write(
            "limits", #"{"memory":{"limit":1048576},"pids":{"limit":-1},"unified":{"memory.high":"1000"},"new":1}"#)
        // The file is the whole of it, as for runc.
        let limits = try limits(["-r", "\(folder.path)/limits", "--memory", "2M", "--cpu-share", "5"])
        #expect(limits.memory?.limit == 1 << 20 && limits.pids?.limit == -1 && limits.cpu == nil)
        #expect(limits.unified == ["memory.high": "1000"])
    }

    @Test(arguments: ["", "[]", "{", "{\"memory\":1}", "{\"pids\":{\"limit\":\"x\"}}", "{\"memory\":{\"limit\":1e99}}"])
    func badFiles(_ text: String) throws {
        let folder = try TemporaryFolder()
        try folder.write("limits", text)
        let error = #expect(throws: ZoneError.self) { _ = try limits(["--resources", "\(folder.path)/limits"]) }
        #expect(error?.detail.hasPrefix("--resources") == true)
        #expect(throws: ZoneError.self) { _ = try limits(["--resources", "\(folder.path)/none"]) }
    }
}
