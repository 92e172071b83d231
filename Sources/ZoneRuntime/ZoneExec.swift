// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// A process that is added to a running zone.
public struct ExecRequest: Sendable {
    public var arguments: [String] = []
    /// Added to the zone's own, or in place of entries of the same name.
    public var environment: [String] = []
    /// The zone's own variables are left out: a login begins with few.
    var isLogin = false
    public var workingDirectory: String?
    public var user: String?
    public var isInteractive = false
    public var hasTerminal = false

    public init() {}
}

/// Executes a program in a running zone and stays with it until it ends.
public struct ZoneExecutor: Sendable {
    private let store: ZoneStore
    private let report: @Sendable (String) -> Void

    /// `report` gets lines for people.
    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void) {
        store = ZoneStore(folders)
        self.report = report
    }

    /// Returns the program's exit status, as a shell shows it.
    public func exec(_ request: ExecRequest, in name: String) throws(ZoneError) -> Int32 {
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        let entry = try store.find(name)
        let zone = entry.name
        let target = try entry.state.runningProcess(for: "exec", of: zone)
        guard let spec = try store.configuration(of: zone), let definition = try store.definition(of: zone) else {
            throw ZoneError(
                .wrongState, "exec: zone \(zone) has lost its configuration", hint: "'zonectl rm -f \(zone)' removes it"
            )
        }
        if let machine = definition.machine {
            return try MachineVerbs(store).exec(request, in: zone, definition, machine, signals, report: report)
        }
        let first = try open(target, zone)

        var plan = LaunchPlan()
        let kinds: NamespaceSet = [.mount, .uts, .ipc, .network, .pid, .cgroup]
        plan.joins = [NamespaceJoin(descriptor: first.raw, kinds: kinds, name: "zone \(zone)")]
        plan.entersRunningZone = true
        let groups = (entry.record?.cgroups ?? []).map(\.directory).manager
        let handles = try attempting("open the control groups of zone \(zone)") { () throws(SystemError) in
            try groups.open()
        }
        let delegated = try DelegatedCGroup.open(definition, groups, target)
        plan.cgroup.unified = Descriptor.number(of: delegated) ?? handles.unified
        plan.cgroup.tasks = handles.tasks
        let process = try ZoneExecutor.process(request, spec)
        let seccomp = try SeccompPolicy(definition.seccompProfile).program(
            cache: store.folders.seccompCache, capabilities: process.capabilities?.bounding ?? [])
        plan.process = try PlanBuilder.process(process, seccomp, isAdded: true)
        // Nobody would wait for it, and a health check that hangs would stay in the zone each time.
        plan.process.diesWithLauncher = true
        let streams =
            request.hasTerminal ? ProcessStreams() : try ProcessStreams(&plan, passesInput: request.isInteractive)

        var launching = try start(plan, zone, signals)
        drop(plan)
        drop(handles)
        // No arguments: there may be passwords among them.
        EventLog(store.folders).record(.exec, zone: zone, ["command": request.arguments.first ?? ""])
        let lost = ForegroundSession.attend(
            &launching, streams: streams, signals: signals, passesInput: request.isInteractive, report: report)
        let status = try attempting("wait for the process in zone \(zone)") { () throws(SystemError) in
            try launching.process.wait()
        }
        return lost && status.shellCode == 0 ? 125 : status.shellCode
    }

    private func start(
        _ plan: borrowing LaunchPlan,
        _ zone: String,
        _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> LaunchingProcess {
        do throws(LaunchError) {
            var launching = try LaunchingProcess.start(plan)
            try launching.waitUntilReady(interruptedBy: signals)
            try launching.release(interruptedBy: signals)
            return launching
        } catch {
            throw ZoneError(error, zone: zone)
        }
    }

    /// Opens the zone's first process and makes sure that it still is that process.
    private func open(_ recorded: RecordedProcess, _ zone: String) throws(ZoneError) -> ProcessHandle {
        let handle: ProcessHandle
        do throws(SystemError) { handle = try ProcessHandle(pid: recorded.pid) } catch {
            if error.errno != .noProcess { throw ZoneError("exec: zone \(zone)", error) }
            throw ZoneError(.wrongState, "exec: zone \(zone) has just ended")
        }
        // The number could have been given to another process between the look and the open, not after it.
        guard recorded.isAlive else { throw ZoneError(.wrongState, "exec: zone \(zone) has just ended") }
        return handle
    }

    static func process(_ request: ExecRequest, _ spec: Spec) throws(ZoneError) -> Spec.Process {
        guard var process = spec.process else { throw ZoneError(.invalid, "config.json: process: is missing") }
        process.args = request.arguments
        process.terminal = request.hasTerminal
        process.consoleSize = nil
        if request.hasTerminal, let size = Terminal.size(of: 0) ?? Terminal.size(of: 1) {
            process.consoleSize = Spec.ConsoleSize(height: size.rows, width: size.columns)
        }
        let added = request.hasTerminal && !request.isLogin ? ["TERM=xterm"] + request.environment : request.environment
        if request.isLogin { process.env = [] }
        let names = Set(added.map { $0.halves("=").0 })
        process.env = process.env.filter { !names.contains($0.halves("=").0) } + added
        if let directory = request.workingDirectory { process.cwd = directory }
        if let user = request.user {
            process.user = Spec.User()
            process.user.username = user
        }
        return process
    }
}
