// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// What a restore must know beside what criu has saved: `zonectl.json` in the checkpoint's folder.
struct CheckpointFile: JSONRecord, Equatable {
    static let name = "zonectl.json"
    /// The same of runc and crun: a list of what the three streams were.
    static let commonName = "descriptors.json"

    /// Names, as criu has them, of what the first process's streams were.
    var streams: [String] = []
    /// Those of them that were the null device, and stay so.
    var nulls: [String] = []
    var mounts: [SavedMount] = []
    var places: [SavedPlace] = []

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("streams", &streams)
        try visitor.field("nulls", &nulls)
        try visitor.field("mounts", &mounts)
        try visitor.field("places", &places)
    }

    /// Reads it; a checkpoint of another runtime's has only the streams.
    static func read(
        in folder: borrowing Descriptor, _ path: String, _ spec: Spec
    ) throws(ZoneError) -> CheckpointFile {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try folder.readFile(name) } catch {
            guard error.errno == .noEntry else { throw ZoneError("read the checkpoint in \(path)", error) }
            return foreign(in: folder, spec)
        }
        do throws(JSONError) { return try CheckpointFile(parsing: bytes) } catch {
            throw ZoneError(file: "\(path)/\(name)", error)
        }
    }

    private static func foreign(in folder: borrowing Descriptor, _ spec: Spec) -> CheckpointFile {
        var file = CheckpointFile()
        file.mounts = spec.mounts.filter(\.isBind).map { SavedMount($0) }
        if let bytes = try? folder.readFile(commonName), let list = try? JSON(parsing: bytes),
            let texts = try? [String](json: list)
        {
            file.streams = texts
        }
        return file
    }

    func write(in folder: borrowing Descriptor) throws(SystemError) {
        try folder.replaceFile(CheckpointFile.name, serialized(), mode: 0o600)
        var writer = JSONWriter()
        streams.write(to: &writer)
        writer.endText()
        try folder.replaceFile(CheckpointFile.commonName, writer.bytes, mode: 0o600)
    }
}

extension Spec.Mount {
    /// Whether it shows a directory or file of the host's.
    var isBind: Bool { type == "bind" || options.contains("bind") || options.contains("rbind") }
}

/// A mount from outside the zone. criu knows it by its place, which is its name in the checkpoint.
struct SavedMount: JSONRecord, Equatable {
    /// Where it is, without links.
    var point = ""
    /// The place that the configuration gives for the bind mount that it is, or is below of.
    var destination: String?
    /// The path below that mount, empty for itself.
    var below = ""
    /// The control group hierarchy that the zone's group of is mounted; empty for version 2.
    var hierarchy: String?
    /// A path that is the same on every host.
    var source: String?

    init() {}

    init(_ entry: MountEntry) {
        point = entry.point
    }

    init(_ mount: Spec.Mount) {
        point = mount.destination
        destination = mount.destination
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("point", &point)
        try visitor.field("destination", &destination)
        try visitor.field("below", &below)
        try visitor.field("hierarchy", &hierarchy)
        try visitor.field("source", &source)
    }
}

/// A place in the root file system that is mounted upon.
struct SavedPlace: JSONRecord, Equatable {
    var point = ""
    var isDirectory = true

    init() {}

    init(point: String, isDirectory: Bool) {
        self.point = point
        self.isDirectory = isDirectory
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("point", &point)
        try visitor.required("isDirectory", &isDirectory)
    }
}
