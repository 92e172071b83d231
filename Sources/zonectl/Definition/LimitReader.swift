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

    func apply(to resources: inout Spec.Resources) throws(DefinitionFault) {
        for (name, place, text) in taken {
            let refusal = DefinitionFault(place, "\"\(text)\" is not understood", hint: LimitReader.example(name))
            let size = { () throws(DefinitionFault) -> Int64 in
                guard let size = ByteSize.parse(text), size > 0 else { throw refusal }
                return size
            }
            // As the options have them, but for 0: what a file does not limit it does not name.
            func limit<Value: BinaryInteger>(
                _ parse: (String) throws(ZoneError) -> Value
            ) throws(DefinitionFault) -> Value {
                guard let value = try? parse(text), value > 0 else { throw refusal }
                return value
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
                try set(&resources.cpu, Spec.CPU(), \.quota, try limit(ResourceOptions.quota), place)
                resources.cpu?.period = LimitChange.period
            case "burst":
                guard let time = try? ResourceOptions.time(text) else { throw refusal }
                try set(&resources.cpu, Spec.CPU(), \.burst, time, place)
            case "cpuShares":
                try set(&resources.cpu, Spec.CPU(), \.shares, try limit(ResourceOptions.shares), place)
            case "cpusetCpus": try set(&resources.cpu, Spec.CPU(), \.cpus, try list(text, refusal), place)
            case "cpusetMems": try set(&resources.cpu, Spec.CPU(), \.mems, try list(text, refusal), place)
            case "blkioWeight":
                try set(&resources.blockIO, Spec.BlockIO(), \.weight, try limit(ResourceOptions.blockIOWeight), place)
            default:
                guard let limit = Int64(text), limit == -1 || (1...4_194_304).contains(limit) else { throw refusal }
                if resources.pids != nil { throw LimitReader.contradiction(place, "pids") }
                resources.pids = Spec.Pids(limit: limit)
            }
        }
    }

    private func list(_ text: String, _ refusal: DefinitionFault) throws(DefinitionFault) -> String {
        guard let list = try? ResourceOptions.list(text, "", of: ""), !list.isEmpty else { throw refusal }
        return list
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
