// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A container as the OCI runtime specification 1.2 describes it in `config.json` (config.md, config-linux.md).
public struct Spec: JSONRecord, Sendable, Equatable {
    public var ociVersion = Spec.version
    public var process: Process?
    public var root: Root?
    public var hostname: String?
    public var domainname: String?
    public var mounts: [Mount] = []
    public var hooks: Hooks?
    public var annotations: [String: String] = [:]
    public var linux: Linux?

    /// The version of the runtime specification that this project implements.
    public static let version = "1.2.0"

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("ociVersion", &ociVersion)
        try visitor.field("process", &process)
        try visitor.field("root", &root)
        try visitor.field("hostname", &hostname)
        try visitor.field("domainname", &domainname)
        try visitor.field("mounts", &mounts)
        try visitor.field("hooks", &hooks)
        try visitor.field("annotations", &annotations)
        try visitor.field("linux", &linux)
    }

    /// The root file system, config.md "Root".
    public struct Root: JSONRecord, Sendable, Equatable {
        public var path = "rootfs"
        public var readonly = false

        public init() {}

        public init(path: String, readonly: Bool) {
            self.path = path
            self.readonly = readonly
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("path", &path)
            try visitor.field("readonly", &readonly)
        }
    }

    /// A mount beside the root, config.md "Mounts". Options are as in mount(8).
    public struct Mount: JSONRecord, Sendable, Equatable {
        public var destination = ""
        public var type: String?
        public var source: String?
        public var options: [String] = []
        /// For id-mapped mounts; empty where the mount shows ids as they are, or as the zone's user namespace maps them.
        public var uidMappings: [IDMapping] = []
        public var gidMappings: [IDMapping] = []

        public init() {}

        public init(destination: String, type: String?, source: String?, options: [String]) {
            self.destination = destination
            self.type = type
            self.source = source
            self.options = options
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("destination", &destination)
            try visitor.field("type", &type)
            try visitor.field("source", &source)
            try visitor.field("options", &options)
            try visitor.field("uidMappings", &uidMappings)
            try visitor.field("gidMappings", &gidMappings)
        }
    }
}
