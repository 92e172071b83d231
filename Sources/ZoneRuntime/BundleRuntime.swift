// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
public import OCI

/// The operations of an OCI runtime on bundles (runtime.md "Operations"), as engines call them.
public struct BundleRuntime: Sendable {
    let store: ZoneStore
    let options: RuntimeOptions
    /// Gets warnings.
    let report: @Sendable (String) -> Void

    public init(
        _ folders: ZoneFolders,
        _ options: RuntimeOptions,
        report: @escaping @Sendable (String) -> Void
    ) {
        store = ZoneStore(folders)
        self.options = options
        self.report = report
    }

    private func launch(
        _ request: CreateRequest,
        waitsAtGate: Bool,
        _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> BundleLauncher.Launched {
        let launcher = BundleLauncher(store: store, options: options, report: report)
        do throws(ZoneError) { return try launcher.launch(request, waitsAtGate: waitsAtGate, signals) } catch {
            launcher.stopHooks.run(report: report)
            throw error
        }
    }

    // MARK: Making and starting

    /// Makes a zone whose program waits for ``start(_:)``.
    public func create(_ request: CreateRequest) throws(ZoneError) {
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        var launched = try launch(request, waitsAtGate: true, signals)
        do throws(LaunchError) { try launched.launching.leaveAtGate() } catch {
            throw ZoneError(error, container: request.id)
        }
        launched.rollback.commit()
    }

    /// Makes a zone and starts it. In the foreground it returns the program's exit status, as a shell shows it, once the
    /// zone has ended and is deleted.
    public func run(_ request: CreateRequest) throws(ZoneError) -> Int32 {
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        var launched = try launch(request, waitsAtGate: false, signals)
        do throws(LaunchError) { try launched.launching.release(interruptedBy: signals) } catch {
            throw ZoneError(error, container: request.id)
        }
        launched.rollback.commit()
        launched.hooks.runAfterStart(pid: launched.launching.process.pid, report: report)
        if request.isDetached { return 0 }
        // Others may pause it, change it and save it while we wait.
        launched.unlock()
        let lost = ForegroundSession.attend(
            &launched.launching, streams: launched.streams.take() ?? ProcessStreams(), signals: signals,
            passesInput: true, report: report)
        let status = try attempting("wait for container \(request.id)") { () throws(SystemError) in
            try launched.launching.process.wait()
        }
        if !request.keeps {
            // The program's status is told also when its remains cannot be removed: the next `delete` will.
            let removal = BundleRemoval(store: store, report: report)
            do throws(ZoneError) { try removal.removeEnded(request.id, force: true) } catch { report("\(error)") }
        }
        return lost && status.shellCode == 0 ? 1 : status.shellCode
    }

    /// Lets the program of a created zone start.
    public func start(_ id: String) throws(ZoneError) {
        _ = try store.findBundle(id)
        let claim = try store.lockBundle(id)
        let entry = store.entry(id)
        guard case .created(let process) = entry.state, var record = entry.record else {
            throw ZoneError(
                .wrongState, "start: container \"\(id)\" is \(entry.state.word), not created",
                hint: "a container is started once; make a new one with 'create'")
        }
        guard !record.command.isEmpty else {
            // It only waited, and would wait for ever.
            try kill(id, signal: SIGKILL, all: false)
            throw ZoneError(
                .invalid, "start: config.json of container \"\(id)\": process: is missing: there is nothing to start")
        }
        if BundleMachine.runs(id, store) { try BundleMachine.connect(id, process.pid, store) }
        record.phase = .running
        // Before the program can run: were it recorded afterwards, somebody could find it running and not started.
        try store.write(record, in: claim.folder)
        do throws(LaunchError) {
            let notified = { () -> SeccompListener? in
                let seccomp = ((try? store.configuration(of: id)) ?? nil)?.linux?.seccomp
                return seccomp.flatMap { SeccompListener($0, BundleState(record)) }
            }
            try StartGate.open(
                in: claim.folder, BundleLauncher.gateName, pid: process.pid, listener: notified
            ) {
                // Only to say what went wrong.
                let spec = (try? store.configuration(of: id)) ?? nil
                return LaunchDescription(
                    arguments: spec?.process?.args ?? [], environment: spec?.process?.env ?? [],
                    startContainerHooks: (spec?.hooks?.startContainer ?? []).map(\.path))
            }
        } catch {
            throw ZoneError(error, container: id)
        }
        // Not worth reading the configuration where there are none; the record is small, the configuration is not.
        guard record.hasStartHooks, let spec = try store.configuration(of: id), let hooks = spec.hooks else { return }
        BundleHooks(hooks: hooks, state: BundleState(record)).runAfterStart(pid: process.pid, report: report)
    }

    // MARK: Looking

    public func state(_ id: String) throws(ZoneError) -> BundleState {
        let entry = try store.findBundle(id)
        if case .damaged(let reason) = entry.state {
            throw ZoneError(
                .wrongState, "container \"\(id)\" is damaged: \(reason)",
                hint: "'zonectl delete --force \(id)' removes it")
        }
        return BundleState(entry)
    }

    /// All zones, those of images too.
    public func list() throws(ZoneError) -> [BundleState] {
        try store.summaries(forEngines: true).map { BundleState($0) }
    }

    /// Whether there is a zone of exactly this name.
    public func exists(_ id: String) -> Bool { (try? store.findBundle(id)) != nil }

    /// Whether the zone was made from a bundle.
    public func isBundle(_ id: String) -> Bool {
        guard let entry = try? store.findBundle(id) else { return false }
        return entry.record?.bundle != nil
    }

    /// The processes of a zone, by the host's pids.
    public func processes(_ id: String) throws(ZoneError) -> [Int32] {
        let entry = try store.findBundle(id)
        let groups = manager(entry)
        return try attempting("list the processes of container \(id)") { () throws(SystemError) in
            try groups.processes()
        }
    }

    func manager(_ entry: ZoneStore.Entry) -> any CGroupManager {
        (entry.record?.cgroups ?? []).map(\.directory).manager
    }

    // MARK: Changing

    /// Sends a signal to the zone's first process, or to all its processes.
    public func kill(_ id: String, signal: Int32, all: Bool) throws(ZoneError) {
        let entry = try store.findBundle(id)
        if all { return try signalAll(entry, signal) }
        guard let process = entry.state.process else {
            throw ZoneError(.wrongState, "kill: container not running: \"\(id)\" is \(entry.state.word)")
        }
        do throws(SystemError) {
            let handle = try ProcessHandle(pid: process.pid)
            guard process.isAlive else { throw SystemError("kill", id, .noProcess) }
            try handle.signal(signal)
        } catch {
            if error.errno == .noProcess { throw ZoneError(.wrongState, "kill: container not running: \"\(id)\"") }
            throw ZoneError("kill container \(id)", error)
        }
    }

    private func signalAll(_ entry: ZoneStore.Entry, _ signal: Int32) throws(ZoneError) {
        try attempting("kill --all \(entry.name)") { () throws(SystemError) in
            let groups = manager(entry)
            if signal == SIGKILL {
                _ = try groups.kill()
                return
            }
            for pid in try groups.processes() {
                do throws(SystemError) {
                    try ProcessHandle(pid: pid).signal(signal)
                } catch {
                    // It may end between the list and this.
                    if error.errno != .noProcess { throw error }
                }
            }
        }
    }

    /// Removes a stopped zone with everything that was made for it; `force` ends it first, and does not mind that there
    /// is none.
    public func delete(_ id: String, force: Bool) throws(ZoneError) {
        let found: ZoneStore.Entry
        do throws(ZoneError) { found = try store.findBundle(id) } catch {
            if force, error.code == .notFound { return }
            throw error
        }
        guard found.record == nil || found.record?.bundle != nil else {
            throw ZoneError(
                .wrongState, "delete: zone \(id) was made from an image, not from a bundle",
                hint: "'zonectl rm \(id)' removes it with everything in it")
        }
        try BundleRemoval(store: store, report: report).remove(found, force: force)
    }

    /// Stops all processes of a zone where they are.
    public func pause(_ id: String) throws(ZoneError) {
        let claim = try lockExisting(id)
        let entry = store.entry(id)
        guard case .running = entry.state, var record = entry.record else {
            throw ZoneError(.wrongState, "pause: container \"\(id)\" is \(entry.state.word), not running")
        }
        record.phase = .paused
        // Recorded first: killed in between, the zone is shown as paused, and `resume` puts both right.
        try store.write(record, in: claim.folder)
        do throws(SystemError) { try manager(entry).freeze() } catch {
            record.phase = .running
            try store.write(record, in: claim.folder)
            throw ZoneError("pause container \(id)", error)
        }
    }

    /// Lets a paused zone go on.
    public func resume(_ id: String) throws(ZoneError) {
        let claim = try lockExisting(id)
        let entry = store.entry(id)
        guard case .paused = entry.state, var record = entry.record else {
            throw ZoneError(.wrongState, "resume: container \"\(id)\" is \(entry.state.word), not paused")
        }
        do throws(SystemError) { try manager(entry).thaw() } catch {
            throw ZoneError("resume container \(id)", error)
        }
        record.phase = .running
        try store.write(record, in: claim.folder)
    }

    /// Changes limits: those that are given; all others stay.
    public func update(_ id: String, _ resources: Spec.Resources) throws(ZoneError) {
        let claim = try lockExisting(id)
        let entry = store.entry(id)
        guard entry.state.process != nil, let record = entry.record else {
            throw ZoneError(.wrongState, "update: container \"\(id)\" is \(entry.state.word), not running")
        }
        var change = GroupChange(record)
        try change.apply(resources) { error in
            ZoneError("update container \(id)", error)
        } write: { (record) throws(ZoneError) in
            try store.write(record, in: claim.folder)
        }
    }

    /// The lock of a zone that is there.
    private func lockExisting(_ id: String) throws(ZoneError) -> ZoneStore.BundleClaim {
        _ = try store.findBundle(id)
        return try store.lockBundle(id)
    }
}

extension BundleState {
    /// The state of a zone as it was found.
    init(_ entry: ZoneStore.Entry) {
        self.init()
        if let record = entry.record {
            self.init(record)
        }
        id = entry.name
        status = entry.state.word
        pid = entry.state.process?.pid ?? 0
    }

    /// What is recorded; `status` and `pid` are the caller's to fill.
    init(_ record: ZoneRecord) {
        self.init()
        ociVersion = record.ociVersion
        id = record.id
        bundle = record.bundle ?? ""
        rootfs = record.rootfs ?? ""
        created = record.created
        createdText = PointInTime.rfc3339(record.created)
        annotations = record.annotations
        owner = "root"
    }
}
