// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import OCI
import ZoneRuntime

/// `zonectl schema [NAME]`
enum SchemaCommand {
    static let command = Command(
        names: ["schema"], group: .other, operands: "[NAME]", summary: "Print the JSON Schema of what a verb prints",
        details: "NAME is \(all.map(\.name).joined(separator: ", ")); without one, these names are printed.",
        options: [], needsRoot: false
    ) { (arguments, _) throws(ZoneError) in
        guard !arguments.operands.isEmpty else {
            try Output.write(all.map { $0.name + "\n" }.joined())
            return 0
        }
        // `image ls` may be given as two words.
        let name = arguments.operands.joined(separator: " ")
        guard let schema = all.first(where: { $0.name == name }) else {
            throw ZoneError(
                .invalid, "there is no schema \"\(name)\"", hint: "there is \(all.map(\.name).joined(separator: ", "))")
        }
        var writer = JSONWriter(pretty: true)
        schema.make().write(to: &writer)
        writer.endText()
        try Output.write(writer.bytes)
        return 0
    }

    /// A schema that can be printed.
    struct Entry: Sendable {
        let name: String
        let make: @Sendable () -> JSON
    }

    static let all: [Entry] = [
        entry("ls", "zonectl ls --json, zonectl ps --json", ZoneView.self, isList: true, descriptions: zone),
        entry("inspect", "zonectl inspect", ZoneView.self, isList: true, descriptions: zone),
        entry("definition", "definition of a zone, as in zonectl inspect", ZoneDefinition.self, isList: false),
        entry(
            "stats", "zonectl stats --json: each line, or all of it with --no-stream", ZoneUsage.self, isList: true,
            descriptions: usage),
        entry("events", "zonectl events --json, each line", ZoneEvent.self, isList: false, descriptions: event),
        entry("logs", "zonectl logs --json, each line", LogRecord.self, isList: false, descriptions: log),
        entry("diff", "zonectl diff --json", ZoneChange.self, isList: true, descriptions: diff),
        entry("snapshot ls", "zonectl snapshot ls --json", SnapshotView.self, isList: true, descriptions: snapshot),
        entry("restart", "zonectl restart --updated --json", ZoneUpdate.self, isList: true, descriptions: update),
        entry("image ls", "zonectl image ls --json", ImageView.self, isList: true),
        entry("image inspect", "zonectl image inspect", ImageDetail.self, isList: true, descriptions: image),
        entry(
            "image update", "zonectl image update --json", ImageUpdate.self, isList: true,
            descriptions: [
                "from": "digest of the image that had the name", "to": "digest of the one that has it now",
                "zones": "those on another image than the name means now",
            ]),
        entry("volume ls", "zonectl volume ls --json", VolumeView.self, isList: true, descriptions: volume),
        entry("volume inspect", "zonectl volume inspect", VolumeView.self, isList: true, descriptions: volume),
        entry("df", "zonectl df --json", StorageUse.self, isList: true, descriptions: storage),
        entry("image df", "zonectl image df --json", StoreUsage.self, isList: true),
    ]

    private static func entry<Record: JSONRecord & SendableMetatype>(
        _ name: String, _ title: String, _ type: Record.Type, isList: Bool, descriptions: [String: String] = [:]
    ) -> Entry {
        Entry(name: name) { JSONSchema.of(Record.self, title: title, isList: isList, descriptions: descriptions) }
    }

    private static let update = [
        "from": "digest of the image that the zone was on",
        "to": "digest of the one that it is on now; the same where nothing was to be done",
        "restarted": "whether it was running, and was stopped and started",
        "kept": "what the zone keeps its own way though the two images differ there",
        "kept.zone": "changed or deleted: what the zone has done with the path",
        "kept.image": "added, changed or deleted: what the new image has done with it",
    ]

    private static let zone = [
        "imageUpdate": "digest of what the image's name means now, where the zone is on another one",
        "ociVersion": "version of the OCI runtime specification",
        "id": "the same as name, for readers of runc's list",
        "pid": "of the zone's first process, on the host; 0 where there is none",
        "status": "creating, created, running, paused, restarting, stopped or damaged",
        "bundle": "folder of the zone's state, or of the bundle that an engine made it from",
        "rootfs": "the zone's root file system",
        "created": "when the zone was made, RFC 3339; empty where that is not known",
        "started": "when its program was started last, RFC 3339",
        "finished": "when a stopped zone has ended, RFC 3339; not there where nobody saw the end",
        "restarts": "how often a zone in the background was started again since somebody started it",
        "health": "what the health check of a living zone says",
        "health.status": "starting, healthy or unhealthy",
        "health.failingStreak": "how many checks have failed one after the other",
        "health.checked": "end of the last check, seconds since 1970",
        "health.output": "the end of what the last check wrote",
        "owner": "user who owns the zone",
        "type": "kind of the zone",
        "command": "what the zone's first process executes",
        "exitCode": "exit status of a zone that has ended, as a shell shows it; not there where nobody saw the end",
        "damage": "why a damaged zone's record cannot be read",
        "cgroups": "folders of the zone's control groups (inspect)",
        "config": "the OCI runtime configuration that the zone was started with (inspect)",
        "definition": "what the zone is, as it was given to run or create (inspect)",
        "snapshots": "the zone's snapshots, the oldest first (inspect)",
    ]

    private static let image = [
        "names": "all names that the image has",
        "digest": "of the manifest",
        "size": "bytes of all blobs, as they came",
        "layers": "base first",
        "layers.digest": "of the blob as it came",
        "layers.diffID": "of the layer when decompressed",
        "config": "what a zone made from it runs unless told otherwise, OCI image specification",
    ]

    private static let usage = [
        "cpuPercent": "percent of one CPU since the last look",
        "cpuNanoseconds": "CPU time since the start",
        "throttledNanoseconds": "time kept from running by the zone's CPU limit",
        "throttledPeriods": "periods in which the CPU limit was reached",
        "memoryBytes": "memory used, without what the kernel could drop at once",
        "memoryLimitBytes": "not there for a zone without a limit",
        "memoryKills": "processes killed at the memory limit",
        "cpuPressurePercent": "share of the last ten seconds in which something waited for CPU",
        "memoryPressurePercent": "the same for memory",
        "ioPressurePercent": "the same for block devices",
    ]

    private static let event = [
        "time": "RFC 3339, UTC",
        "event": ZoneEvent.Kind.allCases.map(\.rawValue).joined(separator: ", "),
        "attributes": "such as exitCode of die, signal of kill, image of start",
    ]

    private static let snapshot = [
        "created": "RFC 3339, UTC",
        "wasRunning": "whether the zone was running then",
    ]

    private static let diff = [
        "path": "absolute, in the zone",
        "change": "added, changed or deleted",
    ]

    private static let storage = [
        "size": "bytes that were asked for",
        "used": "bytes that the files take of it",
        "available": "bytes that are left; less than the rest where an image keeps some for itself",
    ]

    private static let volume = [
        "created": "RFC 3339, UTC",
        "mountpoint": "where the files are on the host",
        "anonymous": "whether nobody has given it a name",
        "snapshotOf": "the volume that it is a snapshot of; not there for other volumes",
        "zones": "zones that have it, running or not",
        "storage": "bytes that its files may take; not there for a volume without a limit",
        "storageKind": "project (a quota of the file system) or image (a file system of its own)",
    ]

    private static let log = [
        "time": "RFC 3339, UTC; not there for a damaged line",
        "stream": "stdout or stderr",
        "message": "what is no UTF-8 is replaced",
        "partial": "the line goes on in the next one of its stream",
    ]
}
