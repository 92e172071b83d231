// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import HVBridge
import Images
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Makes everything that a virtual machine needs, and a launch plan for its monitor: the part of ``ZoneStarter`` that differs
/// from a container's. Descriptors keep their numbers in the monitor and in QEMU.
struct MachineStart: ~Copyable {
    let store: ZoneStore
    let definition: ZoneDefinition
    let machine: MachineSettings
    let image: Image
    let report: @Sendable (String) -> Void

    var descriptors = DescriptorBag()
    var run: MachineRun
    var description: MachineDescription
    /// Mounts of the machine's namespace beside those that every machine has.
    var mounts: [Spec.Mount] = []
    var shares = MachineShares()
    /// Of the terminal that somebody sits at.
    var windowSize: WindowSize?
    /// In the place of a network namespace of its own, which is empty.
    var networkNamespace: CInt?
    /// What the machine's processes run with.
    private(set) var spec = Spec()
    /// Our end of what the monitor says once.
    private var readiness: Descriptor?

    var zone: String { definition.name }

    init(
        _ store: ZoneStore, _ definition: ZoneDefinition, _ machine: MachineSettings, _ image: Image,
        report: @escaping @Sendable (String) -> Void
    ) throws(ZoneError) {
        // All that can fail first: what owns descriptors is made whole or not at all.
        let architecture = try machine.guestArchitecture()
        let decision = try machine.decideAccelerator(architecture)
        let cpus = try machine.topology(definition)
        let pins = try machine.pinnedCPUs()
        if let reason = decision.reason { report(reason) }
        var description = MachineDescription(
            name: definition.name, uuid: machine.uuid, architecture: architecture,
            board: machine.kind == .micro ? architecture.microBoard : architecture.board,
            accelerator: decision.accelerator,
            memory: .init(bytes: machine.guestMemory(definition)))
        description.cpu = .init(sockets: Int(cpus.sockets), cores: Int(cpus.cores), threads: Int(cpus.threads))
        description.startsPaused = true
        description.isWindows = machine.isWindows
        description.clock = machine.clock == .localtime ? .localtime : .utc
        // Without KVM each page that is given back is translated code's and device emulation's to find again: it costs a third of a disk's
        // and a network's throughput.
        description.balloon =
            machine.hasBalloon
            ? MachineDescription.Balloon(reportsFreePages: decision.accelerator == .kvm) : nil
        if let size = machine.hugePages { description.memory.backing = .hugePages(bytes: size) }
        if [.pseries, .s390ccw].contains(description.board) { description.hotplugPorts = 0 }
        var run = MachineRun()
        run.name = definition.name
        run.isInteractive = definition.isInteractive
        run.hasTerminal = definition.hasTerminal
        run.isEphemeral = definition.autoRemove
        run.stopMilliseconds = Int64(ZoneControl.stopTimeout(definition)) * 1000
        run.pins = pins
        run.processors = cpus.sockets * cpus.cores * cpus.threads
        self.store = store
        self.definition = definition
        self.machine = machine
        self.image = image
        self.report = report
        self.description = description
        self.run = run
    }

    var user: UInt32 { UInt32(clamping: machine.user) }
    var root: MachineRoot { MachineRoot(store: store, name: zone, user: user) }

    /// A pair of connected sockets: ours, and QEMU's.
    mutating func socketPair(_ what: String) throws(ZoneError) -> (own: CInt, qemu: CInt) {
        var ends: [CInt] = [-1, -1]
        _ = try attempting("connect \(what) of machine \(zone)") { () throws(SystemError) in
            try check(zn_socketpair_stream(&ends), "socketpair")
        }
        let own = descriptors.adopt(Descriptor(owning: ends[0]))
        let other = descriptors.adopt(Descriptor(owning: ends[1]))
        return (own, pass(other))
    }

    /// Lets QEMU inherit a descriptor.
    mutating func pass(_ number: CInt) -> CInt {
        run.descriptors.append(number)
        return number
    }

    // MARK: The plan

    /// `handles`, `groups`: of the zone. `persistent`, `volatile`: its folders.
    mutating func plan(
        _ groups: any CGroupManager, _ handles: borrowing CGroupHandles, cgroupsPath: String,
        in persistent: borrowing Descriptor, _ volatile: borrowing Descriptor, links: ZoneLinks,
        _ resources: Spec.Resources
    ) throws(ZoneError) -> LaunchPlan {
        drop(try root.makeFolder(in: volatile))
        try connectMonitor()
        try connectNetworks(links)
        switch machine.kind {
        case .micro: try prepareMicro(in: persistent, volatile)
        case .full: try prepareFull(in: persistent, volatile)
        }
        return try finish(groups, handles, cgroupsPath: cgroupsPath, in: volatile, resources)
    }

    mutating func connectMonitor() throws(ZoneError) {
        let qmp = try socketPair("QMP")
        run.qmp = qmp.own
        description.qmp = qmp.qemu
    }

    /// All that is the same for every machine, once its devices are known.
    mutating func finish(
        _ groups: any CGroupManager, _ handles: borrowing CGroupHandles, cgroupsPath: String,
        in volatile: borrowing Descriptor, _ resources: Spec.Resources
    ) throws(ZoneError) -> LaunchPlan {
        let seccomp = try SeccompPolicy(nil).program(cache: store.folders.seccompCache, capabilities: [])
        if !shares.isEmpty {
            let own = try SeccompPolicy(nil).program(
                cache: store.folders.seccompCache, capabilities: MachineShares.capabilities)
            let socket = try shares.serve(
                root, groups: groups, handles: handles, cgroupsPath: cgroupsPath, seccomp: own)
            if description.memory.backing == .plain { description.memory.backing = .shared }
            description.shares = [.init(tag: GuestConfiguration.shareTag, socket: pass(descriptors.adopt(socket)))]
        }
        try makeControl(in: volatile)
        run.program = try findProgram()
        do throws(MachineFault) {
            run.arguments = try description.arguments()
        } catch {
            throw ZoneError(error, zone: zone)
        }
        return try makePlan(groups, cgroupsPath: cgroupsPath, seccomp, resources)
    }

    private func findProgram() throws(ZoneError) -> String {
        let architecture = description.architecture
        do throws(SystemError) { return try HostProgram.find(architecture.program) } catch {
            throw ZoneError(
                .unsupported, "machine \(zone): \(architecture.program) is missing",
                hint: "install Debian's package \(architecture.programPackage)")
        }
    }

    private mutating func connectNetworks(_ links: ZoneLinks) throws(ZoneError) {
        for (index, attachment) in definition.networks.enumerated() {
            let tap = try links.tap(attachment)
            var nic = MachineDescription.NIC(
                id: "nic\(index)", mac: attachment.mac, tap: pass(descriptors.adopt(tap)))
            nic.model = machine.card
            if machine.kind == .full, machine.boot?.utf8.contains(UInt8(ascii: "n")) ?? false {
                nic.bootIndex = 100 + index
            }
            description.nics.append(nic)
        }
    }

    /// The sockets by which others reach the monitor.
    private mutating func makeControl(in volatile: borrowing Descriptor) throws(ZoneError) {
        try attempting("make the socket of machine \(zone)") { () throws(SystemError) in
            if (try? volatile.status(MachineMonitor.name)) != nil { try volatile.remove(MachineMonitor.name) }
            let path = "/proc/self/fd/\(volatile.raw)/\(MachineMonitor.name)"
            run.control = descriptors.adopt(
                Descriptor(owning: try check(zn_unix_listen(path, 1), "listen", MachineMonitor.name)))
            let pipe = try Pipe()
            readiness = try pipe.reader.duplicate()
            run.readiness = descriptors.adopt(try pipe.writer.duplicate())
        }
    }

    private mutating func makePlan(
        _ groups: any CGroupManager, cgroupsPath: String, _ seccomp: SeccompProgram?, _ resources: Spec.Resources
    ) throws(ZoneError) -> LaunchPlan {
        let (settings, program) = try attempting("describe machine \(zone)") { () throws(SystemError) in
            let file = Descriptor(owning: try check(zn_memfd_create("machine", 1 /* MFD_CLOEXEC */), "memfd_create"))
            try file.writeAll(run.serialized())
            try check(zn_lseek(file.raw, 0, SEEK_SET), "seek")
            let program = try Descriptor.open("/proc/self/exe", [.path])
            return (descriptors.adopt(file), descriptors.adopt(program))
        }
        var spec = try root.spec(
            definition, program: ["/proc/self/fd/\(program)", MachineMonitor.verb, String(settings)], mounts: mounts,
            usesKVM: description.accelerator == .kvm, cgroupsPath: cgroupsPath)
        spec.linux?.resources?.memory = resources.memory
        if definition.hasTerminal, let windowSize {
            spec.process?.consoleSize = Spec.ConsoleSize(height: windowSize.rows, width: windowSize.columns)
        }
        spec.annotations = definition.labels
        if let networkNamespace {
            spec.linux?.namespaces.removeAll { $0.type == .network }
            spec.linux?.namespaces.append(.init(.network, path: "/proc/self/fd/\(networkNamespace)"))
        }
        var inherited = run.descriptors + run.companions.flatMap(\.descriptors)
        // The program, too: a gate closes all else before it is executed.
        inherited += run.cards
        inherited += [program, settings, run.qmp, run.control, run.readiness]
        inherited += [run.agent, run.guestAgent, run.serial, run.viewers].compactMap { $0 }
        var bag = DescriptorBag()
        swap(&bag, &descriptors)
        let tree = try root.plan(&bag)
        var plan = try PlanBuilder(spec: spec).plan(
            root: tree, cgroups: groups, seccomp: seccomp, descriptors: bag)
        plan.process.inherited = inherited
        self.spec = spec
        return plan
    }

    consuming func takeReadiness() -> Descriptor? { readiness }
}

extension MachineMonitor {
    /// The word by which `zonectl` is executed as a monitor.
    public static let verb = "__machine"

    /// Sent to a monitor in the place of SIGKILL, of which it could not know: the zone's program is killed, or the power of a machine that
    /// boots its own disk is cut by QEMU, which writes what it holds. The last real-time signal: programs that use it for something else
    /// get it as any other.
    static let killSignal: Int32 = 64
    /// Milliseconds for that.
    static let killPatience = 8000
}

extension ZoneError {
    init(_ fault: MachineFault, zone: String) {
        let code: ZoneError.Code =
            switch fault.code {
            case .invalid: .invalid
            case .unsupported, .missing: .unsupported
            }
        self.init(code, "machine \(zone): \(fault.detail)", hint: fault.hint)
    }
}

/// Waits for what a machine's monitor says of its start.
struct MachineReadinessWaiter {
    static func wait(
        _ pipe: borrowing Descriptor, zone: String, interruptedBy signals: borrowing SignalQueue
    ) throws(ZoneError) {
        var bytes: [UInt8] = []
        while true {
            var poller = Poller()
            let words = poller.add(pipe.raw)
            let pending = poller.add(signals.raw)
            let hasEvent = try attempting("wait for machine \(zone)") { () throws(SystemError) in try poller.wait() }
            guard hasEvent else { continue }
            if poller.isReadable(words) {
                let more = try attempting("wait for machine \(zone)") { () throws(SystemError) in
                    try pipe.read(upTo: 4096)
                }
                bytes += more
                if more.isEmpty || bytes.last == UInt8(ascii: "\n") { break }
            }
            if poller.isReadable(pending), let number = signals.next(), MachineShutdown.signals.contains(number) {
                throw ZoneError(.system, "start of machine \(zone): stopped by signal \(number)")
            }
        }
        guard let said = try? MachineReadiness(parsing: bytes) else {
            throw ZoneError(
                .system, "machine \(zone): its monitor ended before it ran",
                hint: "the zone's memory limit may be too small for QEMU")
        }
        guard let failure = said.failure else { return }
        let code: ZoneError.Code =
            switch said.exitCode {
            case 127: .commandNotFound
            case 126: .notExecutable
            default: .system
            }
        throw ZoneError(code, failure)
    }
}
