// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// How an engine wants all its zones to be made.
public struct RuntimeOptions: Sendable {
    public enum CGroupDriver: Sendable {
        /// Groups are made by us, in the hierarchies' files.
        case cgroupfs
        /// systemd makes a scope for each zone.
        case systemd
        /// Zones stay in the caller's groups, without limits.
        case disabled
    }

    public var cgroups = CGroupDriver.cgroupfs
    /// The program that saves and restores processes, a path or a name; nil: criu in the usual folders.
    public var criu: String?
    /// Bundles that do not say otherwise run in micro machines.
    public var makesMachines = false

    public init() {}
}

/// `create` and `run` of an OCI bundle, runtime.md "Create".
public struct CreateRequest: Sendable {
    public var id = ""
    /// The bundle's folder, absolute or relative to the working directory.
    public var bundle = ""
    /// Gets the first process's pid.
    public var pidFile: String?
    /// A unix socket that gets the master of the zone's terminal.
    public var consoleSocket: String?
    /// A unix socket that gets a pidfd of the first process.
    public var pidfdSocket: String?
    /// Descriptors from 3 on that the program inherits.
    public var preservedDescriptors = 0
    /// Off: chroot(2) instead of pivot_root(2).
    public var pivots = true
    public var makesKeyring = true
    /// `run` only: does not stay with the zone.
    public var isDetached = false
    /// `run` only: does not delete the zone when it has ended.
    public var keeps = false

    public init() {}
}

/// A process that an engine adds to a running zone.
public struct BundleExec: Sendable {
    public var id = ""
    /// A file that holds `process` of config.json; without one the zone's own, changed by what follows.
    public var processFile: String?
    public var arguments: [String] = []
    /// Added to the zone's own.
    public var environment: [String] = []
    public var workingDirectory: String?
    /// `uid[:gid]`, or names.
    public var user: String?
    public var additionalGroups: [UInt32] = []
    public var hasTerminal = false
    public var noNewPrivileges: Bool?
    /// Added to the zone's own.
    public var capabilities: [String] = []
    public var apparmorProfile: String?
    public var selinuxLabel: String?
    /// A group below the zone's own, or `controller:group` for one of version 1.
    public var cgroup: String?
    public var isDetached = false
    /// Adds the process to a paused zone too, where it waits with the others.
    public var ignoresPause = false
    public var pidFile: String?
    public var consoleSocket: String?
    public var pidfdSocket: String?
    public var preservedDescriptors = 0

    public init() {}
}

/// What `state` and `list` tell of a zone: the OCI state (runtime.md "State") and runc's fields beside it.
public struct BundleState: JSONRecord, Sendable {
    public var ociVersion = Spec.version
    public var id = ""
    public var status = ""
    /// 0 where nothing runs.
    public var pid: Int32 = 0
    public var bundle = ""
    public var rootfs = ""
    /// Seconds since 1970, and RFC 3339.
    public var created: Int64 = 0
    public var createdText = ""
    public var owner = ""
    public var annotations: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("ociVersion", &ociVersion)
        try visitor.required("id", &id)
        try visitor.required("status", &status)
        try visitor.required("pid", &pid)
        try visitor.required("bundle", &bundle)
        try visitor.required("rootfs", &rootfs)
        try visitor.required("created", &createdText)
        try visitor.field("annotations", &annotations)
        try visitor.required("owner", &owner)
    }
}
