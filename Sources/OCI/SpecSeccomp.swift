// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// System call filter, config-linux.md "Seccomp". Actions and operators are libseccomp's names.
    public struct Seccomp: JSONRecord, Sendable, Equatable {
        public var defaultAction = ""
        public var defaultErrnoRet: UInt32?
        public var architectures: [String] = []
        public var flags: [String] = []
        /// A unix socket that gets the descriptor of `SCMP_ACT_NOTIFY`, and what is to be told to its reader.
        public var listenerPath: String?
        public var listenerMetadata: String?
        public var syscalls: [Rule] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("defaultAction", &defaultAction)
            try visitor.field("defaultErrnoRet", &defaultErrnoRet)
            try visitor.field("architectures", &architectures)
            try visitor.field("flags", &flags)
            try visitor.field("listenerPath", &listenerPath)
            try visitor.field("listenerMetadata", &listenerMetadata)
            try visitor.field("syscalls", &syscalls)
        }

        /// What happens to some system calls, when all conditions on their arguments hold.
        public struct Rule: JSONRecord, Sendable, Equatable {
            public var names: [String] = []
            public var action = ""
            public var errnoRet: UInt32?
            public var args: [Argument] = []

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("names", &names)
                try visitor.required("action", &action)
                try visitor.field("errnoRet", &errnoRet)
                try visitor.field("args", &args)
            }
        }

        /// A condition on one argument.
        public struct Argument: JSONRecord, Sendable, Equatable {
            public var index: UInt32 = 0
            public var value: UInt64 = 0
            public var valueTwo: UInt64 = 0
            public var op = ""

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("index", &index)
                try visitor.required("value", &value)
                try visitor.field("valueTwo", &valueTwo)
                try visitor.required("op", &op)
            }
        }
    }
}
