// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
public import OCI

/// What is recorded of a zone's run in `state.json`.
public struct ZoneRecord: JSONRecord, Sendable, Equatable {
    public enum Phase: String, JSONCodable, CaseIterable, Sendable {
        case creating, created, running, paused, restarting, stopped
    }

    public var ociVersion = Spec.version
    public var id = ""
    public var phase = Phase.creating
    /// The store that the zone is in.
    public var store = ""
    /// The zone's first process, 0 until there is one.
    public var process = RecordedProcess()
    /// The `zonectl` that starts the zone, or stays with it.
    public var keeper = RecordedProcess()
    /// Whether the keeper is one that nobody waits for.
    public var isDetached = false
    /// Whether its keeper checks its health.
    public var isChecked = false
    /// How often a detached zone was started again since somebody started it.
    public var restarts: Int64 = 0
    /// Seconds since 1970: when it was made, or a bundle's zone; and when its program was started last.
    public var created: Int64 = 0
    public var started: Int64?
    public var finished: Int64?
    /// As a shell shows it; nil while the zone runs and when nobody was there to see it end.
    public var exitCode: Int32?
    /// Where the zone's control groups are: recorded before they are made.
    public var cgroups: [RecordedCGroup] = []
    public var image = ""
    public var command: [String] = []
    /// Absolute path of the OCI bundle that the zone was made from; nil for zones from images.
    public var bundle: String?
    /// Absolute path of the bundle's root file system.
    public var rootfs: String?
    public var annotations: [String: String] = [:]
    /// The systemd unit that the zone's groups belong to.
    public var unit: String?
    /// Whether the configuration has hooks for after the start and after the end.
    public var hasStartHooks = false
    public var hasStopHooks = false
    /// The folder of the checkpoint that the zone ended with.
    public var checkpoint: String?
    /// Whether it is in networks of zones: something is to be taken back when it has ended.
    public var isConnected = false
    /// What it publishes, for who lists zones.
    public var ports: [String] = []
    /// The definition's type; nil for a container.
    public var type: String?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("ociVersion", &ociVersion)
        try visitor.required("id", &id)
        try visitor.required("phase", &phase)
        try visitor.required("store", &store)
        try visitor.required("process", &process)
        try visitor.required("keeper", &keeper)
        try visitor.field("detached", &isDetached)
        try visitor.field("checked", &isChecked)
        try visitor.field("restarts", &restarts)
        try visitor.required("created", &created)
        try visitor.field("started", &started)
        try visitor.field("finished", &finished)
        try visitor.field("exitCode", &exitCode)
        try visitor.field("cgroups", &cgroups)
        try visitor.field("image", &image)
        try visitor.field("command", &command)
        try visitor.field("bundle", &bundle)
        try visitor.field("rootfs", &rootfs)
        try visitor.field("annotations", &annotations)
        try visitor.field("unit", &unit)
        try visitor.field("poststart", &hasStartHooks)
        try visitor.field("poststop", &hasStopHooks)
        try visitor.field("checkpoint", &checkpoint)
        try visitor.field("connected", &isConnected)
        try visitor.field("ports", &ports)
        try visitor.field("type", &type)
    }
}

/// A process by pid and start time, which no later process can share.
public struct RecordedProcess: JSONRecord, Sendable, Equatable {
    public var pid: Int32 = 0
    /// Clock ticks since boot, see proc_pid_stat(5).
    public var startTime: UInt64 = 0

    public init() {}

    /// Records a process that runs now.
    init(_ pid: Int32) throws(SystemError) {
        self.pid = pid
        startTime = try ProcessStatus(of: pid).startTime
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("pid", &pid)
        try visitor.required("startTime", &startTime)
    }

    /// Whether that very process still runs.
    var isAlive: Bool {
        // No such process, or none that we may see: not alive.
        guard pid > 0, let status = try? ProcessStatus(of: pid) else { return false }
        return status.startTime == startTime && !status.isZombie
    }
}

/// A control group in a record.
public struct RecordedCGroup: JSONRecord, Sendable, Equatable {
    public var hierarchy = ""
    public var path = ""

    public init() {}

    init(_ directory: CGroupDirectory) {
        hierarchy = directory.hierarchy
        path = directory.path
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("hierarchy", &hierarchy)
        try visitor.required("path", &path)
    }

    var directory: CGroupDirectory { CGroupDirectory(hierarchy: hierarchy, path: path) }
}

/// What a zone is doing now, with what only that state has. An operation takes the state that it needs.
public enum ZoneState: Sendable, Equatable {
    /// A `zonectl` is making it.
    case creating
    /// Everything is set up; `start` lets the program run.
    case created(RecordedProcess)
    case running(RecordedProcess)
    case paused(RecordedProcess)
    /// It has ended, and its keeper is about to start it again.
    case restarting(keeper: RecordedProcess)
    /// `nil`: nobody saw how it ended.
    case stopped(exitCode: Int32?)
    /// Its files cannot be read; it can only be removed.
    case damaged(String)

    /// The OCI word, runtime.md "State".
    public var word: String {
        switch self {
        case .creating: "creating"
        case .created: "created"
        case .running: "running"
        case .paused: "paused"
        case .restarting: "restarting"
        case .stopped: "stopped"
        case .damaged: "damaged"
        }
    }

    /// Compares the record with the processes that there are. `isKept`: a keeper lives that sees what becomes of the zone and
    /// records it at once.
    init(_ record: ZoneRecord, isKept: Bool = false) {
        let trusted = isKept && record.isDetached
        switch record.phase {
        case .running where trusted: self = .running(record.process)
        case .paused where trusted: self = .paused(record.process)
        case .restarting where trusted: self = .restarting(keeper: record.keeper)
        case .creating where record.keeper.isAlive: self = .creating
        // Recorded as running, but whoever waited for it is gone too, or it ended this moment.
        case .created where record.process.isAlive: self = .created(record.process)
        case .running where record.process.isAlive: self = .running(record.process)
        case .paused where record.process.isAlive: self = .paused(record.process)
        case .restarting where record.keeper.isAlive: self = .restarting(keeper: record.keeper)
        // It has ended this moment, and its keeper is about to say what follows.
        case .running where record.isDetached && record.keeper.isAlive,
            .paused where record.isDetached && record.keeper.isAlive:
            self = .restarting(keeper: record.keeper)
        case .creating, .created, .running, .paused, .restarting, .stopped:
            self = .stopped(exitCode: record.exitCode)
        }
    }

    /// The zone's first process, where there is one.
    public var process: RecordedProcess? {
        switch self {
        case .created(let process), .running(let process), .paused(let process): process
        case .creating, .restarting, .stopped, .damaged: nil
        }
    }

    /// Whether the zone runs, or is about to.
    var isUp: Bool {
        switch self {
        case .creating, .created, .running, .paused, .restarting: true
        case .stopped, .damaged: false
        }
    }

    /// The first process of a running zone, or an error that says why `verb` cannot be done.
    func runningProcess(for verb: String, of name: String) throws(ZoneError) -> RecordedProcess {
        switch self {
        case .running(let process): return process
        case .creating:
            throw ZoneError(.wrongState, "\(verb): zone \(name) is just being created", hint: "try again in a moment")
        case .created:
            throw ZoneError(
                .wrongState, "\(verb): zone \(name) is created, but not running",
                hint: "'zonectl start \(name)' starts it")
        case .paused:
            throw ZoneError(
                .wrongState, "\(verb): zone \(name) is paused", hint: "'zonectl resume \(name)' lets it go on")
        case .restarting:
            throw ZoneError(
                .wrongState, "\(verb): zone \(name) has ended and is about to be started again",
                hint: "'zonectl logs \(name)' may tell why, 'zonectl stop \(name)' leaves it stopped")
        case .stopped:
            throw ZoneError(
                .wrongState, "\(verb): zone \(name) is not running", hint: "'zonectl start \(name)' starts it")
        case .damaged(let reason):
            throw ZoneError(
                .wrongState, "\(verb): zone \(name) is damaged: \(reason)", hint: "'zonectl rm -f \(name)' removes it")
        }
    }

    /// The first process of a zone that has one, for what can be done in each of those states.
    func livingProcess(for verb: String, of name: String) throws(ZoneError) -> RecordedProcess {
        if let process { return process }
        return try runningProcess(for: verb, of: name)
    }
}
