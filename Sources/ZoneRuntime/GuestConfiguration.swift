// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// What the agent says of itself when it is there.
struct GuestHello: JSONRecord, Sendable, Equatable {
    /// ``GuestConfiguration/version``.
    var version: Int64 = 0
    /// The guest's kernel, as uname(2) has it.
    var kernel = ""

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("version", &version)
        try visitor.field("kernel", &kernel)
    }
}

/// What a micro machine's agent makes before anything runs in it.
struct GuestConfiguration: JSONRecord, Sendable, Equatable {
    static let version: Int64 = 1

    /// The zone's name, for errors.
    var zone = ""
    var hostname = ""
    var root = GuestRoot()
    /// Whether the host shares folders by virtiofs under the tag ``shareTag``, which is then mounted at ``sharePlace``.
    var hasShares = false
    static let shareTag = "zone"
    static let sharePlace = "/run/zone/share"
    /// Files below ``filePlace``, which mounts of the zone's lead to: /etc/hosts and its like.
    var files: [GuestFile] = []
    static let filePlace = "/run/zone/files"
    var interfaces: [GuestInterface] = []
    /// Milliseconds since 1970 on the host, for a guest whose clock is not set.
    var time: Int64 = 0
    /// The zone's OCI configuration, whose paths are those in the guest: its process is session 1, its namespaces (but for
    /// those of the network, of users and control groups, which the machine is by itself), mounts, masks and sysctls are made
    /// in the guest by the code that makes them for containers.
    var spec = Spec()
    /// A small init is the zone's first process, and the program its child.
    var runsInit = false
    /// The program is an init system, which leaves its terminal to who logs in.
    var isInitSystem = false

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("zone", &zone)
        try visitor.field("hostname", &hostname)
        try visitor.required("root", &root)
        try visitor.field("shares", &hasShares)
        try visitor.field("files", &files)
        try visitor.field("interfaces", &interfaces)
        try visitor.field("time", &time)
        try visitor.required("spec", &spec)
        try visitor.field("init", &runsInit)
        try visitor.field("initSystem", &isInitSystem)
    }
}

/// Where the zone's root file system comes from.
struct GuestRoot: JSONRecord, Sendable, Equatable {
    /// The serial number (`/sys/block/vdX/serial`) of the disk that holds the image's files, an erofs.
    var image: String?
    /// The serial number of the disk for the zone's own changes, an ext4 with `upper` and `work`, which are made if they are missing; without
    /// one they are in the guest's memory.
    var changes: String?
    /// In the place of an image: a folder below ``GuestConfiguration/sharePlace`` is the root itself.
    var share: String?
    var isReadOnly = false

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("image", &image)
        try visitor.field("changes", &changes)
        try visitor.field("share", &share)
        try visitor.field("readOnly", &isReadOnly)
    }
}

/// A file that the guest gets, owned by root.
struct GuestFile: JSONRecord, Sendable, Equatable {
    var name = ""
    var content = ""
    var mode: Int64 = 0o644

    init() {}

    init(name: String, content: String, mode: Int64 = 0o644) {
        self.name = name
        self.content = content
        self.mode = mode
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.field("content", &content)
        try visitor.field("mode", &mode)
    }
}

/// A network card of the guest's, found by its station.
struct GuestInterface: JSONRecord, Sendable, Equatable {
    /// `02:00:…`.
    var mac = ""
    /// What it is called from then on, such as `eth0`.
    var name = ""
    /// With the length of the prefix, `10.88.0.2/16`.
    var addresses: [String] = []
    /// Default routes.
    var gateways: [String] = []
    /// Others, made before these.
    var routes: [GuestRoute] = []
    var mtu: Int64?

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("mac", &mac)
        try visitor.required("name", &name)
        try visitor.field("addresses", &addresses)
        try visitor.field("gateways", &gateways)
        try visitor.field("routes", &routes)
        try visitor.field("mtu", &mtu)
    }
}

/// A route by a network card.
struct GuestRoute: JSONRecord, Sendable, Equatable {
    /// With the length of the prefix.
    var destination = ""
    /// Nil: what it leads to is on the card's own segment.
    var gateway: String?

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("to", &destination)
        try visitor.field("by", &gateway)
    }
}

/// What a session is for.
struct GuestRequest: JSONRecord, Sendable, Equatable {
    enum Action: String, JSONCodable, CaseIterable, Sendable {
        /// The zone's own program, session 1: ``GuestConfiguration/spec``'s process.
        case run
        /// Another program in the zone: ``process``.
        case exec
        /// What is at ``path`` in the zone, as a tar archive on the output: `cp ZONE:PATH -`.
        case archive
        /// A tar archive from the input is unpacked in the directory ``path`` of the zone's.
        case extract
        /// Answered by a ``GuestPathAnswer`` about ``path`` in the zone.
        case look
        /// Answered by a ``GuestStatistics``.
        case statistics
    }

    var action = Action.run
    /// Streams that the other side does not pass on are /dev/null.
    var isInteractive = false
    var process: Spec.Process?
    var path = ""
    /// A symbolic link at ``path`` is followed.
    var followsLink = false
    /// Owners and set-id bits are kept.
    var keepsOwners = false

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("action", &action)
        try visitor.field("interactive", &isInteractive)
        try visitor.field("process", &process)
        try visitor.field("path", &path)
        try visitor.field("followLink", &followsLink)
        try visitor.field("keepOwners", &keepsOwners)
    }
}

/// What is at a path in a zone.
struct GuestPathAnswer: JSONRecord, Sendable, Equatable {
    enum Kind: String, JSONCodable, CaseIterable, Sendable {
        case directory, file, other
    }

    /// Nil where nothing is there.
    var kind: Kind?

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("kind", &kind)
    }
}

/// What the guest's kernel says of its memory and load.
struct GuestStatistics: JSONRecord, Sendable, Equatable {
    /// Bytes, of /proc/meminfo.
    var memoryTotal: Int64 = 0
    var memoryAvailable: Int64 = 0
    /// Processes in the guest but for the kernel's and the agent.
    var processes: Int64 = 0

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("memoryTotal", &memoryTotal)
        try visitor.field("memoryAvailable", &memoryAvailable)
        try visitor.field("processes", &processes)
    }
}
