// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl snapshot create ZONE [SNAPSHOT]`
enum SnapshotCreateCommand {
    static let command = Command(
        names: ["snapshot create"], group: .keep, operands: "ZONE [SNAPSHOT]",
        summary: "Keep a zone's files and settings as they are now",
        details: """
            Of a stopped zone this takes a moment, however large it is. One that runs is frozen meanwhile: for a moment where
            the store's file system can share blocks (btrfs, xfs), else for as long as it takes to copy what the zone has
            changed. What is mounted into it is not part of it.
            The snapshot's name is printed.
            """,
        examples: "zonectl snapshot create web before-upgrade", options: []
    ) { (arguments, context) throws(ZoneError) in
        let (zone, name) = try SnapshotWords.take(arguments, "snapshot create", needsName: false)
        try Output.write(try ZoneSnapshots(context.folders).create(zone, name: name) + "\n")
        return 0
    }
}

/// `zonectl snapshot ls ZONE`
enum SnapshotListCommand {
    static let quiet = Option.flag("quiet", "q", "Print names only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["snapshot ls", "snapshot list"], group: .keep, operands: "ZONE", summary: "List a zone's snapshots",
        options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        guard let zone = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "snapshot ls takes the name of one zone", hint: "'zonectl ls' lists all zones")
        }
        let snapshots = try context.store.snapshots(of: try context.store.find(zone).name)
        if arguments.flag(json) {
            try Output.json(snapshots.map(SnapshotView.init))
        } else if arguments.flag(quiet) {
            try Output.write(snapshots.map { $0.name + "\n" }.joined())
        } else {
            try Output.table(
                ["NAME", "CREATED", "ZONE WAS"],
                snapshots.map { [$0.name, Age.text(since: $0.created), $0.wasRunning ? "running" : "stopped"] })
        }
        return 0
    }
}

/// `zonectl snapshot restore ZONE SNAPSHOT`
enum SnapshotRestoreCommand {
    static let stops = Option.flag("stop", nil, "Stop a zone that runs first; it stays stopped")

    static let command = Command(
        names: ["snapshot restore"], group: .keep, operands: "ZONE SNAPSHOT",
        summary: "Make a zone what it was at a snapshot",
        details: "Files and settings are as they were then; what has changed since is lost.",
        examples: "zonectl snapshot restore --stop web before-upgrade", options: [stops]
    ) { (arguments, context) throws(ZoneError) in
        let (zone, name) = try SnapshotWords.take(arguments, "snapshot restore", needsName: true)
        try ZoneSnapshots(context.folders).restore(name ?? "", of: zone, stops: arguments.flag(stops))
        return 0
    }
}

/// `zonectl snapshot rm ZONE SNAPSHOT…`
enum SnapshotRemoveCommand {
    static let command = Command(
        names: ["snapshot rm"], group: .keep, operands: "ZONE SNAPSHOT…", summary: "Remove snapshots of a zone",
        details: """
            Others are not harmed. What a snapshot of a stopped zone shared with the zone stays on the disk as long as the zone
            needs it. A zone's snapshots also go with the zone.
            """, options: []
    ) { (arguments, context) throws(ZoneError) in
        guard let zone = arguments.operands.first, arguments.operands.count > 1 else {
            throw ZoneError(
                .invalid, "snapshot rm takes a zone and the names of snapshots of it",
                hint: "'zonectl snapshot ls ZONE' lists them")
        }
        return try InspectCommand.forEach(Array(arguments.operands.dropFirst())) { (name) throws(ZoneError) in
            try ZoneSnapshots(context.folders).remove(name, of: zone)
            try Output.write(name + "\n")
        }.exitCode
    }
}

/// The words of verbs about a zone and a snapshot of it.
private enum SnapshotWords {
    static func take(
        _ arguments: Arguments, _ verb: String, needsName: Bool
    ) throws(ZoneError) -> (zone: String, name: String?) {
        let words = arguments.operands
        guard let zone = words.first, words.count == 2 || words.count == 1 && !needsName else {
            throw ZoneError(
                .invalid,
                "\(verb) takes a zone and \(needsName ? "the name of a snapshot of it" : "a name, if one is wanted")",
                hint: needsName ? "'zonectl snapshot ls ZONE' lists them" : "zonectl \(verb) web before-upgrade")
        }
        return (zone, words.dropFirst().first)
    }
}

/// A snapshot as `snapshot ls --json` and `inspect` show it.
struct SnapshotView: JSONRecord {
    var name = ""
    var created = Timestamp()
    var wasRunning = false

    init() {}

    init(_ snapshot: ZoneSnapshot) {
        name = snapshot.name
        created = Timestamp(snapshot.created)
        wasRunning = snapshot.wasRunning
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.required("wasRunning", &wasRunning)
    }
}
