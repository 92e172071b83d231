// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// An image's configuration, OCI image specification "config.md".
public struct ImageConfiguration: JSONRecord, Sendable, Equatable {
    public var created: String?
    public var architecture = ""
    public var os = ""
    public var variant: String?
    public var config: Execution?
    public var rootfs = RootFS()

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("created", &created)
        try visitor.required("architecture", &architecture)
        try visitor.required("os", &os)
        try visitor.field("variant", &variant)
        try visitor.field("config", &config)
        try visitor.required("rootfs", &rootfs)
    }

    /// What a zone made from the image runs unless told otherwise. Go's field names, as the specification has them.
    public struct Execution: JSONRecord, Sendable, Equatable {
        /// `user`, `uid`, `user:group`, `uid:gid`…
        public var user: String?
        public var env: [String] = []
        public var entrypoint: [String]?
        public var cmd: [String]?
        public var workingDir: String?
        public var labels: [String: String] = [:]
        /// Directories whose content is data and not program, by path.
        public var volumes: [String: Volume] = [:]
        public var stopSignal: String?
        /// docker's extension.
        public var healthcheck: HealthCheck?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("User", &user)
            try visitor.field("Env", &env)
            try visitor.field("Entrypoint", &entrypoint)
            try visitor.field("Cmd", &cmd)
            try visitor.field("WorkingDir", &workingDir)
            try visitor.field("Labels", &labels)
            try visitor.field("Volumes", &volumes)
            try visitor.field("StopSignal", &stopSignal)
            try visitor.field("Healthcheck", &healthcheck)
        }
    }

    /// An empty object, as the specification has it.
    public struct Volume: JSONRecord, Sendable, Equatable {
        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {}
    }

    /// How to find out whether a zone made from the image works, docker's image specification 1.2.
    public struct HealthCheck: JSONRecord, Sendable, Equatable {
        /// `NONE`, or `CMD` and words, or `CMD-SHELL` and a line for a shell.
        public var test: [String] = []
        /// Nanoseconds; 0: the default.
        public var interval: Int64 = 0
        public var timeout: Int64 = 0
        public var startPeriod: Int64 = 0
        public var retries: Int64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("Test", &test)
            try visitor.field("Interval", &interval)
            try visitor.field("Timeout", &timeout)
            try visitor.field("StartPeriod", &startPeriod)
            try visitor.field("Retries", &retries)
        }
    }

    /// The digests of the uncompressed layers, base first.
    public struct RootFS: JSONRecord, Sendable, Equatable {
        public var type = "layers"
        public var diffIDs: [Digest] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("type", &type)
            try visitor.required("diff_ids", &diffIDs)
        }
    }
}
