// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI
import Seccomp

extension BundleRuntime {
    /// Adds a process to a running zone. In the foreground it returns the program's exit status, as a shell shows it;
    /// detached, it returns once the program runs.
    public func exec(_ request: BundleExec) throws(ZoneError) -> Int32 {
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        let id = request.id
        let entry = try store.findBundle(id)
        let target = try execTarget(entry, request)
        guard let spec = try store.configuration(of: id) else {
            throw ZoneError(
                .wrongState, "exec: container \"\(id)\" has lost its configuration",
                hint: "'zonectl delete --force \(id)' removes it")
        }
        let process = try ExecProcess(request: request, spec: spec).process()
        if BundleMachine.runs(id, store) {
            return try BundleMachineExec(store: store, request: request, process: process, report: report)
                .run(entry, signals)
        }
        let sockets = try EngineHandover.prepare(
            console: request.consoleSocket, pidfd: request.pidfdSocket, pidFile: request.pidFile,
            preserved: request.preservedDescriptors, process, isForeground: !request.isDetached)
        let first: ProcessHandle
        do throws(SystemError) { first = try ProcessHandle(pid: target.pid) } catch {
            if error.errno != .noProcess { throw ZoneError("exec: container \"\(id)\"", error) }
            throw ZoneError(.wrongState, "exec: container not running: \"\(id)\" has just ended")
        }
        // The number could have been given to another process between the look and the open, not after it.
        guard target.isAlive else {
            throw ZoneError(.wrongState, "exec: container not running: \"\(id)\" has just ended")
        }

        var plan = LaunchPlan()
        let linux = spec.linux ?? Spec.Linux()
        let kinds = NamespaceSet(linux.namespaces.map { NamespacePlanBuilder.kind($0.type) })
        plan.joins = [NamespaceJoin(descriptor: first.raw, kinds: kinds, name: "container \(id)")]
        plan.entersRunningZone = true
        let groups = try request.cgroup.map { (path) throws(ZoneError) in try group(path, of: entry) } ?? manager(entry)
        let handles = try attempting("open the control groups of container \(id)") { () throws(SystemError) in
            try groups.open()
        }
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        plan.process = try PlanBuilder.process(
            process, try BundleLauncher.filter(linux, store), personality: linux.personality,
            ownsUsers: kinds.contains(.user), isAdded: true, warn: report)
        if let seccomp = linux.seccomp, let record = entry.record {
            plan.process.seccompListener = SeccompListener(seccomp, BundleState(record), status: "running")
        }
        plan.process.preservedDescriptors = request.preservedDescriptors
        let streams =
            !request.isDetached && !process.terminal
            ? try ProcessStreams(&plan, passesInput: true) : ProcessStreams()

        var launching: LaunchingProcess
        do throws(LaunchError) { launching = try LaunchingProcess.start(plan) } catch {
            throw ZoneError(error, container: id)
        }
        do throws(LaunchError) { try launching.waitUntilReady(interruptedBy: signals) } catch {
            throw ZoneError(error, container: id)
        }
        try sockets.sendConsole(&launching)
        do throws(LaunchError) { try launching.release(interruptedBy: signals) } catch {
            throw ZoneError(error, container: id)
        }
        drop(plan)
        drop(handles)
        // The process that was set up may have handed over to another meanwhile: only now is its number known.
        try sockets.sendProcess(launching.process)
        if request.isDetached { return 0 }
        let lost = ForegroundSession.attend(
            &launching, streams: streams, signals: signals, passesInput: true, report: report)
        let status = try attempting("wait for the process in container \(id)") { () throws(SystemError) in
            try launching.process.wait()
        }
        return lost && status.shellCode == 0 ? 255 : status.shellCode
    }

    /// The zone's groups with one below them in place of some: `PATH`, or `CONTROLLER[,CONTROLLER]:PATH` on version 1.
    private func group(_ text: String, of entry: ZoneStore.Entry) throws(ZoneError) -> any CGroupManager {
        let (first, below) = text.halves(":")
        let names = below == nil ? [] : first.fields(",")
        let path = (below ?? first).pathComponents
        guard !path.contains(".."), !path.contains("."), below == nil || !names.isEmpty else {
            throw ZoneError(
                .invalid, "--cgroup \"\(text)\" is not a group below the container's",
                hint: "give PATH, or CONTROLLER:PATH on version 1")
        }
        var isUsed = below == nil
        let directories = (entry.record?.cgroups ?? []).map { recorded in
            let own = recorded.hierarchy.fields(",")
            guard names.isEmpty || own.contains(where: names.contains) else { return recorded.directory }
            isUsed = true
            return CGroupDirectory(
                hierarchy: recorded.hierarchy, path: ([recorded.path] + path).joined(separator: "/"))
        }
        guard isUsed else {
            throw ZoneError(.invalid, "--cgroup \"\(text)\": the container has no group of such a controller")
        }
        return directories.manager
    }

    private func execTarget(_ entry: ZoneStore.Entry, _ request: BundleExec) throws(ZoneError) -> RecordedProcess {
        switch entry.state {
        case .running(let process): return process
        case .created(let process): return process
        case .paused(let process) where request.ignoresPause: return process
        case .paused:
            throw ZoneError(
                .wrongState, "exec: container \"\(entry.name)\" is paused",
                hint: "resume it first, or give --ignore-paused")
        case .creating, .restarting, .stopped, .damaged:
            throw ZoneError(
                .wrongState, "exec: container not running: \"\(entry.name)\" is \(entry.state.word)")
        }
    }
}

/// The process that an `exec` asks for.
struct ExecProcess {
    let request: BundleExec
    let spec: Spec

    private static let limit = 4 << 20

    func process() throws(ZoneError) -> Spec.Process {
        var process: Spec.Process
        if let file = request.processFile { process = try ExecProcess.read(file) } else { process = try fromFlags() }
        // Never more than what the program is given: CVE-2022-29162.
        if request.processFile == nil { process.capabilities?.inheritable = [] }
        if process.cwd.isEmpty { process.cwd = "/" }
        do throws(ZoneError) { try SpecRules.check(process) } catch {
            throw request.processFile.map { error.inside($0) } ?? error
        }
        return process
    }

    private static func read(_ path: String) throws(ZoneError) -> Spec.Process {
        let bytes = try attempting("--process") { () throws(SystemError) in try readRegularFile(path, limit: limit) }
        do throws(JSONError) { return try Spec.Process(parsing: bytes) } catch { throw ZoneError(file: path, error) }
    }

    /// The zone's own process with the command and the flags of this one.
    private func fromFlags() throws(ZoneError) -> Spec.Process {
        guard var process = spec.process else { throw ZoneError(.invalid, "config.json: process: is missing") }
        guard !request.arguments.isEmpty else {
            throw ZoneError(.invalid, "exec: no command was given", hint: "give one, or a file with --process")
        }
        process.args = request.arguments
        process.terminal = request.hasTerminal
        process.consoleSize = nil
        let names = Set(request.environment.map { $0.halves("=").0 })
        process.env = process.env.filter { !names.contains($0.halves("=").0) } + request.environment
        if let directory = request.workingDirectory { process.cwd = directory }
        if let user = request.user {
            var other = Spec.User()
            other.umask = process.user.umask
            other.username = user
            process.user = other
        }
        process.user.additionalGids += request.additionalGroups
        if let value = request.noNewPrivileges { process.noNewPrivileges = value }
        if let profile = request.apparmorProfile { process.apparmorProfile = profile }
        if let label = request.selinuxLabel { process.selinuxLabel = label }
        if !request.capabilities.isEmpty {
            var sets = process.capabilities ?? Spec.Capabilities()
            sets.bounding += request.capabilities
            sets.effective += request.capabilities
            sets.permitted += request.capabilities
            process.capabilities = sets
        }
        return process
    }
}
