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
    /// RFC 3339, UTC.
    var createdText = ""
    var owner = ""
    var name = ""
    var type = "container"
    var image = ""
    var command: [String] = []
    var exitCode: Int32?
    var damage: String?
    var cgroups: [String]?
    /// Who answers in /proc/meminfo and its like: `lxcfs` or `kernel`.
    var procView: String?
    var config: Spec?
    var definition: ZoneDefinition?
    var created: Int64?

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("ociVersion", &ociVersion)
        try visitor.required("id", &id)
        try visitor.required("pid", &pid)
        try visitor.required("status", &status)
        try visitor.required("bundle", &bundle)
        try visitor.required("rootfs", &rootfs)
        try visitor.required("created", &createdText)
        try visitor.required("owner", &owner)
        try visitor.required("name", &name)
        try visitor.required("type", &type)
        try visitor.required("image", &image)
        try visitor.required("command", &command)
        try visitor.field("exitCode", &exitCode)
        try visitor.field("damage", &damage)
        try visitor.field("cgroups", &cgroups)
        try visitor.field("procView", &procView)
        try visitor.field("config", &config)
        try visitor.field("definition", &definition)
    }

    init(_ entry: ZoneStore.Entry, _ folders: ZoneFolders) throws(ZoneError) {
        id = entry.name
        name = entry.name
        status = entry.state.word
        switch entry.state {
        case .created(let process), .running(let process), .paused(let process): pid = process.pid
        case .stopped(let code): exitCode = code
        case .damaged(let reason): damage = reason
        case .creating, .restarting: break
        }
        bundle = "\(folders.root)/\(entry.name)"
        rootfs = "\(bundle)/rootfs"
        owner = "root"
        image = entry.record?.image ?? ""
        command = entry.record?.command ?? []
        created = entry.record?.created
        createdText = created.map(PointInTime.rfc3339) ?? ""
    }

    /// The same with what only `inspect` shows.
    func detailed(configuration: Spec??, definition: ZoneDefinition??, cgroups: [String]) -> ZoneView {
        var view = self
        view.config = configuration ?? nil
        view.procView = view.config.map { ProcView.name(of: $0.mounts) }
        view.definition = definition ?? nil
        view.cgroups = cgroups
        return view
    }

    /// For people: `stopped (137)`.
    var statusText: String {
        exitCode.map { "\(status) (\($0))" } ?? status
    }
}

/// Points in time as people and programs read them.
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
