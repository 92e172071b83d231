// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a zone has said while it ran in the background, for those who want to read it.
public struct ZoneLog: Sendable {
    /// Which lines are wanted. Times are nanoseconds since 1970, each compared with a line's own.
    public struct Request: Sendable {
        public var since: Int64?
        public var until: Int64?
        /// Only so many lines at the end.
        public var last: Int?
        /// Goes on until the zone ends, or ``until`` has passed.
        public var follows = false

        public init() {}
    }

    private let store: ZoneStore
    private let name: String

    /// Finds the zone of this name.
    public init(_ folders: ZoneFolders, _ name: String) throws(ZoneError) {
        store = ZoneStore(folders)
        let entry = try store.find(name)
        self.name = entry.name
        if let bundle = entry.record?.bundle {
            throw ZoneError(
                .unsupported, "logs: zone \(entry.name) was made from the bundle \(bundle)",
                hint: "what it says goes to the engine that made it: ask that one")
        }
    }

    /// Hands each line to `show`, and calls `pause` where more may take a while. `true`: interrupted by SIGINT.
    public func read(
        _ request: Request,
        show: (LogLine) throws(ZoneError) -> Void,
        pause: () throws(ZoneError) -> Void
    ) throws(ZoneError) -> Bool {
        let path = store.folders.persistent(name)
        var reader = try attempting("open the log of zone \(name)") { () throws(SystemError) in
            try LogReader(folder: try Descriptor.open(path, [.readOnly, .directory, .noFollow]))
        }
        if reader.isEmpty { throw noLog() }
        // Watched before it is read: nothing is written between the two that nobody notices.
        var waiter = request.follows ? try LogWaiter(folder: path) : nil
        if let last = request.last { try reader.skip(toLast: last) }
        // A damaged line has no time; it belongs to the one before it.
        var isWanted = request.since == nil
        let filter = { (bytes: ArraySlice<UInt8>) throws(ZoneError) in
            let line = LogLine(bytes)
            if let time = line.time {
                isWanted = time >= request.since ?? .min && time <= request.until ?? .max
            }
            if isWanted { try show(line) }
        }
        var isLast = waiter == nil
        while true {
            try reader.read(isLast: isLast, filter)
            try pause()
            if isLast { return false }
            switch try waiter?.wait(until: request.until) {
            case .interrupted: return true
            case .over, nil: isLast = true
            case .written: break
            case .idle: isLast = try isOver()
            }
        }
    }

    private func noLog() -> ZoneError {
        let policy = (try? store.definition(of: name))?.log
        if policy?.driver != LogPolicy.Driver.none, (try? store.record(of: name)) == .some(nil) {
            return ZoneError(
                .notFound, "zone \(name) has no log: it has not been started yet",
                hint: "'zonectl start \(name)' starts it in the background")
        }
        return ZoneError(
            .notFound, "zone \(name) has no log",
            hint: policy?.driver == LogPolicy.Driver.none
                ? "it was made with --log-driver none"
                : "zones that run in the background have one: 'zonectl run -d'; this one's output went to its caller")
    }

    /// Whether the zone will say no more: removed, or ended with nobody there who might start it again.
    private func isOver() throws(ZoneError) -> Bool {
        let entry: ZoneStore.Entry
        do throws(ZoneError) { entry = try store.find(name, exactly: true) } catch {
            if error.code == .notFound { return true }
            throw error
        }
        return entry.state.process == nil && !(entry.record?.keeper.isAlive ?? false)
    }
}
