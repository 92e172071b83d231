// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// Something that happened to a zone.
public struct ZoneEvent: JSONRecord, Sendable, Equatable {
    public enum Kind: String, JSONCodable, CaseIterable, Sendable {
        case create, start, attach, exec, die, oom, restart, stop, kill, pause, resume, rename, set, health, remove
        case snapshot, restore, update
    }

    /// RFC 3339, UTC, with nanoseconds.
    public var time = ""
    public var zone = ""
    public var type = "container"
    /// One of ``Kind``; a text, as a newer zonectl may know more.
    public var event = ""
    public var attributes: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("time", &time)
        try visitor.required("zone", &zone)
        try visitor.required("type", &type)
        try visitor.required("event", &event)
        try visitor.field("attributes", &attributes)
    }
}

/// What happens to zones, a line of JSON each in ROOT/.events, of which as much again is kept in ROOT/.events.1.
///
/// Each process appends for itself: one write(2) of a line, which O_APPEND puts behind all others.
public struct EventLog: Sendable {
    /// No zone has a name that begins so.
    static let file = ".events"
    private static let largestFile: Int64 = 1 << 20
    private static let longestLine = 4096

    private let folders: ZoneFolders

    public init(_ folders: ZoneFolders) {
        self.folders = folders
    }

    /// Appends an event. What cannot be recorded has happened all the same: nothing fails for it.
    public func record(_ kind: ZoneEvent.Kind, zone: String, _ attributes: KeyValuePairs<String, String> = [:]) {
        let flags: OpenFlags = [.writeOnly, .create, .append, .noFollow]
        guard let file = try? Descriptor.open("\(folders.root)/\(EventLog.file)", flags, mode: 0o600) else { return }
        let now = FileStatus.now
        var line = EventLog.line(kind, zone, now, attributes)
        if line.count > EventLog.longestLine { line = EventLog.line(kind, zone, now, [:]) }
        _ = file.writePart(line)
        if lseek(file.raw, 0, SEEK_CUR) > EventLog.largestFile { rotate(file) }
    }

    private static func line(
        _ kind: ZoneEvent.Kind, _ zone: String, _ time: Int64, _ attributes: KeyValuePairs<String, String>
    ) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        for (name, value) in [
            ("time", PointInTime.rfc3339Nano(time)), ("zone", zone), ("type", "container"), ("event", kind.rawValue),
        ] {
            writer.name(name)
            writer.string(value)
        }
        if !attributes.isEmpty {
            writer.name("attributes")
            writer.beginObject()
            for (name, value) in attributes {
                writer.name(name)
                writer.string(value)
            }
            writer.endObject()
        }
        writer.endObject()
        writer.endText()
        return writer.bytes
    }

    /// Begins a new file, if nobody else is just doing that.
    private func rotate(_ file: borrowing Descriptor) {
        guard (try? file.lock(wait: false)) == true,
            let folder = try? Descriptor.open(folders.root, [.path, .directory]),
            let named = try? folder.status(EventLog.file), let held = try? file.stat(), named.inode == held.inode
        else { return }
        // Next time, then.
        try? folder.rename(EventLog.file, to: "\(EventLog.file).1")
    }

    // MARK: Reading

    /// Which events are wanted. Times are nanoseconds since 1970.
    public struct Request: Sendable {
        public var since: Int64?
        public var until: Int64?
        public var follows = true
        /// Exact names; all zones where there are none.
        public var zones: [String] = []
        /// All kinds where there are none.
        public var kinds: [String] = []

        public init() {}

        fileprivate func wants(_ event: ZoneEvent) -> Bool {
            if !zones.isEmpty, !zones.contains(event.zone) { return false }
            if !kinds.isEmpty, !kinds.contains(event.event) { return false }
            if since == nil, until == nil { return true }
            guard let time = PointInTime.nanoseconds(rfc3339: Array(event.time.utf8)[...]) else { return false }
            return time >= since ?? .min && time <= until ?? .max
        }
    }

    /// Hands each event to `show`: those of the past where ``Request/since`` says so or nothing is followed, and those
    /// that come. `true`: interrupted by SIGINT.
    public func read(
        _ request: Request, show: (ZoneEvent) throws(ZoneError) -> Void
    ) throws(ZoneError) -> Bool {
        if request.follows {
            try attempting("make the folder of states") { () throws(SystemError) in
                _ = try Descriptor.makePath(folders.root, mode: 0o700)
            }
        }
        // Watched before it is read: nothing happens between the two that nobody notices.
        var waiter = request.follows ? try LogWaiter(folder: folders.root) : nil
        var reader = try attempting("open the events") { () throws(SystemError) in
            try LogReader(folder: try Descriptor.open(folders.root, [.readOnly, .directory]), name: EventLog.file)
        }
        if request.follows, request.since == nil, request.until == nil { try reader.skip(toLast: 0) }
        var isLast = waiter == nil
        while true {
            try reader.read(isLast: isLast) { (bytes) throws(ZoneError) in
                // A line that is damaged tells nothing.
                guard let event = try? ZoneEvent(parsing: Array(bytes)), request.wants(event) else { return }
                try show(event)
            }
            if isLast { return false }
            switch try waiter?.wait(until: request.until) {
            case .interrupted: return true
            case .over, nil: isLast = true
            case .written, .idle: break
            }
        }
    }
}
