// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// The options that limit a zone, of `run` and `set` alike: docker's names and meanings. 0 takes a limit away.
enum ResourceOptions {
    static let memory = Option.value("memory", "m", "SIZE", "Memory limit, such as 512M (0: none)")
    static let reservation = Option.value(
        "memory-reservation", nil, "SIZE", "Memory that the zone is pushed back to when the host is short of it")
    static let swap = Option.value(
        "memory-swap", nil, "SIZE", "Limit of memory and swap together (default: twice --memory; -1: none)")
    static let oomKillDisable = Option.flag(
        "oom-kill-disable", nil, "Let processes wait at the memory limit instead of killing one (cgroup version 1)")
    static let cpus = Option.value("cpus", nil, "NUMBER", "CPU time limit, such as 1.5 (0: none)")
    static let burst = Option.value(
        "burst", nil, "TIME", "How far --cpus may be exceeded for an instant, such as 50ms; at most --cpus × 100ms")
    static let cpuShares = Option.value("cpu-shares", nil, "NUMBER", "Relative weight among busy zones (2 to 262144)")
    static let cpuSet = Option.value("cpuset-cpus", nil, "LIST", "CPUs that may be used, such as 0-3,7 (all: any)")
    static let memorySet = Option.value("cpuset-mems", nil, "LIST", "Memory nodes that may be used (all: any)")
    static let pidsLimit = Option.value("pids-limit", nil, "NUMBER", "Limit of processes and threads (-1: none)")
    static let weight = Option.value("blkio-weight", nil, "NUMBER", "Relative weight of disk accesses (10 to 1000)")
    static let readBytes = Option.list(
        "device-read-bps", nil, "PATH:RATE", "Bytes a second read from a disk: /dev/sda:10M")
    static let writeBytes = Option.list("device-write-bps", nil, "PATH:RATE", "Bytes a second written to a disk")
    static let readOperations = Option.list("device-read-iops", nil, "PATH:NUMBER", "Reads a second from a disk")
    static let writeOperations = Option.list("device-write-iops", nil, "PATH:NUMBER", "Writes a second to a disk")

    /// In the order of `LimitChange.Rate.Kind`.
    static let rates = [readBytes, writeBytes, readOperations, writeOperations]

    static let all =
        [
            memory, reservation, swap, oomKillDisable, cpus, burst, cpuShares, cpuSet, memorySet, pidsLimit, weight,
        ] + rates

    /// What the words ask for.
    static func change(_ arguments: Arguments) throws(ZoneError) -> LimitChange {
        var change = LimitChange()
        change.memory = try arguments.parsed(memory) { (text) throws(ZoneError) in try size(text, "--memory") }
        change.reservation = try arguments.parsed(reservation) { (text) throws(ZoneError) in
            try size(text, "--memory-reservation")
        }
        change.swap = try arguments.parsed(swap) { (text) throws(ZoneError) in
            text == "-1" ? -1 : try size(text, "--memory-swap")
        }
        if arguments.value(oomKillDisable) != nil { change.disablesOOMKiller = arguments.flag(oomKillDisable) }
        change.quota = try arguments.parsed(cpus, quota)
        change.burst = try arguments.parsed(burst, time)
        change.shares = try arguments.parsed(cpuShares, shares)
        change.cpus = try arguments.parsed(cpuSet) { (text) throws(ZoneError) in
            try list(text, "--cpuset-cpus", of: "CPUs")
        }
        change.memoryNodes = try arguments.parsed(memorySet) { (text) throws(ZoneError) in
            try list(text, "--cpuset-mems", of: "memory nodes")
        }
        change.pids = try arguments.parsed(pidsLimit, pids)
        change.blockIOWeight = try arguments.parsed(weight, blockIOWeight)
        for text in arguments.list(readBytes) { change.rates.append(try rate(text, .readBytes)) }
        for text in arguments.list(writeBytes) { change.rates.append(try rate(text, .writeBytes)) }
        for text in arguments.list(readOperations) { change.rates.append(try rate(text, .readOperations)) }
        for text in arguments.list(writeOperations) { change.rates.append(try rate(text, .writeOperations)) }
        return change
    }

    // MARK: Values

    static func size(_ text: String, _ option: String) throws(ZoneError) -> Int64 {
        if text == "-1" { return 0 }
        guard let bytes = ByteSize.parse(text) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a size",
                hint: "give a number with k, M, G or T, such as 512M, or 0 for no limit")
        }
        return bytes
    }

    /// Microseconds in each period; the kernel's own minimum is 1 ms.
    static func quota(_ text: String) throws(ZoneError) -> Int64 {
        if text == "-1" { return 0 }
        guard let number = Double(text), number.isFinite, number == 0 || number >= 0.01, number <= 8192 else {
            throw ZoneError(
                .invalid, "--cpus \"\(text)\" is not a number of CPUs from 0.01 to 8192, or 0 for no limit",
                hint: "1.5 means one and a half CPUs' time")
        }
        return Int64((number * Double(LimitChange.period)).rounded())
    }

    static func time(_ text: String) throws(ZoneError) -> UInt64 {
        if text == "0" { return 0 }
        guard let time = Duration.microseconds(text) else {
            throw ZoneError(
                .invalid, "--burst \"\(text)\" is not a time",
                hint: "give a number with us, ms or s, such as 50ms, or 0 for no burst")
        }
        return UInt64(time)
    }

    static func shares(_ text: String) throws(ZoneError) -> UInt64 {
        guard let number = UInt64(text), number == 0 || (2...262_144).contains(number) else {
            throw ZoneError(
                .invalid, "--cpu-shares \"\(text)\" is not a number from 2 to 262144, or 0 for the default of 1024")
        }
        return number
    }

    /// Empty for `all`. An empty text is refused: it is a variable that was not set.
    static func list(_ text: String, _ option: String, of what: String) throws(ZoneError) -> String {
        if text == "all" { return "" }
        guard !text.isEmpty, text.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2C || $0 == 0x2D }) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a list of \(what)", hint: "such as 0-3,7; or all for any")
        }
        return text
    }

    static func pids(_ text: String) throws(ZoneError) -> Int64 {
        guard let number = Int64(text), number >= -1, number <= 4_194_304 else {
            throw ZoneError(.invalid, "--pids-limit \"\(text)\" is not a number from 1 to 4194304, or -1 for no limit")
        }
        return max(number, 0)
    }

    static func blockIOWeight(_ text: String) throws(ZoneError) -> UInt16 {
        guard let number = UInt16(text), number == 0 || (10...1000).contains(number) else {
            throw ZoneError(
                .invalid, "--blkio-weight \"\(text)\" is not a number from 10 to 1000, or 0 for the default")
        }
        return number
    }

    /// `PATH:RATE`; a path may hold colons, as those below /dev/disk/by-path do.
    static func rate(_ text: String, _ kind: LimitChange.Rate.Kind) throws(ZoneError) -> LimitChange.Rate {
        let option = "--\(kind.rawValue)"
        let isOperations = kind == .readOperations || kind == .writeOperations
        guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")), let path = String(text.utf8[..<colon]),
            let value = String(text.utf8[text.utf8.index(after: colon)...]), path.isAbsolutePath,
            let rate = isOperations ? UInt64(value) : ByteSize.parse(value).map({ UInt64($0) })
        else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a disk and its rate",
                hint: isOperations ? "such as /dev/sda:100" : "such as /dev/sda:10M")
        }
        return try LimitChange.Rate(kind, disk: path, rate: rate)
    }
}

extension Arguments {
    /// The last value given, parsed.
    fileprivate func parsed<Value>(
        _ option: Option, _ parse: (String) throws(ZoneError) -> Value
    ) throws(ZoneError) -> Value? {
        guard let text = value(option) else { return nil }
        return try parse(text)
    }
}
