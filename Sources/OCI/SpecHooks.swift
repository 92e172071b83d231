// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// Programs that are called at points of a zone's life, config.md "POSIX-platform Hooks".
    public struct Hooks: JSONRecord, Sendable, Equatable {
        /// Deprecated in favour of `createRuntime`, `createContainer` and `startContainer`, and still used.
        public var prestart: [Hook] = []
        public var createRuntime: [Hook] = []
        public var createContainer: [Hook] = []
        public var startContainer: [Hook] = []
        public var poststart: [Hook] = []
        public var poststop: [Hook] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("prestart", &prestart)
            try visitor.field("createRuntime", &createRuntime)
            try visitor.field("createContainer", &createContainer)
            try visitor.field("startContainer", &startContainer)
            try visitor.field("poststart", &poststart)
            try visitor.field("poststop", &poststop)
        }
    }

    /// One program.
    public struct Hook: JSONRecord, Sendable, Equatable {
        /// Absolute.
        public var path = ""
        /// With the program's own name first, as for execve(2).
        public var args: [String] = []
        public var env: [String] = []
        /// Seconds, above 0.
        public var timeout: Int64?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("path", &path)
            try visitor.field("args", &args)
            try visitor.field("env", &env)
            try visitor.field("timeout", &timeout)
        }
    }
}
