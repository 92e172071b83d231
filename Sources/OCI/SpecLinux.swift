// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// What is particular to Linux, config-linux.md.
    public struct Linux: JSONRecord, Sendable, Equatable {
        public var namespaces: [Namespace] = []
        public var devices: [Device] = []
        public var cgroupsPath: String?
        public var resources: Resources?
        public var seccomp: Seccomp?
        public var sysctl: [String: String] = [:]
        public var maskedPaths: [String] = []
        public var readonlyPaths: [String] = []
        public var rootfsPropagation: String?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("namespaces", &namespaces)
            try visitor.field("devices", &devices)
            try visitor.field("cgroupsPath", &cgroupsPath)
            try visitor.field("resources", &resources)
            try visitor.field("seccomp", &seccomp)
            try visitor.field("sysctl", &sysctl)
            try visitor.field("maskedPaths", &maskedPaths)
            try visitor.field("readonlyPaths", &readonlyPaths)
            try visitor.field("rootfsPropagation", &rootfsPropagation)
        }
    }

    /// A namespace to make, or to join when a path is given.
    public struct Namespace: JSONRecord, Sendable, Equatable {
        public enum Kind: String, JSONCodable, CaseIterable, Sendable {
            case pid, network, mount, ipc, uts, user, cgroup, time
        }

        public var type = Kind.mount
        public var path: String?

        public init() {}

        public init(_ type: Kind, path: String? = nil) {
            self.type = type
            self.path = path
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("type", &type)
            try visitor.field("path", &path)
        }
    }

    /// A device node to make in the zone, config-linux.md "Devices".
    public struct Device: JSONRecord, Sendable, Equatable {
        /// `c`, `u`, `b` or `p`, as for mknod(1).
        public var type = ""
        public var path = ""
        public var major: Int64 = 0
        public var minor: Int64 = 0
        public var fileMode: UInt32?
        public var uid: UInt32?
        public var gid: UInt32?

        public init() {}

        public init(type: String, path: String, major: Int64, minor: Int64, fileMode: UInt32) {
            self.type = type
            self.path = path
            self.major = major
            self.minor = minor
            self.fileMode = fileMode
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("type", &type)
            try visitor.required("path", &path)
            try visitor.field("major", &major)
            try visitor.field("minor", &minor)
            try visitor.field("fileMode", &fileMode)
            try visitor.field("uid", &uid)
            try visitor.field("gid", &gid)
        }
    }
}
