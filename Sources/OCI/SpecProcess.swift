// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// The zone's first process, or one that `exec` adds; config.md "Process".
    public struct Process: JSONRecord, Sendable, Equatable {
        public var terminal = false
        public var consoleSize: ConsoleSize?
        public var user = User()
        public var args: [String] = []
        public var env: [String] = []
        public var cwd = "/"
        public var capabilities: Capabilities?
        public var rlimits: [ResourceLimit] = []
        public var noNewPrivileges = false
        /// -1000 to 1000, see proc_pid_oom_score_adj(5).
        public var oomScoreAdj: Int?
        public var apparmorProfile: String?
        public var selinuxLabel: String?
        public var scheduler: Scheduler?
        public var ioPriority: IOPriority?
        public var execCPUAffinity: CPUAffinity?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("terminal", &terminal)
            try visitor.field("consoleSize", &consoleSize)
            try visitor.field("user", &user)
            try visitor.field("args", &args)
            try visitor.field("env", &env)
            try visitor.required("cwd", &cwd)
            try visitor.field("capabilities", &capabilities)
            try visitor.field("rlimits", &rlimits)
            try visitor.field("noNewPrivileges", &noNewPrivileges)
            try visitor.field("oomScoreAdj", &oomScoreAdj)
            try visitor.field("apparmorProfile", &apparmorProfile)
            try visitor.field("selinuxLabel", &selinuxLabel)
            try visitor.field("scheduler", &scheduler)
            try visitor.field("ioPriority", &ioPriority)
            try visitor.field("execCPUAffinity", &execCPUAffinity)
        }
    }

    /// A terminal's size in characters.
    public struct ConsoleSize: JSONRecord, Sendable, Equatable {
        public var height: UInt16 = 0
        public var width: UInt16 = 0

        public init() {}

        public init(height: UInt16, width: UInt16) {
            self.height = height
            self.width = width
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("height", &height)
            try visitor.required("width", &width)
        }
    }

    /// Who a process runs as. Numbers are ids inside the zone.
    public struct User: JSONRecord, Sendable, Equatable {
        public var uid: UInt32 = 0
        public var gid: UInt32 = 0
        /// Octal bits such as 0o022.
        public var umask: UInt32?
        public var additionalGids: [UInt32] = []
        /// `user[:group]` by name or number, as OCI images give it: looked up in the zone's own /etc/passwd once its
        /// root is entered, and then in place of `uid` and `gid`.
        public var username: String?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("uid", &uid)
            try visitor.required("gid", &gid)
            try visitor.field("umask", &umask)
            try visitor.field("additionalGids", &additionalGids)
            try visitor.field("username", &username)
        }
    }

    /// The five capability sets of capabilities(7), by names such as `CAP_CHOWN`.
    public struct Capabilities: JSONRecord, Sendable, Equatable {
        public var bounding: [String] = []
        public var effective: [String] = []
        public var inheritable: [String] = []
        public var permitted: [String] = []
        public var ambient: [String] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("bounding", &bounding)
            try visitor.field("effective", &effective)
            try visitor.field("inheritable", &inheritable)
            try visitor.field("permitted", &permitted)
            try visitor.field("ambient", &ambient)
        }
    }

    /// A limit of setrlimit(2), by a name such as `RLIMIT_NOFILE`.
    public struct ResourceLimit: JSONRecord, Sendable, Equatable {
        public var type = ""
        public var soft: UInt64 = 0
        public var hard: UInt64 = 0

        public init() {}

        public init(type: String, soft: UInt64, hard: UInt64) {
            self.type = type
            self.soft = soft
            self.hard = hard
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("type", &type)
            try visitor.required("soft", &soft)
            try visitor.required("hard", &hard)
        }
    }

    /// How the kernel schedules the process, see sched_setattr(2).
    public struct Scheduler: JSONRecord, Sendable, Equatable {
        /// `SCHED_OTHER`, `SCHED_FIFO`, `SCHED_RR`, `SCHED_BATCH`, `SCHED_ISO`, `SCHED_IDLE` or `SCHED_DEADLINE`.
        public var policy = ""
        /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
        public var nice: Int32?
        /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
        public var priority: Int32?
        /// Names such as `SCHED_FLAG_RESET_ON_FORK`.
        public var flags: [String] = []
        /// Nanoseconds, for `SCHED_DEADLINE`.
        public var runtime: UInt64?
        public var deadline: UInt64?
        public var period: UInt64?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("policy", &policy)
            try visitor.field("nice", &nice)
            try visitor.field("priority", &priority)
            try visitor.field("flags", &flags)
            try visitor.field("runtime", &runtime)
            try visitor.field("deadline", &deadline)
            try visitor.field("period", &period)
        }
    }

    /// Priority of disk accesses, see ioprio_set(2).
    public struct IOPriority: JSONRecord, Sendable, Equatable {
        /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
        public var priorityClass = ""
        /// 0 (first) to 7.
        public var priority: Int32 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("class", &priorityClass)
            try visitor.field("priority", &priority)
        }
    }

    /// CPUs of a process that `exec` adds, as lists such as `0-3,7`.
    public struct CPUAffinity: JSONRecord, Sendable, Equatable {
        /// Before it moves to the zone's control groups.
        public var initial: String?
        /// Afterwards.
        public var final: String?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("initial", &initial)
            try visitor.field("final", &final)
        }
    }
}
