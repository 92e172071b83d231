// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// Limits that control groups hold, config-linux.md "Control groups".
    public struct Resources: JSONRecord, Sendable, Equatable {
        public var devices: [DeviceRule] = []
        public var memory: Memory?
        public var cpu: CPU?
        public var pids: Pids?
        public var blockIO: BlockIO?
        public var hugepageLimits: [HugepageLimit] = []
        public var network: NetworkPriority?
        /// By device, such as `mlx5_1`.
        public var rdma: [String: RDMA] = [:]
        /// Version 2: files of the group by name, and what is written to them.
        public var unified: [String: String] = [:]

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("devices", &devices)
            try visitor.field("memory", &memory)
            try visitor.field("cpu", &cpu)
            try visitor.field("pids", &pids)
            try visitor.field("blockIO", &blockIO)
            try visitor.field("hugepageLimits", &hugepageLimits)
            try visitor.field("network", &network)
            try visitor.field("rdma", &rdma)
            try visitor.field("unified", &unified)
        }
    }

    /// Allows or denies device nodes; later rules win.
    public struct DeviceRule: JSONRecord, Sendable, Equatable {
        public var allow = false
        /// `a` (all), `b` or `c`; none means all.
        public var type: String?
        /// None or -1: any.
        public var major: Int64?
        public var minor: Int64?
        /// Of `r`, `w`, `m` (mknod).
        public var access: String?

        public init() {}

        public init(allow: Bool, type: String? = nil, major: Int64? = nil, minor: Int64? = nil, access: String? = nil) {
            self.allow = allow
            self.type = type
            self.major = major
            self.minor = minor
            self.access = access
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("allow", &allow)
            try visitor.field("type", &type)
            try visitor.field("major", &major)
            try visitor.field("minor", &minor)
            try visitor.field("access", &access)
        }
    }

    /// Memory limits in bytes; -1 means unlimited.
    public struct Memory: JSONRecord, Sendable, Equatable {
        public var limit: Int64?
        /// Soft limit.
        public var reservation: Int64?
        /// Memory and swap together.
        public var swap: Int64?
        public var swappiness: UInt64?
        /// Limits of kernel memory and of its TCP buffers: gone from kernels since 5.11 and 6.x.
        public var kernel: Int64?
        public var kernelTCP: Int64?
        public var disableOOMKiller: Bool?
        public var useHierarchy: Bool?
        /// Refuses a new limit that is below what is used.
        public var checkBeforeUpdate: Bool?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("limit", &limit)
            try visitor.field("reservation", &reservation)
            try visitor.field("swap", &swap)
            try visitor.field("swappiness", &swappiness)
            try visitor.field("kernel", &kernel)
            try visitor.field("kernelTCP", &kernelTCP)
            try visitor.field("disableOOMKiller", &disableOOMKiller)
            try visitor.field("useHierarchy", &useHierarchy)
            try visitor.field("checkBeforeUpdate", &checkBeforeUpdate)
        }
    }

    /// CPU time and placement.
    public struct CPU: JSONRecord, Sendable, Equatable {
        /// Relative weight, 2 to 262144, 1024 where nothing is said.
        public var shares: UInt64?
        /// Microseconds that may be used in each period; -1 means unlimited.
        public var quota: Int64?
        /// Microseconds that a quota may be exceeded by once saved up.
        public var burst: UInt64?
        /// Microseconds, 1000 to 1000000.
        public var period: UInt64?
        /// Lists such as `0-3,7`.
        public var cpus: String?
        public var mems: String?
        /// 1: runs only when nothing else wants the CPU (SCHED_IDLE for the group).
        public var idle: Int64?
        /// Microseconds of real-time scheduling in each period, version 1.
        public var realtimeRuntime: Int64?
        public var realtimePeriod: UInt64?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("shares", &shares)
            try visitor.field("quota", &quota)
            try visitor.field("burst", &burst)
            try visitor.field("period", &period)
            try visitor.field("cpus", &cpus)
            try visitor.field("mems", &mems)
            try visitor.field("idle", &idle)
            try visitor.field("realtimeRuntime", &realtimeRuntime)
            try visitor.field("realtimePeriod", &realtimePeriod)
        }
    }

    /// The number of tasks; 0 or less means unlimited.
    public struct Pids: JSONRecord, Sendable, Equatable {
        public var limit: Int64 = 0

        public init() {}

        public init(limit: Int64) {
            self.limit = limit
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("limit", &limit)
        }
    }
}
