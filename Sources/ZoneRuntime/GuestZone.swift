// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import LinuxSystem
import Namespaces
import OCI

/// The zone of a machine: what was configured, and its first process.
final class GuestZone {
    private let configuration: GuestConfiguration
    /// Mounted for the first process, and given to it.
    private var root: Descriptor?
    private var first: ProcessHandle?
    private var hasRun = false

    /// For sentences.
    var name: String { configuration.zone.isEmpty ? configuration.hostname : configuration.zone }

    /// Makes what the zone needs before anything runs in it.
    init(_ configuration: GuestConfiguration, _ modules: inout GuestModules) throws(ZoneError) {
        self.configuration = configuration
        GuestZone.setClock(configuration.time)
        if !configuration.hostname.isEmpty {
            let name = configuration.hostname
            try attempting("set the host name") { () throws(SystemError) in
                _ = try check(zn_sethostname(name, name.utf8.count), "sethostname", name)
            }
        }
        try GuestZone.load(&modules, configuration)
        try GuestNetwork.configure(configuration.interfaces)
        if configuration.hasShares { try GuestRootMount.mountShares() }
        try GuestZone.write(configuration.files)
        root = try GuestRootMount(root: configuration.root).mount()
    }

    private static func load(_ modules: inout GuestModules, _ configuration: GuestConfiguration) throws(ZoneError) {
        do throws(SystemError) {
            try modules.load("base")
            if !configuration.interfaces.isEmpty { try modules.load("net") }
            if configuration.hasShares { try modules.load("share") }
        } catch {
            throw ZoneError("load the machine's drivers", error)
        }
    }

    /// A second or less is the host's wish for a message in the past.
    private static func setClock(_ wanted: Int64) {
        let now = FileStatus.now / 1_000_000
        let distance = now.subtractingReportingOverflow(wanted)
        if wanted > 0, distance.overflow || distance.partialValue.magnitude > 1000 { _ = zn_set_clock(wanted) }
    }

    private static func write(_ files: [GuestFile]) throws(ZoneError) {
        if files.isEmpty { return }
        try attempting("write the zone's files") { () throws(SystemError) in
            let folder = try Descriptor.makePath(GuestConfiguration.filePlace)
            for entry in files {
                let file = try folder.open(
                    entry.name, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600, resolve: .beneath)
                try file.writeAll(entry.content, entry.name)
                try check(
                    zn_fchmod(file.raw, mode_t(truncatingIfNeeded: entry.mode & 0o7777)), "chmod", entry.name)
            }
        }
    }

    // MARK: Programs

    /// A program that runs, with the agent's ends of its streams.
    struct Started: ~Copyable {
        let process: ProcessHandle
        let streams: GuestStreams
    }

    /// Starts the zone's own program.
    func run(isInteractive: Bool, _ signals: borrowing SignalQueue) throws(ZoneError) -> Started {
        guard let tree = root.take() else {
            throw ZoneError(.wrongState, "zone \(name): its program was started before")
        }
        var spec = configuration.spec
        var linux = spec.linux ?? Spec.Linux()
        // The machine is these by itself.
        linux.namespaces.removeAll { [.network, .user, .cgroup].contains($0.type) || $0.path?.isEmpty == false }
        if !linux.namespaces.contains(where: { $0.type == .mount }) { linux.namespaces.append(.init(.mount)) }
        spec.linux = linux
        var descriptors = DescriptorBag()
        // The first file system of a kernel cannot be pivoted from.
        var place = RootPlan(
            .tree(descriptors.adopt(tree)), anchor: "/",
            isReadOnly: configuration.root.isReadOnly || spec.root?.readonly == true)
        place.pivots = false
        var plan = try PlanBuilder(spec: spec).plan(
            root: place, cgroups: CGroups.disabled(), seccomp: nil, descriptors: descriptors)
        plan.process.createsWorkingDirectory = true
        plan.process.runsInit = configuration.runsInit
        plan.process.ownsTerminal = !configuration.isInitSystem
        let started = try launch(plan, isInteractive: isInteractive, signals)
        first = try attempting("hold the zone's first process") { () throws(SystemError) in
            try started.process.duplicate()
        }
        return started
    }

    /// Starts another program in the zone.
    func execute(
        _ process: Spec.Process, isInteractive: Bool, _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> Started {
        let pidfd = try firstProcess("exec")
        var kinds: NamespaceSet = [.mount]
        for namespace in configuration.spec.linux?.namespaces ?? [] {
            let kind = NamespacePlanBuilder.kind(namespace.type)
            if ([.uts, .ipc, .pid] as NamespaceSet).contains(kind) { kinds.insert(kind) }
        }
        var plan = LaunchPlan()
        plan.joins = [NamespaceJoin(descriptor: pidfd, kinds: kinds, name: "zone \(name)")]
        plan.entersRunningZone = true
        plan.process = try PlanBuilder.process(process, nil, isAdded: true)
        return try launch(plan, isInteractive: isInteractive, signals)
    }

    /// The zone's root, as its first process sees it.
    func openRoot(for verb: String) throws(ZoneError) -> ZoneTree {
        _ = try firstProcess(verb)
        guard let pid = first?.pid else { throw ended(verb) }
        let root = try attempting("\(verb): open the root of zone \(name)") { () throws(SystemError) in
            try Descriptor.open("/proc/\(pid)/root", [.path, .directory])
        }
        return ZoneTree(name, root: root)
    }

    /// The zone's first process, which has not ended.
    private func firstProcess(_ verb: String) throws(ZoneError) -> CInt {
        guard let raw = first?.raw else { throw ZoneError(.wrongState, "\(verb): zone \(name) does not run yet") }
        let hasEnded = try attempting("look at zone \(name)") { () throws(SystemError) in
            try waitReadable(raw, milliseconds: 0)
        }
        if hasEnded { throw ended(verb) }
        return raw
    }

    private func ended(_ verb: String) -> ZoneError {
        ZoneError(.wrongState, "\(verb): zone \(name) has just ended")
    }

    private func launch(
        _ plan: consuming LaunchPlan, isInteractive: Bool, _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> Started {
        var plan = plan
        var streams = try GuestStreams(&plan, isInteractive: isInteractive)
        var launching = try start(plan, signals)
        // With the program's own ends of its streams.
        drop(plan)
        do throws(SystemError) {
            if let console = launching.takeConsole() { try streams.adopt(console) }
            return Started(process: try launching.process.duplicate(), streams: streams)
        } catch {
            throw ZoneError("hold the program", error)
        }
    }

    private func start(
        _ plan: borrowing LaunchPlan, _ signals: borrowing SignalQueue
    ) throws(ZoneError) -> LaunchingProcess {
        do throws(LaunchError) {
            var launching = try LaunchingProcess.start(plan)
            try launching.waitUntilReady(interruptedBy: signals)
            try launching.release(interruptedBy: signals)
            return launching
        } catch {
            throw ZoneError(error, zone: name)
        }
    }
}
