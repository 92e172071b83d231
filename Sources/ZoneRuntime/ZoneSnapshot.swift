// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// What a zone was at an instant: its own files and its settings, kept in STORE/zones/NAME/snapshots/SNAPSHOT.
public struct ZoneSnapshot: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// Seconds since 1970.
    public var created: Int64 = 0
    /// Whether the zone was running then.
    public var wasRunning = false

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.field("wasRunning", &wasRunning)
    }
}

extension ZoneFolders {
    func snapshots(_ zone: String) -> String { "\(persistent(zone))/snapshots" }
    func snapshot(_ name: String, of zone: String) -> String { "\(snapshots(zone))/\(name)" }
}

extension ZoneStore {
    /// Returns a zone's snapshots, the oldest first.
    public func snapshots(of zone: String) throws(ZoneError) -> [ZoneSnapshot] {
        let names: [String]
        do throws(SystemError) {
            names = try Descriptor.open(folders.snapshots(zone), [.readOnly, .directory, .noFollow]).entries()
        } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return [] }
            throw ZoneError("list the snapshots of zone \(zone)", error)
        }
        var snapshots: [ZoneSnapshot] = []
        // What is not finished, or is going, has a name that begins with a dot.
        for name in names where ZoneName.isValid(name) {
            // Removed since the list was read.
            guard var snapshot: ZoneSnapshot = try read("\(folders.snapshot(name, of: zone))/snapshot.json") else {
                continue
            }
            snapshot.name = name
            snapshots.append(snapshot)
        }
        return snapshots.sorted { ($0.created, $0.name) < ($1.created, $1.name) }
    }

    /// The settings that a zone had at a snapshot.
    func definition(of zone: String, at snapshot: String) throws(ZoneError) -> ZoneDefinition {
        try ZoneStore.validateSnapshot(snapshot)
        guard var definition: ZoneDefinition = try read("\(folders.snapshot(snapshot, of: zone))/definition.json")
        else {
            throw ZoneError(
                .notFound, "zone \(zone) has no snapshot \"\(snapshot)\"",
                hint: "'zonectl snapshot ls \(zone)' lists those that there are")
        }
        definition.name = zone
        return definition
    }

    static func validateSnapshot(_ name: String) throws(ZoneError) {
        if ZoneName.isValid(name) { return }
        throw ZoneError(
            .invalid, "snapshot name \"\(name)\" is not valid",
            hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
    }
}
