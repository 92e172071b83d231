// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Makes a zone from a bundle, up to where its program starts (runtime.md "Lifecycle", steps 2 to 6).
///
///     read and check the bundle   nothing is made for one that cannot work
///     claim the id, lock          ROOT/ID exists: the zone can be listed and removed from here on
///     record `creating`           with the control groups that are about to be made
///     groups, plan                every host path is opened here
///     clone3                      the child works through ``ChildSetup``; meanwhile config.json is copied
///     its requests                id maps, a systemd scope, hooks
///     record `created`            with the pid, then the engine's files and sockets
///     leave it at the gate        `create`: the child waits for `start`
///     release it                  `run`
struct BundleLauncher {
    let store: ZoneStore
    let options: RuntimeOptions
    let report: @Sendable (String) -> Void
    /// Those that are due when a start that came as far as its first process fails (runtime.md "Lifecycle" 12 and 13).
    let stopHooks = PendingHooks()

    /// A zone whose first process is set up and waits.
    struct Launched: ~Copyable {
        var launching: LaunchingProcess
        var streams: ProcessStreams?
        var record: ZoneRecord
        let bundle: Bundle
        let hooks: BundleHooks
        var claim: ZoneStore.BundleClaim?
        // What they hold open is closed once the program runs, which need not wait for that.
        fileprivate var handles: CGroupHandles?
        fileprivate var plan: LaunchPlan?
        var rollback: Rollback

        /// Lets others change the zone.
        mutating func unlock() {
            _ = claim.take()
            _ = plan.take()
            _ = handles.take()
        }
    }

    /// `waitsAtGate`: for `create`.
    func launch(
        _ request: CreateRequest,
        waitsAtGate: Bool,
        _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> Launched {
        let bundle = try Bundle(request.bundle)
        // `create` works without one; `start` then says that there is nothing to start (config.md "Process").
        if bundle.spec.process == nil, !waitsAtGate {
            throw ZoneError(.invalid, "\(bundle.path)/config.json: process: is missing: there is nothing to start")
        }
        let process = bundle.spec.process ?? Spec.Process()
        let isForeground = !waitsAtGate && !request.isDetached
        let handover = try EngineHandover.prepare(
            console: request.consoleSocket, pidfd: request.pidfdSocket, pidFile: request.pidFile,
            preserved: request.preservedDescriptors, process, isForeground: isForeground)

        let claim = try store.claimBundle(request.id)
        var rollback = Rollback()
        let id = request.id
        // Whatever cannot be removed now is still listed, and removed by `delete --force`.
        rollback.add { [store] in try? store.eraseInterrupted(id) }
        let linux = bundle.spec.linux ?? Spec.Linux()
        let isMachine = try BundleMachine.isWanted(bundle, options)
        var limited = bundle.spec
        if isMachine, let resources = limited.linux?.resources {
            limited.linux?.resources = BundleMachine.withOverhead(resources)
        }
        var (groups, resources) = try BundleGroups(
            spec: limited, id: id, driver: options.cgroups, folders: store.folders
        ).prepare()
        var record = try newRecord(id, bundle, groups)
        try store.write(record, in: claim.folder)
        try store.create(&groups, resources, &record, in: claim.folder)

        let hooks = BundleHooks(hooks: bundle.spec.hooks ?? .init(), state: BundleState(record))
        let handles = try attempting("open the control groups") { () throws(SystemError) in try groups.open() }
        var plan =
            isMachine
            ? try BundleMachine(store: store, bundle: bundle, id: id, report: report)
                .plan(groups, handles, in: claim.folder) : try makePlan(request, bundle, linux, groups)
        if isMachine, groups is SystemdScope { plan.needsParent = true }
        hooks.fill(&plan)
        if !isMachine {
            plan.process.seccompListener = linux.seccomp.flatMap { SeccompListener($0, BundleState(record)) }
        }
        // Hooks look for the zone there, and what is stacked upon "/" must not be our root's parent: it may be shared.
        if hooks.hooks.needHostRoot || plan.mounts.contains(where: { $0.keepsOrder }) {
            plan.root?.anchor = bundle.rootfs
        }
        if waitsAtGate {
            plan.gate = plan.descriptors.adopt(
                try attempting("make the start socket") { () throws(SystemError) in
                    try StartGate.make(in: claim.folder, BundleLauncher.gateName)
                })
        }
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        let streams =
            isForeground && !process.terminal ? try ProcessStreams(&plan, passesInput: true) : ProcessStreams()

        var launching: LaunchingProcess
        do throws(LaunchError) { launching = try LaunchingProcess.start(plan) } catch {
            throw ZoneError(error, container: id)
        }
        stopHooks.hooks = hooks
        // While the child mounts, on the other CPU: what exec and the hooks after this will want.
        try attempting("record container \(id)") { () throws(SystemError) in
            try claim.folder.replaceFile("config.json", bundle.configuration, mode: 0o600)
        }
        var first = try recorded(launching.process.pid, id)
        do throws(ZoneError) {
            try serve(&launching, hooks, linux, groups, resources, signals)
        } catch {
            throw error.explained(by: groups, resources)
        }
        // A process that was born in other namespaces may have taken its place.
        if first.pid != launching.process.pid { first = try recorded(launching.process.pid, id) }
        // What is not to wait is released next.
        if isMachine, !waitsAtGate { try BundleMachine.connect(id, first.pid, store) }
        record.phase = waitsAtGate ? .created : .running
        record.process = first
        try store.write(record, in: claim.folder)
        try handover.sendConsole(&launching)
        try handover.sendProcess(launching.process)
        return Launched(
            launching: launching, streams: streams, record: record, bundle: bundle, hooks: hooks, claim: claim,
            handles: handles, plan: plan, rollback: rollback)
    }

    private func recorded(_ pid: Int32, _ id: String) throws(ZoneError) -> RecordedProcess {
        try attempting("find the first process of container \(id)") { () throws(SystemError) in
            try RecordedProcess(pid)
        }
    }

    static let gateName = "start.sock"

    /// Does what the child asks for, until it only waits for its release.
    private func serve(
        _ launching: inout LaunchingProcess,
        _ hooks: BundleHooks,
        _ linux: Spec.Linux,
        _ groups: any CGroupManager,
        _ resources: Spec.Resources,
        _ signals: borrowing SignalQueue
    ) throws(ZoneError) {
        let id = hooks.state.id
        while true {
            let request: LaunchingProcess.Request
            do throws(LaunchError) { request = try launching.nextRequest(interruptedBy: signals) } catch {
                throw ZoneError(error, container: id)
            }
            let pid = launching.process.pid
            switch request {
            case .release: return
            case .prepare:
                if linux.namespaces.contains(where: { $0.type == .user && ($0.path ?? "").isEmpty }) {
                    try NamespaceFiles.writeIDMaps(linux, pid: pid)
                }
                try NamespaceFiles.writeTimeOffsets(linux.timeOffsets, pid: pid)
                if let scope = groups as? SystemdScope {
                    try attempting("make the systemd scope of container \(id)") { () throws(SystemError) in
                        try scope.start(pid: pid, resources: resources)
                    }
                }
            case .runHooks:
                try hooks.runBeforeRootChanges(pid: pid)
            }
            do throws(LaunchError) { try launching.goOn() } catch { throw ZoneError(error, container: id) }
        }
    }

    // MARK: The plan

    private func makePlan(
        _ request: CreateRequest,
        _ bundle: Bundle,
        _ linux: Spec.Linux,
        _ groups: any CGroupManager
    ) throws(ZoneError) -> LaunchPlan {
        var descriptors = DescriptorBag()
        let isNew = linux.namespaces.contains { $0.type == .mount && ($0.path ?? "").isEmpty }
        var spec = bundle.spec
        var root: RootPlan
        if isNew {
            let tree = try attempting("open the root file system") { () throws(SystemError) in
                try Descriptor.cloneTree(bundle.rootfs, recursive: true)
            }
            root = RootPlan(.tree(descriptors.adopt(tree)), anchor: "/", isReadOnly: spec.root?.readonly ?? false)
            root.pivots = request.pivots
        } else {
            leaveOutMounts(&spec)
            root = RootPlan(.directory(bundle.rootfs), anchor: "/", isReadOnly: false)
        }
        var plan = try PlanBuilder(spec: spec, bundle: bundle.path, warn: report).plan(
            root: root, cgroups: groups, seccomp: try BundleLauncher.filter(linux, store), descriptors: descriptors)
        if !isNew { plan.devices = [] }
        if groups is SystemdScope { plan.needsParent = true }
        plan.makesKeyring = request.makesKeyring
        // As all runtimes do.
        plan.process.createsWorkingDirectory = true
        plan.process.preservedDescriptors = request.preservedDescriptors
        return plan
    }

    /// Without a mount namespace of its own the zone's mounts would be the host's, or another zone's, and stay there.
    private func leaveOutMounts(_ spec: inout Spec) {
        let isPlain = spec.mounts.isEmpty && spec.linux?.maskedPaths.isEmpty ?? true
        if !isPlain || spec.root?.readonly ?? false {
            report(
                "linux.namespaces: without a new mount namespace mounts, masked paths, read-only paths and devices are left out"
            )
        }
        spec.mounts = []
        spec.linux?.maskedPaths = []
        spec.linux?.readonlyPaths = []
        spec.linux?.devices = []
    }

    /// The filter that the configuration asks for; without one there is none, as the specification has it.
    static func filter(_ linux: Spec.Linux, _ store: ZoneStore) throws(ZoneError) -> SeccompProgram? {
        guard let seccomp = linux.seccomp else { return nil }
        do throws(SeccompError) {
            return try SeccompCache(directory: store.folders.seccompCache).program(
                profile: .spec(seccomp), capabilities: [])
        } catch {
            throw ZoneError(error).inside("linux.seccomp")
        }
    }

    /// A zone's first record, before anything is made for it.
    func newRecord(
        _ id: String,
        _ bundle: Bundle,
        _ groups: any CGroupManager
    ) throws(ZoneError) -> ZoneRecord {
        var record = ZoneRecord()
        record.ociVersion = bundle.spec.ociVersion
        record.id = id
        record.store = store.folders.store
        record.keeper = try attempting("find out who runs") { () throws(SystemError) in try RecordedProcess(getpid()) }
        record.created = Int64(time(nil))
        record.cgroups = groups.directories.map(RecordedCGroup.init)
        record.command = bundle.spec.process?.args ?? []
        record.bundle = bundle.path
        record.rootfs = bundle.rootfs
        record.annotations = bundle.spec.annotations
        record.hasStartHooks = !(bundle.spec.hooks?.poststart.isEmpty ?? true)
        record.hasStopHooks = !(bundle.spec.hooks?.poststop.isEmpty ?? true)
        return record
    }
}

extension Spec.Hooks {
    /// Hooks that must find the zone below the host's root.
    var needHostRoot: Bool { !prestart.isEmpty || !createRuntime.isEmpty || !createContainer.isEmpty }
}

/// Hooks for a zone whose making fails: they come after everything that was made is gone again.
final class PendingHooks {
    var hooks: BundleHooks?

    func run(report: (String) -> Void) {
        hooks?.runAfterStop(report: report)
        hooks = nil
    }
}
