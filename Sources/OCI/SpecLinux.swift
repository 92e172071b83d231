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
        /// Ids of the zone's user namespace and the ids outside that they stand for.
        public var uidMappings: [IDMapping] = []
        public var gidMappings: [IDMapping] = []
        /// Offsets of the clocks `monotonic` and `boottime` in a new time namespace, time_namespaces(7).
        public var timeOffsets: [String: TimeOffset] = [:]
        /// SELinux label of the zone's mounts.
        public var mountLabel: String?
        public var personality: Personality?
        /// Cache and memory bandwidth allocation. Kept as it is: nothing here can apply it.
        public var intelRdt: JSON?

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
            try visitor.field("uidMappings", &uidMappings)
            try visitor.field("gidMappings", &gidMappings)
            try visitor.field("timeOffsets", &timeOffsets)
            try visitor.field("mountLabel", &mountLabel)
            try visitor.field("personality", &personality)
            try visitor.field("intelRdt", &intelRdt)
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
            // A fifo has none.
            if type == "p" {
                try visitor.field("major", &major)
                try visitor.field("minor", &minor)
            } else {
                try visitor.required("major", &major)
                try visitor.required("minor", &minor)
            }
            try visitor.field("fileMode", &fileMode)
            try visitor.field("uid", &uid)
            try visitor.field("gid", &gid)
        }
    }

    /// A range of ids inside a user namespace and the ids outside that it stands for, user_namespaces(7).
    public struct IDMapping: JSONRecord, Sendable, Equatable {
        public var containerID: UInt32 = 0
        public var hostID: UInt32 = 0
        public var size: UInt32 = 0

        public init() {}

        public init(containerID: UInt32, hostID: UInt32, size: UInt32) {
            self.containerID = containerID
            self.hostID = hostID
            self.size = size
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("containerID", &containerID)
            try visitor.required("hostID", &hostID)
            try visitor.required("size", &size)
        }
    }

    /// An offset of a clock in a time namespace.
    public struct TimeOffset: JSONRecord, Sendable, Equatable {
        public var secs: Int64 = 0
        public var nanosecs: UInt32 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("secs", &secs)
            try visitor.field("nanosecs", &nanosecs)
        }
    }

    /// The execution domain, personality(2).
    public struct Personality: JSONRecord, Sendable, Equatable {
        /// `LINUX` or `LINUX32`.
        public var domain = ""
        public var flags: [String] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("domain", &domain)
            try visitor.field("flags", &flags)
        }
    }
}
