// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import Images
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Starts a zone whose name is claimed and whose lock is held.
///
///     record `creating`       with the control groups that are about to be made
///     image → layers          nothing is unpacked if it was before
///     groups, overlay, plan   every host path is opened here
///                             ← the caller connects the streams
///     clone3                  the child works through ``ChildSetup``; meanwhile:
///     config.json             what the zone runs with
///     record `running`        with the pid, before the program may start
///     release                 execve
struct ZoneStarter: Sendable {
    let store: ZoneStore
    /// Gets warnings.
    let report: @Sendable (String) -> Void

    /// Who stays with the zone, and what is known of its earlier runs.
    struct Circumstances: Sendable {
        var isDetached = false
        var restarts: Int64 = 0
        /// Whether ROOT/NAME is there already and holds what its keeper needs.
        var keepsFolder = false
        /// The systemd unit whose process the keeper is, and the group that the zone gets in it, relative to the hierarchy's
        /// root; nil for the group where all zones' are.
        var unit: String?
        var cgroup: String?
    }

    /// A zone that is ready to be cloned.
    struct Prepared: ~Copyable {
        var plan: LaunchPlan
        let groups: any CGroupManager
        var record: ZoneRecord
        let volatile: Descriptor
        let handles: CGroupHandles
        let spec: Spec
        let resources: Spec.Resources
        let links: ZoneLinks
        let ports: ZonePorts
        var held: ZonePorts.Held
        /// Of a machine: what its monitor says once.
        var readiness: Descriptor?
        var isContainer = true
    }

    /// A zone whose program runs.
    struct Started: ~Copyable {
        var launching: LaunchingProcess
        var record: ZoneRecord
        let groups: any CGroupManager
    }

    /// Makes everything that the zone needs. Undoes nothing on failure.
    func prepare(
        _ definition: ZoneDefinition,
        _ image: Image,
        _ claim: borrowing ZoneStore.Claim,
        _ circumstances: Circumstances
    ) throws(ZoneError) -> Prepared {
        if definition.machine != nil { return try prepareMachine(definition, image, claim, circumstances) }
        var opened = DescriptorBag()
        let definition = try VolumeMounts(store).provided(definition, &opened)
        let zone = claim.name
        let folders = store.folders
        let own = try attemptingImage { () throws(ImageError) in try folders.images.layers(of: image) }
        let layers = definition.base == nil ? own : try store.bases(of: definition).all + own
        let volatile = try circumstances.keepsFolder ? store.openVolatile(zone) : store.makeVolatile(zone)

        let path = circumstances.cgroup ?? "\(folders.cgroupParent)/\(zone)"
        let terminalSize =
            definition.hasTerminal && !circumstances.isDetached ? Terminal.size(of: 0) ?? Terminal.size(of: 1) : nil
        let builder = SpecBuilder(
            definition: definition, image: image.configuration.config ?? .init(),
            volatile: folders.volatile(zone), persistent: folders.persistent(zone), cgroupsPath: "/\(path)",
            report: report)
        var spec = try builder.spec(windowSize: terminalSize)
        try share(definition, &spec)
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        var resources = spec.linux?.resources ?? .init()
        // An ordinary user can neither load a device filter nor make a device node.
        if Rootless.isInside { resources.devices = [] }
        var groups = try attempting("limit zone \(zone)") { () throws(SystemError) in
            try CGroups.manager(layout, path: path, for: resources)
        }

        var record = try newRecord(definition, image, spec, groups, circumstances)
        try store.write(record, in: volatile)

        try store.create(&groups, resources, &record, in: volatile)
        let ports = ZonePorts(store, definition)
        let held = try ports.take(definition.ports)
        let gateways = try NetworkStore(store).gateways(of: definition)
        try attempting("write the zone's network files") { () throws(SystemError) in
            try NetworkFiles.write(
                in: claim.persistent, hostname: spec.hostname ?? zone, definition, gateways: gateways,
                shared: definition.networkZone.map(folders.persistent))
            try SystemZone.writeFiles(definition, in: claim.persistent)
        }
        let delegated = try SystemZone.delegate(definition, groups, &spec)
        var plan = try makePlan(definition, spec, layers, delegated?.view ?? groups, in: claim.persistent)
        let handles = try attempting("open the control groups") { () throws(SystemError) in try groups.open() }
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        if let delegated {
            let group = try attempting("open the control groups") { () throws(SystemError) in try delegated.open() }
            plan.cgroup.unified = plan.descriptors.adopt(group)
        }
        return Prepared(
            plan: plan, groups: groups, record: record, volatile: volatile, handles: handles, spec: spec,
            resources: resources, links: ZoneLinks(store, definition, report: report), ports: ports, held: held,
            readiness: nil)
    }

    /// Starts the program. A signal that means "end" stops that.
    func launch(
        _ prepared: consuming Prepared, interruptedBy signals: borrowing SignalQueue
    ) throws(ZoneError) -> Started {
        let zone = prepared.record.id
        var launching: LaunchingProcess
        do throws(LaunchError) { launching = try LaunchingProcess.start(prepared.plan) } catch {
            throw ZoneError(error, zone: zone)
        }
        // While the child mounts, on the other CPU: what exec and inspect will want.
        do throws(SystemError) {
            try prepared.volatile.replaceFile("config.json", prepared.spec.serialized(), mode: 0o600)
        } catch {
            throw ZoneError("record zone \(zone)", error)
        }
        let pid = launching.process.pid
        do throws(ZoneError) {
            // A machine's cards are taps, which it has already.
            if prepared.isContainer { try prepared.links.connect(pid) }
            try prepared.ports.serve(prepared.held, process: launching.process, in: prepared.volatile)
        } catch {
            // Where the child has failed meanwhile, that is the reason.
            do throws(LaunchError) { try launching.waitUntilReady(interruptedBy: signals) } catch {
                throw ZoneError(error, zone: zone)
            }
            throw error
        }
        prepared.record.phase = .running
        prepared.record.process = try attempting("find the zone's first process") { () throws(SystemError) in
            try RecordedProcess(pid)
        }
        do throws(LaunchError) {
            try launching.waitUntilReady(interruptedBy: signals)
        } catch {
            throw ZoneError(error, zone: zone).explained(by: prepared.groups, prepared.resources)
        }
        // Before release: from here on the zone is found by its pid, whatever becomes of this process.
        try store.write(prepared.record, in: prepared.volatile)
        do throws(LaunchError) {
            try launching.release(interruptedBy: signals)
        } catch {
            throw ZoneError(error, zone: zone)
        }
        if let readiness = prepared.readiness.take() {
            // Else the pipe would not end with the monitor.
            prepared.plan.descriptors.closeAll()
            try awaitMachine(readiness, zone, &launching, signals, prepared.groups, prepared.resources)
        }
        return Started(launching: launching, record: prepared.record, groups: prepared.groups)
    }

    /// Lets the zone be in another one's network namespace.
    private func share(_ definition: ZoneDefinition, _ spec: inout Spec) throws(ZoneError) {
        guard definition.network == .zone, let other = definition.networkZone else { return }
        let entry = store.entry(try store.find(other).name)
        guard let process = entry.state.process, process.isAlive else {
            throw ZoneError(
                .wrongState,
                "zone \(definition.name) shares the network of zone \(other), which is \(entry.state.word)",
                hint: "start that first: 'zonectl start \(other)'")
        }
        var namespace = Spec.Namespace(.network)
        namespace.path = "/proc/\(process.pid)/ns/net"
        spec.linux?.namespaces.append(namespace)
    }

    func newRecord(
        _ definition: ZoneDefinition,
        _ image: Image,
        _ spec: Spec,
        _ groups: any CGroupManager,
        _ circumstances: Circumstances
    ) throws(ZoneError) -> ZoneRecord {
        var record = ZoneRecord()
        record.id = definition.name
        record.store = store.folders.store
        record.keeper = try attempting("find out who runs") { () throws(SystemError) in try RecordedProcess(getpid()) }
        record.isDetached = circumstances.isDetached
        record.restarts = circumstances.restarts
        record.unit = circumstances.unit
        let now = Int64(time(nil))
        record.created = definition.created ?? now
        record.started = now
        record.cgroups = groups.directories.map(RecordedCGroup.init)
        record.image = image.name
        record.isChecked = circumstances.isDetached && HealthPolicy.of(definition, image) != nil
        record.command = spec.process?.args ?? []
        record.isConnected = !definition.networks.isEmpty
        record.ports = definition.ports.map(\.text)
        if definition.machine != nil { record.type = definition.type }
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
        let place = folders.persistent(definition.name)
        let overlay = OverlayRoot(layers: layers, store: folders.store, zone: place)
        let root: RootPlan
        if let limit = definition.storageLimit {
            root = try overlay.prepare(
                definition, limit, at: place, anchor: folders.root, in: persistent, &descriptors, report: report)
        } else {
            root = try overlay.prepare(
                anchor: folders.root, isReadOnly: definition.isReadOnly, isVolatile: definition.autoRemove,
                in: persistent, &descriptors, report: report)
        }
        var plan = try PlanBuilder(spec: spec).plan(
            root: root, cgroups: groups, seccomp: try seccompProgram(definition, spec), descriptors: descriptors)
        plan.process.createsWorkingDirectory = true
        plan.process.runsInit = definition.runsInit
        plan.process.ownsTerminal = definition.initSystem == nil
        return plan
    }

    private func seccompProgram(_ definition: ZoneDefinition, _ spec: Spec) throws(ZoneError) -> SeccompProgram? {
        try SeccompPolicy(definition.seccompProfile).program(
            cache: store.folders.seccompCache, capabilities: spec.process?.capabilities?.bounding ?? [])
    }
}

extension ZoneStore {
    /// Makes control groups that are recorded; where an ordinary user has no right to, and needs none, the zone does without.
    func create(
        _ groups: inout any CGroupManager, _ resources: Spec.Resources, _ record: inout ZoneRecord,
        in folder: borrowing Descriptor
    ) throws(ZoneError) {
        do throws(SystemError) { try groups.create(resources) } catch {
            let refused = groups
            groups = try BundleGroups.withoutRights(error, resources, zone: record.id)
            try? refused.remove()
            record.cgroups = []
            try write(record, in: folder)
        }
    }
}

func attemptingImage<R: ~Copyable>(_ body: () throws(ImageError) -> R) throws(ZoneError) -> R {
    do throws(ImageError) { return try body() } catch { throw ZoneError(error) }
}

extension ZoneError {
    /// The same error, with what the groups know: a zone may be too small to start in.
    func explained(by groups: any CGroupManager, _ resources: Spec.Resources) -> ZoneError {
        guard let limit = resources.memory?.limit, let kills = try? groups.memoryKills(), kills > 0 else { return self }
        return ZoneError(
            code, "\(detail): out of memory at the limit of \(ByteSize.text(limit))", hint: "raise it with --memory")
    }
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
