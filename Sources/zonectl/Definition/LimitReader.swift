// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Limits in a definition as `run` takes them: `"memory": "512M"`, `"cpus": 1.5`. They may stand beside the other keys or
/// in `resources`, where the form of the OCI configuration is understood as well.
struct LimitReader {
    static let members = [
        "memory", "memoryReservation", "memorySwap", "cpus", "burst", "cpuShares", "cpusetCpus", "cpusetMems",
        "pidsLimit", "blkioWeight",
    ]

    private var taken: [(name: String, place: [JSONStep], text: String)] = []

    mutating func take(_ name: String, _ value: JSON, at place: [JSONStep]) throws(DefinitionFault) {
        if let other = taken.first(where: { $0.name == name }) {
            throw DefinitionFault(place, "is given twice, in \"resources\" and beside it: \"\(other.text)\" before")
        }
        switch value {
        case .string(let text), .number(let text): taken.append((name, place, text))
        default:
            throw DefinitionFault(place, "expected a number or a text", hint: LimitReader.example(name))
        }
    }

    private static func example(_ name: String) -> String {
        switch name {
        case "memory", "memoryReservation", "memorySwap": "such as \"512M\""
        case "cpus": "such as 1.5"
        case "burst": "such as \"50ms\""
        case "cpusetCpus", "cpusetMems": "such as \"0-3,7\""
        case "cpuShares": "a number from 2 to 262144"
        case "blkioWeight": "a number from 10 to 1000"
        default: "a number from 1 to 4194304, or -1 for no limit"
        }
    }

    /// Microseconds of the kernel's usual period.
    private static let period: UInt64 = 100_000

    func apply(to resources: inout Spec.Resources) throws(DefinitionFault) {
        for (name, place, text) in taken {
            let refusal = DefinitionFault(place, "\"\(text)\" is not understood", hint: LimitReader.example(name))
            let size = { () throws(DefinitionFault) -> Int64 in
                guard let size = ByteSize.parse(text), size > 0 else { throw refusal }
                return size
            }
            switch name {
            case "memory":
                try set(&resources.memory, Spec.Memory(), \.limit, try size(), place)
                // As docker: as much swap again as memory.
                if let memory = resources.memory, memory.swap == nil, let limit = memory.limit,
                    !taken.contains(where: { $0.name == "memorySwap" })
                {
                    let (both, overflow) = limit.multipliedReportingOverflow(by: 2)
                    resources.memory?.swap = overflow ? -1 : both
                }
            case "memoryReservation": try set(&resources.memory, Spec.Memory(), \.reservation, try size(), place)
            case "memorySwap": try set(&resources.memory, Spec.Memory(), \.swap, text == "-1" ? -1 : try size(), place)
            case "cpus":
                // 0.01 is the kernel's own minimum of 1 ms in a period of 100.
                guard let number = Double(text), number.isFinite, (0.01...8192).contains(number) else { throw refusal }
                try set(
                    &resources.cpu, Spec.CPU(), \.quota, Int64((number * Double(LimitReader.period)).rounded()), place)
                resources.cpu?.period = LimitReader.period
            case "burst":
                guard let time = Duration.microseconds(text), time >= 0 else { throw refusal }
                try set(&resources.cpu, Spec.CPU(), \.burst, UInt64(time), place)
            case "cpuShares":
                guard let shares = UInt64(text), (2...262_144).contains(shares) else { throw refusal }
                try set(&resources.cpu, Spec.CPU(), \.shares, shares, place)
            case "cpusetCpus": try set(&resources.cpu, Spec.CPU(), \.cpus, try list(text, refusal), place)
            case "cpusetMems": try set(&resources.cpu, Spec.CPU(), \.mems, try list(text, refusal), place)
            case "blkioWeight":
                guard let weight = UInt16(text), (10...1000).contains(weight) else { throw refusal }
                try set(&resources.blockIO, Spec.BlockIO(), \.weight, weight, place)
            default:
                guard let limit = Int64(text), limit == -1 || (1...4_194_304).contains(limit) else { throw refusal }
                if resources.pids != nil { throw LimitReader.contradiction(place, "pids") }
                resources.pids = Spec.Pids(limit: limit)
            }
        }
    }

    private func list(_ text: String, _ refusal: DefinitionFault) throws(DefinitionFault) -> String {
        guard !text.isEmpty, text.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2C || $0 == 0x2D }) else {
            throw refusal
        }
        return text
    }

    /// Sets a value that the other form has not set.
    private func set<Record, Value>(
        _ record: inout Record?, _ empty: Record, _ field: WritableKeyPath<Record, Value?>, _ value: Value,
        _ place: [JSONStep]
    ) throws(DefinitionFault) {
        var changed = record ?? empty
        if changed[keyPath: field] != nil { throw LimitReader.contradiction(place, "resources") }
        changed[keyPath: field] = value
        record = changed
    }

    private static func contradiction(_ place: [JSONStep], _ other: String) -> DefinitionFault {
        DefinitionFault(place, "contradicts \"\(other)\", which sets the same limit", hint: "give one of the two")
    }

    /// A fault of the whole definition, at the place where the limit was written.
    func located(_ fault: DefinitionFault) -> DefinitionFault {
        let names: [(String, String, String)] = [
            ("cpu", "burst", "burst"), ("memory", "reservation", "memoryReservation"), ("memory", "swap", "memorySwap"),
        ]
        for (record, field, name) in names where fault.path == [.name("resources"), .name(record), .name(field)] {
            guard let place = taken.first(where: { $0.name == name })?.place else { continue }
            return DefinitionFault(place, fault.detail, hint: fault.hint)
        }
        return fault
    }
}
