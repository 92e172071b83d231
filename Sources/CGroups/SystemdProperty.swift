// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// One property of a unit, as busctl(1) takes it: name, signature of the value, the value's parts.
struct SystemdProperty: Equatable {
    let name: String
    let signature: String
    let values: [String]

    static func bool(_ name: String, _ value: Bool) -> SystemdProperty {
        SystemdProperty(name: name, signature: "b", values: [value ? "true" : "false"])
    }

    static func text(_ name: String, _ value: String) -> SystemdProperty {
        SystemdProperty(name: name, signature: "s", values: [value])
    }

    /// The highest number means "no limit".
    static func number(_ name: String, _ value: UInt64) -> SystemdProperty {
        SystemdProperty(name: name, signature: "t", values: [String(value)])
    }

    /// A list of properties, `a(sv)`.
    static func list(_ properties: [SystemdProperty]) -> [String] {
        [String(properties.count)] + properties.flatMap { [$0.name, $0.signature] + $0.values }
    }
}

extension SystemdProperty {
    /// What systemd must know of the limits, lest it writes its own values over ours when it is reloaded. What it has no
    /// property for is written into the group only.
    static func limits(_ resources: Spec.Resources) throws(SystemError) -> [SystemdProperty] {
        var result: [SystemdProperty] = []
        if let memory = resources.memory { result += try limits(memory) }
        if let cpu = resources.cpu { result += try limits(cpu) }
        if let limit = resources.pids?.limit {
            result.append(.number("TasksMax", limit > 0 ? UInt64(limit) : .max))
        }
        if let weight = said(resources.blockIO?.weight) {
            result.append(.number("IOWeight", UInt64(BlockIOController.ioWeight(weight))))
        }
        for (file, value) in resources.unified.sorted(by: { $0.key < $1.key }) {
            result += unified(file, value)
        }
        return result
    }

    private static func limits(_ memory: Spec.Memory) throws(SystemError) -> [SystemdProperty] {
        var result: [SystemdProperty] = []
        let number = { (value: Int64) -> UInt64 in value < 0 ? .max : UInt64(value) }
        if let limit = said(memory.limit) { result.append(.number("MemoryMax", number(limit))) }
        if let reservation = said(memory.reservation) { result.append(.number("MemoryLow", number(reservation))) }
        if let swap = said(memory.swap) {
            if swap < 0 {
                result.append(.number("MemorySwapMax", .max))
            } else if let limit = memory.limit, limit > 0, swap >= limit {
                // systemd counts swap alone, as version 2 does.
                result.append(.number("MemorySwapMax", UInt64(swap - limit)))
            }
        }
        return result
    }

    private static func limits(_ cpu: Spec.CPU) throws(SystemError) -> [SystemdProperty] {
        var result: [SystemdProperty] = []
        if let shares = said(cpu.shares), cpu.idle != 1 {
            result.append(.number("CPUWeight", CPUController.weight(shares: shares)))
        }
        result += quota(said(cpu.quota), said(cpu.period))
        if let cpus = cpu.cpus, !cpus.isEmpty { result.append(try mask("AllowedCPUs", cpus)) }
        if let mems = cpu.mems, !mems.isEmpty { result.append(try mask("AllowedMemoryNodes", mems)) }
        return result
    }

    private static func quota(_ quota: Int64?, _ period: UInt64?) -> [SystemdProperty] {
        var result: [SystemdProperty] = []
        if let quota {
            guard quota > 0 else { return [.number("CPUQuotaPerSecUSec", .max)] }
            // systemd keeps whole percents: rounded up, so that the group's own exact value fits below.
            let perSecond = UInt64(quota).multipliedFullWidth(by: 1_000_000)
            let period = max(period ?? 100_000, 1)
            if perSecond.high >= period { return [.number("CPUQuotaPerSecUSec", .max)] }
            let exact = period.dividingFullWidth(perSecond).quotient
            let percents = exact / 10_000 + (exact % 10_000 == 0 ? 0 : 1)
            result.append(.number("CPUQuotaPerSecUSec", percents > .max / 10_000 ? .max : percents * 10_000))
        }
        if let period { result.append(.number("CPUQuotaPeriodUSec", period)) }
        return result
    }

    /// A set of numbers as bytes, the lowest bit of the first for 0.
    private static func mask(_ name: String, _ list: String) throws(SystemError) -> SystemdProperty {
        let numbers = NumberList.parse(list)
        guard let highest = numbers.max() else {
            throw SystemError("limit", "\"\(list)\" is no list of CPUs or memory nodes", .invalid)
        }
        var bytes = [UInt8](repeating: 0, count: Int(highest) / 8 + 1)
        for number in numbers { bytes[Int(number) / 8] |= 1 << (number % 8) }
        return SystemdProperty(
            name: name, signature: "ay", values: [String(bytes.count)] + bytes.map { String($0) })
    }

    /// The files of version 2 that systemd knows by another name.
    private static func unified(_ file: String, _ value: String) -> [SystemdProperty] {
        let names = [
            "memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh",
            "memory.max": "MemoryMax", "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax",
            "cpu.weight": "CPUWeight",
        ]
        let words = value.split { $0 == " " || $0 == "\n" }
        if file == "cpu.max", let first = words.first {
            return quota(first == "max" ? -1 : Int64(first), words.count > 1 ? UInt64(words[1]) : nil)
        }
        guard let name = names[file], words.count == 1 else { return [] }
        return (words[0] == "max" ? UInt64.max : UInt64(words[0])).map { [.number(name, $0)] } ?? []
    }
}
