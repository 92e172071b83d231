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
}
