// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// `update`: changes limits of a living container.
enum EngineUpdate {
    private static let resources = Option.value("resources", "r", "FILE", "Read limits as JSON; - for stdin")
    private static let blkioWeight = Option.value("blkio-weight", nil, "NUMBER", "Weight of disk accesses, 10 to 1000")
    private static let cpuPeriod = Option.value("cpu-period", nil, "US", "Period of the CPU quota")
    private static let cpuQuota = Option.value("cpu-quota", nil, "US", "CPU time in each period; -1: no limit")
    private static let cpuBurst = Option.value("cpu-burst", nil, "US", "CPU time that may be saved up")
    private static let cpuShare = Option.value("cpu-share", nil, "NUMBER", "Relative weight, 2 to 262144")
    private static let cpuRealtimePeriod = Option.value("cpu-rt-period", nil, "US", "Period of real-time scheduling")
    private static let cpuRealtimeRuntime = Option.value(
        "cpu-rt-runtime", nil, "US", "Real-time scheduling in each period")
    private static let cpus = Option.value("cpuset-cpus", nil, "LIST", "CPUs that may be used")
    private static let mems = Option.value("cpuset-mems", nil, "LIST", "Memory nodes that may be used")
    private static let memory = Option.value("memory", nil, "SIZE", "Memory limit; -1: none")
    private static let reservation = Option.value("memory-reservation", nil, "SIZE", "Soft memory limit")
    private static let swap = Option.value("memory-swap", nil, "SIZE", "Memory and swap together; -1: no limit")
    private static let pids = Option.value("pids-limit", nil, "NUMBER", "Limit of processes; -1: none")
    private static let idle = Option.value("cpu-idle", nil, "0|1", "1: runs only when nothing else wants the CPU")
    private static let kernel = Option.value(
        "kernel-memory", nil, "SIZE", "Accepted; kernels have no such limit any more")

    static let verb = EngineVerb(
        name: "update", operands: "ID", summary: "Change limits of a container",
        options: [
            resources, blkioWeight, cpuPeriod, cpuQuota, cpuBurst, cpuShare, cpuRealtimePeriod, cpuRealtimeRuntime,
            cpus, mems, memory, reservation, swap, pids, idle, kernel,
        ]
    ) { (arguments, context) throws(ZoneError) in
        let id = try context.id(arguments, "update")
        try context.runtime.update(id, try limits(arguments))
        return 0
    }

    /// The limits that the words ask for; a file is the whole of it, as for runc.
    static func limits(_ arguments: Arguments) throws(ZoneError) -> Spec.Resources {
        if let path = arguments.value(resources) { return try read(path) }
        var result = Spec.Resources()
        var cpu = Spec.CPU()
        cpu.period = try number(arguments, cpuPeriod)
        cpu.quota = try number(arguments, cpuQuota)
        cpu.burst = try number(arguments, cpuBurst)
        cpu.shares = try number(arguments, cpuShare)
        cpu.realtimePeriod = try number(arguments, cpuRealtimePeriod)
        cpu.realtimeRuntime = try number(arguments, cpuRealtimeRuntime)
        cpu.idle = try number(arguments, idle)
        cpu.cpus = arguments.value(cpus)
        cpu.mems = arguments.value(mems)
        if cpu != Spec.CPU() { result.cpu = cpu }
        var limit = Spec.Memory()
        limit.limit = try size(arguments, memory)
        limit.reservation = try size(arguments, reservation)
        limit.swap = try size(arguments, swap)
        if limit != Spec.Memory() { result.memory = limit }
        if let text: Int64 = try number(arguments, pids) { result.pids = Spec.Pids(limit: text) }
        if let weight: UInt16 = try number(arguments, blkioWeight) {
            var block = Spec.BlockIO()
            block.weight = weight
            result.blockIO = block
        }
        return result
    }

    private static func read(_ path: String) throws(ZoneError) -> Spec.Resources {
        let name = path == "-" ? "/dev/stdin" : path
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try readHostFile(name, limit: 4 << 20) } catch {
            throw ZoneError("--resources", error)
        }
        do throws(JSONError) { return try Spec.Resources(parsing: bytes) } catch {
            throw ZoneError(.invalid, "--resources \(path): \(error)")
        }
    }

    private static func number<Number: FixedWidthInteger>(
        _ arguments: Arguments, _ option: Option
    ) throws(ZoneError) -> Number? {
        guard let text = arguments.value(option) else { return nil }
        guard let number = Number(text) else {
            throw ZoneError(
                .invalid, "--\(option.name) \"\(text)\" is not a number from \(Number.min) to \(Number.max)")
        }
        return number
    }

    private static func size(_ arguments: Arguments, _ option: Option) throws(ZoneError) -> Int64? {
        guard let text = arguments.value(option) else { return nil }
        if text == "-1" { return -1 }
        guard let bytes = ByteSize.parse(text) else {
            throw ZoneError(
                .invalid, "--\(option.name) \"\(text)\" is not a size",
                hint: "give a number with k, M, G or T, such as 512M, or -1 for no limit")
        }
        return bytes
    }
}
