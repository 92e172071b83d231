// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl volume create [VOLUME]`
enum VolumeCreateCommand {
    static let label = Option.list("label", "l", "NAME=VALUE", "Note something on the volume")
    static let size = Option.value("size", nil, "SIZE", "How much its files may take, such as 1G (0: any)")

    static let command = Command(
        names: ["volume create"], group: .volumes, operands: "[VOLUME]", summary: "Make a volume",
        details: """
            A volume is a folder of files with a name, which outlives the zones that it is mounted into. A zone that names
            one that there is not makes it itself: see --volume of 'zonectl run'. One that is there already is left as it is.
            Its first zone puts in what the image has at that place. The volume's name is printed; it is made up if not given.
            """,
        examples: """
            zonectl volume create data
            zonectl run -d --name db -v data:/var/lib/db postgres
            """,
        options: [label, size]
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count <= 1 else {
            throw ZoneError(.invalid, "volume create takes one name", hint: "zonectl volume create data")
        }
        let bytes = try arguments.value(size).map { (text) throws(ZoneError) in
            try RunCommand.size(text, "--size")
        }
        let name = try VolumeStore(context.folders).create(
            arguments.operands.first, labels: try RunCommand.labels(arguments), size: bytes == 0 ? nil : bytes)
        try Output.write(name + "\n")
        return 0
    }
}

/// `zonectl volume ls`
enum VolumeListCommand {
    static let quiet = Option.flag("quiet", "q", "Print names only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["volume ls", "volume list"], group: .volumes, operands: "", summary: "List volumes",
        options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let store = VolumeStore(context.folders)
        let volumes = try store.list()
        if arguments.flag(quiet) {
            try Output.write(volumes.map { $0.name + "\n" }.joined())
            return 0
        }
        let users = volumes.isEmpty ? [:] : try store.users()
        if arguments.flag(json) {
            try Output.json(volumes.map { VolumeView($0, store, users) })
        } else {
            try Output.table(
                ["NAME", "CREATED", "ZONES", "SNAPSHOT OF"],
                volumes.map { volume in
                    let zones = (users[volume.name] ?? []).joined(separator: ", ")
                    return [
                        volume.name, Age.text(since: volume.created), zones.isEmpty ? "-" : zones,
                        volume.snapshotOf ?? "-",
                    ]
                })
        }
        return 0
    }
}

/// `zonectl volume inspect VOLUME…`
enum VolumeInspectCommand {
    static let command = Command(
        names: ["volume inspect"], group: .volumes, operands: "VOLUME…", summary: "Show all about volumes, as JSON",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let store = VolumeStore(context.folders)
        let users = try store.users()
        let (views, status) = try VolumeNames.forEach(arguments.operands) { (name) throws(ZoneError) in
            VolumeView(try store.find(name), store, users)
        }
        try Output.json(views)
        return status
    }
}

/// `zonectl volume rm VOLUME…`
enum VolumeRemoveCommand {
    static let force = Option.flag("force", "f", "A volume that there is not is no error")

    static let command = Command(
        names: ["volume rm"], group: .volumes, operands: "VOLUME…", summary: "Remove volumes and everything in them",
        details: "A volume that a zone has, running or stopped, stays.", options: [force]
    ) { (arguments, context) throws(ZoneError) in
        let store = VolumeStore(context.folders)
        return try VolumeNames.forEach(arguments.operands) { (name) throws(ZoneError) in
            try store.remove(name, force: arguments.flag(force))
            try Output.write(name + "\n")
        }.exitCode
    }
}

/// `zonectl volume prune`
enum VolumePruneCommand {
    static let all = Option.flag("all", "a", "Remove all volumes that no zone has, not only those without a name")
    static let force = Option.flag("force", "f", "For scripts made for docker: nothing is asked here")

    static let command = Command(
        names: ["volume prune"], group: .volumes, operands: "", summary: "Remove volumes that no zone has",
        details: "These are volumes that nobody has given a name. Snapshots stay, also with --all.",
        options: [all, force]
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let names = try VolumeStore(context.folders).prune(all: arguments.flag(all))
        try Output.write(names.map { $0 + "\n" }.joined())
        return 0
    }
}

/// Names of volumes on a command line.
enum VolumeNames {
    static func forEach<Result>(
        _ names: [String], _ body: (String) throws(ZoneError) -> Result
    ) throws(ZoneError) -> (results: [Result], exitCode: Int32) {
        if names.isEmpty {
            throw ZoneError(.invalid, "give the name of a volume", hint: "'zonectl volume ls' lists all volumes")
        }
        return try InspectCommand.forEach(names, body)
    }
}

/// A volume as `volume ls --json` and `volume inspect` show it.
struct VolumeView: JSONRecord {
    var name = ""
    var created = Timestamp()
    var mountpoint = ""
    var labels: [String: String] = [:]
    var isAnonymous = false
    var snapshotOf: String?
    var zones: [String] = []
    var storage: Int64?
    var storageKind: StorageKind?

    init() {}

    init(_ volume: Volume, _ store: VolumeStore, _ users: [String: [String]]) {
        name = volume.name
        created = Timestamp(volume.created)
        mountpoint = store.path(of: volume)
        labels = volume.labels
        isAnonymous = volume.isAnonymous
        snapshotOf = volume.snapshotOf
        zones = users[volume.name] ?? []
        storage = volume.storage
        storageKind = volume.storageKind
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.required("mountpoint", &mountpoint)
        try visitor.required("labels", &labels)
        try visitor.required("anonymous", &isAnonymous)
        try visitor.field("snapshotOf", &snapshotOf)
        try visitor.required("zones", &zones)
        try visitor.field("storage", &storage)
        try visitor.field("storageKind", &storageKind)
    }
}
