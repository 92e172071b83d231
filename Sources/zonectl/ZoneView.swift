// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import OCI
import ZoneRuntime

/// A zone as `ls --json` and `inspect` show it: runc's fields, and ours.
struct ZoneView: JSONRecord {
    var ociVersion = Spec.version
    var id = ""
    var pid: Int32 = 0
    var status = ""
    var bundle = ""
    var rootfs = ""
    var created = Timestamp()
    var owner = ""
    var name = ""
    var type = "container"
    var image = ""
    /// Digest of what the image's name means now, where that is not what the zone stands on.
    var imageUpdate: String?
    var command: [String] = []
    var started: Timestamp?
    var finished: Timestamp?
    /// As `localhost:8080->80/tcp`.
    var ports: [String] = []
    var restarts: Int64?
    var health: HealthRecord?
    var exitCode: Int32?
    var damage: String?
    var cgroups: [String]?
    /// Who answers in /proc/meminfo and its like: `lxcfs` or `kernel`.
    var procView: String?
    var config: Spec?
    var definition: ZoneDefinition?
    /// Of a zone made from an image: `overlay`, or `copy` where overlayfs could not work.
    var rootKind: String?
    var snapshots: [SnapshotView]?
    /// Of a virtual machine that runs: what QEMU and its guest say.
    var machine: MachineStatus?

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("ociVersion", &ociVersion)
        try visitor.required("id", &id)
        try visitor.required("pid", &pid)
        try visitor.required("status", &status)
        try visitor.required("bundle", &bundle)
        try visitor.required("rootfs", &rootfs)
        try visitor.required("created", &created)
        try visitor.required("owner", &owner)
        try visitor.required("name", &name)
        try visitor.required("type", &type)
        try visitor.required("image", &image)
        try visitor.field("imageUpdate", &imageUpdate)
        try visitor.required("command", &command)
        try visitor.field("started", &started)
        try visitor.field("finished", &finished)
        try visitor.field("ports", &ports)
        try visitor.field("restarts", &restarts)
        try visitor.field("health", &health)
        try visitor.field("exitCode", &exitCode)
        try visitor.field("damage", &damage)
        try visitor.field("cgroups", &cgroups)
        try visitor.field("procView", &procView)
        try visitor.field("config", &config)
        try visitor.field("definition", &definition)
        try visitor.field("rootKind", &rootKind)
        try visitor.field("snapshots", &snapshots)
        try visitor.field("machine", &machine)
    }

    init(_ entry: ZoneStore.Entry, _ store: ZoneStore) {
        id = entry.name
        name = entry.name
        status = entry.state.word
        switch entry.state {
        case .created(let process), .running(let process), .paused(let process): pid = process.pid
        case .stopped(let code): exitCode = code
        case .damaged(let reason): damage = reason
        case .creating, .restarting: break
        }
        bundle = "\(store.folders.root)/\(entry.name)"
        rootfs = "\(bundle)/rootfs"
        owner = "root"
        health = store.health(of: entry)
        guard let record = entry.record else { return }
        image = record.image
        command = record.command
        type = record.type ?? type
        created = Timestamp(record.created)
        started = record.started.map { Timestamp($0) }
        if case .stopped = entry.state { finished = record.finished.map { Timestamp($0) } }
        if pid != 0 { ports = record.ports }
        if record.isDetached { restarts = record.restarts }
    }

    /// The same with what only `inspect` shows.
    func detailed(
        configuration: Spec??, definition: ZoneDefinition??, cgroups: [String], snapshots: [ZoneSnapshot]
    ) -> ZoneView {
        var view = self
        view.config = configuration ?? nil
        view.procView = view.config.map { ProcView.name(of: $0.mounts) }
        view.definition = definition ?? nil
        if let definition = view.definition { view.type = definition.type }
        view.cgroups = cgroups
        view.snapshots = snapshots.isEmpty ? nil : snapshots.map(SnapshotView.init)
        return view
    }

    /// For people: `stopped (137)`, `running (healthy)`.
    var statusText: String {
        if let health { return "\(status) (\(health.status.rawValue))" }
        return exitCode.map { "\(status) (\($0))" } ?? status
    }
}

/// Seconds since 1970 that are written as RFC 3339 in UTC, but not before somebody asks for the text; `nil` as an empty one.
struct Timestamp: JSONCodable, SchemaDescribed, Sendable {
    static let schemaType = "string"

    let seconds: Int64?

    init(_ seconds: Int64? = nil) {
        self.seconds = seconds
    }

    init(json: JSON) throws(JSONError) {
        let text = try String(json: json)
        seconds = PointInTime.nanoseconds(rfc3339: Array(text.utf8)[...]).map { $0 / 1_000_000_000 }
    }

    func write(to writer: inout JSONWriter) { writer.string(seconds.map(PointInTime.rfc3339) ?? "") }
}

/// Points in time as people read them.
enum Age {
    static func text(since seconds: Int64) -> String {
        let (difference, overflow) = Int64(time(nil)).subtractingReportingOverflow(seconds)
        let age = overflow ? 0 : max(0, difference)
        switch age {
        case ..<60: return "\(age) s ago"
        case ..<3600: return "\(age / 60) min ago"
        case ..<172_800: return "\(age / 3600) h ago"
        default: return "\(age / 86_400) days ago"
        }
    }
}
