// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import Images
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Starts a zone in the foreground and stays with it until it ends.
///
///     claim the name, lock    STORE/zones/NAME exists: the zone can be listed and removed from here on
///     record `creating`       with the control groups that are about to be made
///     image → layers          nothing is unpacked if it was before
///     groups, overlay, plan   every host path is opened here
///     clone3                  the child works through ``ChildSetup``; meanwhile:
///     config.json             what the zone runs with
///     record `running`        with the pid, before the program may start
///     release                 execve
///     wait                    terminal and signals are passed on
///     record `stopped`        or remove everything, with --rm
public struct ZoneRunner: Sendable {
    private let store: ZoneStore
    /// Gets lines for people: warnings and the reason why the kernel killed something.
    private let report: @Sendable (String) -> Void

    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void) {
        store = ZoneStore(folders)
        self.report = report
    }

    /// Runs the zone and returns its first process's exit status, as a shell shows it.
    public func run(_ wanted: ZoneDefinition, name: String?) throws(ZoneError) -> Int32 {
        // Before anything can wait for them; children start with an empty mask.
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        let folders = store.folders
        let image = try attemptingImage { () throws(ImageError) in try folders.images.find(wanted.image) }
        let claim = try store.claim(name)
        var rollback = Rollback()
        let zone = claim.name
        // Whatever cannot be removed now is still listed, and removed by `rm -f`.
        rollback.add { [store] in try? store.eraseInterrupted(zone) }
        var definition = wanted
        definition.name = zone
        definition.image = image.name
        definition.imageDigest = image.digest
        // Before the layers are looked up: an image that a definition names is not removed.
        try store.write(definition, in: claim.persistent)
        let layers = try attemptingImage { () throws(ImageError) in try folders.images.layers(of: image) }
        let volatile = try store.makeVolatile(zone)

        let parent = folders.cgroupParent
        let terminalSize = definition.hasTerminal ? Terminal.size(of: 0) ?? Terminal.size(of: 1) : nil
        let builder = SpecBuilder(
            definition: definition, image: image.configuration.config ?? .init(),
            volatile: folders.volatile(zone), persistent: folders.persistent(zone), cgroupsPath: "/\(parent)/\(zone)")
        let spec = try builder.spec(windowSize: terminalSize)
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        var resources = spec.linux?.resources ?? .init()
        // An ordinary user can neither load a device filter nor make a device node.
        if Rootless.isInside { resources.devices = [] }
        var groups = try attempting("limit zone \(zone)") { () throws(SystemError) in
            try CGroups.manager(layout, path: "\(parent)/\(zone)", for: resources)
        }

        var record = try newRecord(zone, image.name, spec, groups)
        try store.write(record, in: volatile)

        do throws(SystemError) { try groups.create(resources) } catch {
            let refused = groups
            groups = try BundleGroups.withoutRights(error, resources, zone: zone)
            try? refused.remove()
            record.cgroups = []
            try store.write(record, in: volatile)
        }
        try attempting("write the zone's network files") { () throws(SystemError) in
            try NetworkFiles.write(in: claim.persistent, hostname: spec.hostname ?? zone, network: definition.network)
        }
        var plan = try makePlan(definition, spec, layers, groups, in: claim.persistent)
        let handles = try attempting("open the control groups") { () throws(SystemError) in try groups.open() }
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        let streams =
            definition.hasTerminal
            ? ProcessStreams() : try ProcessStreams(&plan, passesInput: definition.isInteractive)

        var launching: LaunchingProcess
        do throws(LaunchError) { launching = try LaunchingProcess.start(plan) } catch {
            throw ZoneError(error, zone: zone)
        }
        // While the child mounts, on the other CPU: what exec and inspect will want.
        do throws(SystemError) { try volatile.replaceFile("config.json", spec.serialized(), mode: 0o600) } catch {
            throw ZoneError("record zone \(zone)", error)
        }
        let pid = launching.process.pid
        record.phase = .running
        record.process = try attempting("find the zone's first process") { () throws(SystemError) in
            try RecordedProcess(pid)
        }
        do throws(LaunchError) {
            try launching.waitUntilReady(interruptedBy: signals)
        } catch {
            throw ZoneError(error, zone: zone).explained(by: groups, resources)
        }
        // Before release: from here on the zone is found by its pid, whatever becomes of this process.
        try store.write(record, in: volatile)
        do throws(LaunchError) {
            try launching.release(interruptedBy: signals)
        } catch {
            throw ZoneError(error, zone: zone)
        }
        rollback.commit()
        drop(claim)
        // Nothing of the zone's root may be held by who only waits for it.
        drop(plan)
        drop(handles)
        let events = EventLog(folders)
        events.record(.start, zone: zone, ["image": image.name])

        let lost = ForegroundSession.attend(
            &launching, streams: streams, signals: signals, passesInput: definition.isInteractive, report: report)
        let status = try attempting("wait for zone \(zone)") { () throws(SystemError) in
            try launching.process.wait()
        }
        events.record(.die, zone: zone, ["exitCode": String(status.shellCode)])
        // The program's status is told also when its remains cannot be removed: the next `rm` will.
        do throws(ZoneError) {
            try finish(zone, &record, status, groups, removes: definition.autoRemove)
        } catch {
            report("\(error)")
        }
        return lost && status.shellCode == 0 ? 125 : status.shellCode
    }

    private func newRecord(
        _ zone: String,
        _ image: String,
        _ spec: Spec,
        _ groups: any CGroupManager
    ) throws(ZoneError) -> ZoneRecord {
        var record = ZoneRecord()
        record.id = zone
        record.store = store.folders.store
        record.keeper = try attempting("find out who runs") { () throws(SystemError) in try RecordedProcess(getpid()) }
        record.created = Int64(time(nil))
        record.cgroups = groups.directories.map(RecordedCGroup.init)
        record.image = image
        record.command = spec.process?.args ?? []
        return record
    }

    /// Opens what the zone gets from the host, and makes its root.
    private func makePlan(
        _ definition: ZoneDefinition,
        _ spec: Spec,
        _ layers: [String],
        _ groups: any CGroupManager,
        in persistent: borrowing Descriptor
    ) throws(ZoneError) -> LaunchPlan {
        let folders = store.folders
        var descriptors = DescriptorBag()
        let overlay = OverlayRoot(layers: layers, store: folders.store, zone: folders.persistent(definition.name))
        let root = try overlay.prepare(
            anchor: folders.root, isReadOnly: definition.isReadOnly, isVolatile: definition.autoRemove,
            in: persistent, &descriptors)
        var plan = try PlanBuilder(spec: spec).plan(
            root: root, cgroups: groups, seccomp: try seccompProgram(definition, spec), descriptors: descriptors)
        plan.process.createsWorkingDirectory = true
        plan.process.runsInit = definition.runsInit
        return plan
    }

    /// Records or removes a zone that has ended.
    private func finish(
        _ zone: String,
        _ record: inout ZoneRecord,
        _ status: ExitStatus,
        _ groups: any CGroupManager,
        removes: Bool
    ) throws(ZoneError) {
        // `rm -f` from elsewhere may have ended and removed the zone; then there is nothing left to do.
        let claim: ZoneStore.Claim
        do throws(ZoneError) { claim = try store.lock(zone) } catch {
            if error.code == .notFound { return }
            throw error
        }
        // A zone of the same name that was made since is not ours.
        guard try store.record(of: zone)?.process == record.process else { return }
        reportMemoryKills(zone, groups)
        if removes {
            try store.erase(zone, cgroups: groups.directories)
            EventLog(store.folders).record(.remove, zone: zone)
        } else {
            try attempting("remove the control groups of zone \(zone)") { () throws(SystemError) in try groups.remove()
            }
            record.phase = .stopped
            record.exitCode = status.shellCode
            record.finished = Int64(time(nil))
            record.cgroups = []
            try store.write(record, in: try store.openVolatile(zone))
        }
        drop(claim)
    }

    /// Says why something was killed: exit status 137 alone does not tell a memory limit from an administrator.
    private func reportMemoryKills(_ zone: String, _ groups: any CGroupManager) {
        // Without the counter there is nothing to say.
        guard let kills = try? groups.memoryKills(), kills > 0 else { return }
        let limit = (try? store.configuration(of: zone))?.linux?.resources?.memory?.limit
        let bound = limit.map { " at the limit of \(ByteSize.text($0))" } ?? ""
        report(
            "zone \(zone): out of memory: \(kills) process\(kills == 1 ? "" : "es") killed\(bound); raise it with --memory"
        )
    }

    private func seccompProgram(_ definition: ZoneDefinition, _ spec: Spec) throws(ZoneError) -> SeccompProgram? {
        try SeccompPolicy(definition.seccompProfile).program(
            cache: store.folders.seccompCache, capabilities: spec.process?.capabilities?.bounding ?? [])
    }

    private func attemptingImage<R>(_ body: () throws(ImageError) -> R) throws(ZoneError) -> R {
        do throws(ImageError) { return try body() } catch { throw ZoneError(error) }
    }
}

extension ZoneError {
    /// The same error, with what the groups know: a zone may be too small to start in.
    func explained(by groups: any CGroupManager, _ resources: Spec.Resources) -> ZoneError {
        guard let limit = resources.memory?.limit, let kills = try? groups.memoryKills(), kills > 0 else { return self }
        return ZoneError(
            code, "\(detail): out of memory at the limit of \(ByteSize.text(limit))", hint: "raise it with --memory")
    }
}

/// Ends a value's life here, with what its `deinit` does.
func drop<T: ~Copyable>(_ value: consuming T) {
    _ = consume value
}

extension SignalSet {
    /// What a foreground zonectl passes on, besides the window's size: the catchable signals that other processes send.
    static let forwarded = SignalSet([SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH, SIGCONT])
}

/// Which filter a zone's processes get.
struct SeccompPolicy {
    private let profile: String?

    /// `unconfined`, an absolute path, or `nil` for the default profile.
    init(_ profile: String?) {
        self.profile = profile
    }

    func program(cache: String, capabilities: [String]) throws(ZoneError) -> SeccompProgram? {
        if profile == "unconfined" { return nil }
        do throws(SeccompError) {
            let source: ProfileSource = profile.map { .file($0) } ?? .distribution
            return try SeccompCache(directory: cache).program(profile: source, capabilities: capabilities)
        } catch {
            throw ZoneError(error)
        }
    }
}
