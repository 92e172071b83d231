// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// What a zone's groups have used. As JSON it is the `data` of runc's `events --stats`, which engines parse.
///
/// Bytes, and nanoseconds of CPU time. Without a limit, version 2 says `UInt64.max`, version 1 nearly `Int64.max`.
public struct CGroupStatistics: JSONRecord, Sendable, Equatable {
    public var cpu = CPU()
    public var cpuset: CPUSet?
    public var memory = Memory()
    public var pids = Pids()
    public var blkio = BlockIO()
    /// By page size, such as `2MB`.
    public var hugetlb: [String: Hugetlb] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("cpu", &cpu)
        try visitor.field("cpuset", &cpuset)
        try visitor.field("memory", &memory)
        try visitor.field("pids", &pids)
        try visitor.field("blkio", &blkio)
        // Readers expect these three whether or not they hold something.
        var sizes = HugetlbTable(sizes: hugetlb)
        try visitor.field("hugetlb", &sizes)
        hugetlb = sizes.sizes
        var rdt = JSON.object([])
        try visitor.field("intel_rdt", &rdt)
        var interfaces = JSON.null
        try visitor.field("network_interfaces", &interfaces)
    }

    public struct CPU: JSONRecord, Sendable, Equatable {
        public var usage = CPUUsage()
        public var throttling = Throttling()
        public var psi: Pressure?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("usage", &usage)
            try visitor.field("throttling", &throttling)
            try visitor.field("psi", &psi)
        }
    }

    public struct CPUUsage: JSONRecord, Sendable, Equatable {
        public var total: UInt64 = 0
        /// Version 1 only, as the next two.
        public var perCPU: [UInt64] = []
        public var perCPUKernel: [UInt64] = []
        public var perCPUUser: [UInt64] = []
        public var kernel: UInt64 = 0
        public var user: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("total", &total)
            try visitor.field("percpu", &perCPU)
            try visitor.field("percpu_kernel", &perCPUKernel)
            try visitor.field("percpu_user", &perCPUUser)
            try visitor.field("kernel", &kernel)
            try visitor.field("user", &user)
        }
    }

    public struct Throttling: JSONRecord, Sendable, Equatable {
        public var periods: UInt64 = 0
        public var throttledPeriods: UInt64 = 0
        public var throttledTime: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("periods", &periods)
            try visitor.field("throttledPeriods", &throttledPeriods)
            try visitor.field("throttledTime", &throttledTime)
        }
    }

    /// Placement, where there is a version 1 `cpuset` group or version 2 has the controller.
    public struct CPUSet: JSONRecord, Sendable, Equatable {
        public var cpus: [UInt16] = []
        public var mems: [UInt16] = []
        /// `cpu_exclusive` and its kin of version 1, by the names that runc gives them.
        public var flags: [String: Int64] = [:]

        static let flagNames = [
            "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
            "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
        ]

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("cpus", &cpus)
            try visitor.field("mems", &mems)
            for name in CPUSet.flagNames {
                var value = flags[name] ?? 0
                try visitor.field(name, &value)
                if value != 0 { flags[name] = value }
            }
        }
    }

    public struct Memory: JSONRecord, Sendable, Equatable {
        public var cache: UInt64 = 0
        public var usage = MemoryEntry()
        /// Memory and swap together, on version 2 as well.
        public var swap = MemoryEntry()
        public var kernel = MemoryEntry()
        public var kernelTCP = MemoryEntry()
        /// `memory.stat` as it is.
        public var raw: [String: UInt64] = [:]
        public var psi: Pressure?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("cache", &cache)
            try visitor.field("usage", &usage)
            try visitor.field("swap", &swap)
            try visitor.field("kernel", &kernel)
            try visitor.field("kernelTCP", &kernelTCP)
            try visitor.field("raw", &raw)
            try visitor.field("psi", &psi)
        }
    }

    public struct MemoryEntry: JSONRecord, Sendable, Equatable {
        public var limit: UInt64 = 0
        public var usage: UInt64 = 0
        public var max: UInt64 = 0
        public var failures: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("limit", &limit)
            try visitor.field("usage", &usage)
            try visitor.field("max", &max)
            try visitor.field("failcnt", &failures)
        }
    }

    public struct Pids: JSONRecord, Sendable, Equatable {
        public var current: UInt64 = 0
        /// 0 without a limit.
        public var limit: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("current", &current)
            try visitor.field("limit", &limit)
        }
    }

    public struct BlockIO: JSONRecord, Sendable, Equatable {
        public var serviceBytes: [BlockIOEntry] = []
        public var serviced: [BlockIOEntry] = []
        /// From here on only where an old scheduler counts it, version 1.
        public var queued: [BlockIOEntry] = []
        public var serviceTime: [BlockIOEntry] = []
        public var waitTime: [BlockIOEntry] = []
        public var merged: [BlockIOEntry] = []
        public var time: [BlockIOEntry] = []
        public var sectors: [BlockIOEntry] = []
        public var psi: Pressure?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("ioServiceBytesRecursive", &serviceBytes)
            try visitor.field("ioServicedRecursive", &serviced)
            try visitor.field("ioQueueRecursive", &queued)
            try visitor.field("ioServiceTimeRecursive", &serviceTime)
            try visitor.field("ioWaitTimeRecursive", &waitTime)
            try visitor.field("ioMergedRecursive", &merged)
            try visitor.field("ioTimeRecursive", &time)
            try visitor.field("sectorsRecursive", &sectors)
            try visitor.field("psi", &psi)
        }
    }

    public struct BlockIOEntry: JSONRecord, Sendable, Equatable {
        public var major: UInt64 = 0
        public var minor: UInt64 = 0
        /// `Read`, `Write`, `Discard`, on version 1 `Sync`, `Async`, `Total` as well.
        public var operation = ""
        public var value: UInt64 = 0

        public init() {}

        init(_ major: UInt64, _ minor: UInt64, _ operation: String, _ value: UInt64) {
            self.major = major
            self.minor = minor
            self.operation = operation
            self.value = value
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("major", &major)
            try visitor.field("minor", &minor)
            try visitor.field("op", &operation)
            try visitor.field("value", &value)
        }
    }

    public struct Hugetlb: JSONRecord, Sendable, Equatable {
        public var usage: UInt64 = 0
        public var max: UInt64 = 0
        public var failures: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("usage", &usage)
            try visitor.field("max", &max)
            try visitor.field("failcnt", &failures)
        }
    }

    /// How much time was lost by waiting for a resource, see the kernel's Documentation/accounting/psi.rst.
    public struct Pressure: JSONRecord, Sendable, Equatable {
        /// At least one task waited.
        public var some = PressureLine()
        /// All of them did.
        public var full = PressureLine()

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("some", &some)
            try visitor.field("full", &full)
        }
    }

    public struct PressureLine: JSONRecord, Sendable, Equatable {
        /// Percent of the last 10, 60 and 300 seconds, in the kernel's digits.
        public var average10 = "0"
        public var average60 = "0"
        public var average300 = "0"
        /// Microseconds.
        public var total: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try PressureLine.visit("avg10", &average10, &visitor)
            try PressureLine.visit("avg60", &average60, &visitor)
            try PressureLine.visit("avg300", &average300, &visitor)
            try visitor.field("total", &total)
        }

        private static func visit(
            _ name: String, _ text: inout String, _ visitor: inout some FieldVisitor
        ) throws(JSONError) {
            var number = JSON.number(text)
            try visitor.field(name, &number)
            if case .number(let digits) = number { text = digits }
        }
    }
}

/// A dictionary that is written even when it is empty.
private struct HugetlbTable: JSONCodable {
    var sizes: [String: CGroupStatistics.Hugetlb]

    init(sizes: [String: CGroupStatistics.Hugetlb]) {
        self.sizes = sizes
    }

    init(json: JSON) throws(JSONError) {
        sizes = try [String: CGroupStatistics.Hugetlb](json: json)
    }

    func write(to writer: inout JSONWriter) {
        sizes.write(to: &writer)
    }
}
