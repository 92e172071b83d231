// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// What a zone is: everything that `run` was told, as it is kept and as `inspect` shows it.
public struct ZoneDefinition: JSONRecord, Sendable, Equatable {
    public enum Network: String, JSONCodable, CaseIterable, Sendable {
        /// A network namespace with only `lo`.
        case none
        /// The host's own network.
        case host
        /// Another zone's network namespace.
        case zone
    }

    public var name = ""
    public var type = "container"
    /// An image's name; of a machine that boots its own disk the path of that.
    public var image = ""
    public var imageDigest: Digest?
    /// `ZONE/SNAPSHOT`: whose changes a linked clone stands on. `/LAYER`: changes of its own that a snapshot has frozen.
    public var base: String?
    /// Replaces the image's command.
    public var command: [String] = []
    /// Replaces the image's entrypoint; an empty string removes it.
    public var entrypoint: String?
    public var hostname: String?
    public var environment: [String] = []
    public var workingDirectory: String?
    public var user: String?
    public var isInteractive = false
    public var hasTerminal = false
    public var autoRemove = false
    public var runsInit = false
    public var isReadOnly = false
    public var mounts: [Spec.Mount] = []
    public var devices: [DeviceRequest] = []
    public var network = Network.none
    /// The zone whose network it shares.
    public var networkZone: String?
    /// With a network namespace of its own: the networks that it is connected to, the first one first.
    public var networks: [NetworkAttachment] = []
    /// Of the host's that lead to the zone's.
    public var ports: [PublishedPort] = []
    /// Who is asked for names, in the place of who the networks say.
    public var nameServers: [String] = []
    /// `NAME:ADDRESS`, beside what /etc/hosts has.
    public var hosts: [String] = []
    public var resources = Spec.Resources()
    public var procView = ProcView.auto
    public var addedCapabilities: [String] = []
    public var droppedCapabilities: [String] = []
    /// `unconfined`, or the absolute path of a profile; the default profile where nothing is said.
    public var seccompProfile: String?
    public var allowsNewPrivileges = false
    /// Also in a zone that boots as a machine, where users otherwise may change into others (su, sudo).
    public var forbidsNewPrivileges = false
    public var limits: [Spec.ResourceLimit] = []
    public var sysctls: [String: String] = [:]
    public var labels: [String: String] = [:]
    public var restart = RestartPolicy.never
    /// The image's own where nothing is said.
    public var health: HealthPolicy?
    /// Name or number of the signal that asks the zone to end; the image's, or TERM, where nothing is said.
    public var stopSignal: String?
    /// Seconds until a zone that was asked to end is killed.
    public var stopTimeout: Int64?
    public var systemMode = SystemMode.auto
    /// The init that the zone boots with; found out when it is made. `nil` for one that is no machine.
    public var initSystem: InitSystem?
    /// 32 hexadecimal digits, machine-id(5); of a machine.
    public var machineID: String?
    /// How many may be logged in at once.
    public var maxUsers: Int64?
    /// Seconds since 1970.
    public var created: Int64?
    /// Bytes that the zone's own files may take; without a limit where nothing is said.
    public var storage: Int64?
    /// How they are limited; found out when the limit is made.
    public var storageKind: StorageKind?
    /// The number of their project, of a project quota.
    public var storageProject: Int64?
    /// What makes it a virtual machine; nil for a container.
    public var machine: MachineSettings?
    /// How what the zone writes is kept while it runs in the background; nil for the default.
    public var log: LogPolicy?

    public init() {}

    /// As `--network` has it.
    var networkText: String {
        network == .zone ? "zone:\(networkZone ?? "")" : network.rawValue
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("type", &type)
        try visitor.required("image", &image)
        try visitor.field("imageDigest", &imageDigest)
        try visitor.field("base", &base)
        try visitor.field("command", &command)
        try visitor.field("entrypoint", &entrypoint)
        try visitor.field("hostname", &hostname)
        try visitor.field("environment", &environment)
        try visitor.field("workingDirectory", &workingDirectory)
        try visitor.field("user", &user)
        try visitor.field("interactive", &isInteractive)
        try visitor.field("terminal", &hasTerminal)
        try visitor.field("autoRemove", &autoRemove)
        try visitor.field("init", &runsInit)
        try visitor.field("readOnly", &isReadOnly)
        try visitor.field("mounts", &mounts)
        try visitor.field("devices", &devices)
        try visitor.field("network", &network)
        try visitor.field("networkZone", &networkZone)
        try visitor.field("networks", &networks)
        try visitor.field("ports", &ports)
        try visitor.field("nameServers", &nameServers)
        try visitor.field("hosts", &hosts)
        try visitor.field("resources", &resources)
        try visitor.field("procView", &procView)
        try visitor.field("addedCapabilities", &addedCapabilities)
        try visitor.field("droppedCapabilities", &droppedCapabilities)
        try visitor.field("seccompProfile", &seccompProfile)
        try visitor.field("allowsNewPrivileges", &allowsNewPrivileges)
        try visitor.field("forbidsNewPrivileges", &forbidsNewPrivileges)
        try visitor.field("limits", &limits)
        try visitor.field("sysctls", &sysctls)
        try visitor.field("labels", &labels)
        try visitor.field("restart", &restart)
        try visitor.field("health", &health)
        try visitor.field("stopSignal", &stopSignal)
        try visitor.field("stopTimeout", &stopTimeout)
        try visitor.field("systemd", &systemMode)
        try visitor.field("initSystem", &initSystem)
        try visitor.field("machineID", &machineID)
        try visitor.field("maxUsers", &maxUsers)
        try visitor.field("created", &created)
        try visitor.field("log", &log)
        try visitor.field("storage", &storage)
        try visitor.field("storageKind", &storageKind)
        try visitor.field("storageProject", &storageProject)
        try visitor.field("machine", &machine)
    }

    /// A device of the host's that the zone gets.
    public struct DeviceRequest: JSONRecord, Sendable, Equatable {
        public var source = ""
        public var target = ""
        /// Of `r`, `w`, `m`.
        public var access = "rwm"

        public init() {}

        public init(source: String, target: String, access: String) {
            self.source = source
            self.target = target
            self.access = access
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("source", &source)
            try visitor.required("target", &target)
            try visitor.required("access", &access)
        }
    }
}
