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

/// An OCI bundle that runs in a micro machine: for containers with the annotation `zone.type=vm`, and for all where the program is called
/// `zonectl-vm`. Engines see no difference: the container's first process is the machine's monitor.
///
/// The root file system is the bundle's own, shared by virtiofs, as are its bind mounts. Of the container's namespaces that of the network
/// is the monitor's, and what an engine has put there the machine's (``EngineLinks``).
struct BundleMachine {
    let store: ZoneStore
    let bundle: Bundle
    let id: String
    let report: @Sendable (String) -> Void

    static let annotation = "zone.type"

    /// By which engines of Kubernetes tell the container that holds a pod's namespaces, and does nothing else.
    private static let sandboxes = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]

    static func isWanted(_ bundle: Bundle, _ options: RuntimeOptions) throws(ZoneError) -> Bool {
        // It must leave the pod's network to the one that needs it.
        if sandboxes.contains(where: { bundle.spec.annotations[$0] == "sandbox" }) { return false }
        guard let type = bundle.spec.annotations[annotation] else { return options.makesMachines }
        guard ["vm", "container"].contains(type) else {
            throw ZoneError(
                .invalid, "annotations: \(annotation): \"\(type)\" is not a type of zone",
                hint: "there are vm and container")
        }
        return type == "vm"
    }

    /// Whether a container of an engine's is a machine.
    static func runs(_ id: String, _ store: ZoneStore) -> Bool {
        (try? FileStatus.of("\(store.folders.volatile(id))/\(MachineMonitor.name)"))?.kind == .socket
    }

    /// Connects the network of a machine that waits for its start.
    static func connect(_ id: String, _ process: Int32, _ store: ZoneStore) throws(ZoneError) {
        let place = "\(store.folders.volatile(id))/\(MachinePlaces.hostFolder)"
        let owner = try attempting("look at \(place)") { () throws(SystemError) in try FileStatus.of(place).uid }
        try EngineLinks.connect(process, of: id, user: owner)
    }

    /// What `--memory` of an engine limits is the guest's; QEMU needs more.
    static func withOverhead(_ resources: Spec.Resources) -> Spec.Resources {
        resources.withMemory(MachineSettings.overhead + MachineSettings.translation)
    }

    /// The plan of the machine's monitor. `folder` is ROOT/ID.
    func plan(
        _ groups: any CGroupManager, _ handles: borrowing CGroupHandles, in folder: borrowing Descriptor
    ) throws(ZoneError) -> LaunchPlan {
        let network = try EngineLinks.namespace(of: bundle)
        var definition = ZoneDefinition()
        definition.name = id
        definition.isInteractive = true
        definition.hasTerminal = bundle.spec.process?.terminal ?? false
        definition.autoRemove = true
        definition.resources.memory = bundle.spec.linux?.resources?.memory
        definition.resources.cpu = bundle.spec.linux?.resources?.cpu
        var machine = MachineSettings()
        machine.uuid = try MachinePlanner.newUUID()
        machine.user = MachinePlanner.newUser(store)
        // An engine's limit of CPU time may be more than the host has.
        let host = Int64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        if let quota = definition.resources.cpu?.quota, let period = definition.resources.cpu?.period, period > 0 {
            machine.cores = min(host, max(1, (quota + Int64(period) - 1) / Int64(period)))
        }
        if let limit = definition.resources.memory?.limit, limit > 0 {
            if limit < MachineSettings.leastMemory { machine.memory = MachineSettings.leastMemory }
            // More than there is means that there is no limit.
            if let memory = HostUsage().memory, UInt64(limit) > memory { definition.resources.memory?.limit = nil }
        }
        definition.machine = machine
        definition.type = "vm"
        var start = try MachineStart(store, definition, machine, Image.none(id), report: report)
        return try start.plan(bundle, network, groups, handles, in: folder)
    }
}

extension MachineStart {
    /// The plan of a bundle's machine: with the bundle's root and mounts in the place of an image's.
    mutating func plan(
        _ bundle: Bundle, _ network: consuming Descriptor, _ groups: any CGroupManager,
        _ handles: borrowing CGroupHandles, in folder: borrowing Descriptor
    ) throws(ZoneError) -> LaunchPlan {
        drop(try root.makeFolder(in: folder))
        try connectMonitor()
        run.cards = try EngineLinks.openCards(in: network, &descriptors)
        run.board = description.board.rawValue
        networkNamespace = descriptors.adopt(network)
        try prepareKernel()
        var spec = bundle.spec
        var configuration = GuestConfiguration()
        configuration.hostname = spec.hostname ?? zone
        configuration.zone = zone
        configuration.root.share = shares.add(folder: bundle.rootfs)
        configuration.root.isReadOnly = spec.root?.readonly ?? false
        spec.linux?.resources = nil
        spec.linux?.cgroupsPath = nil
        spec.linux?.seccomp = nil
        spec.hooks = nil
        spec.root = nil
        spec.linux?.namespaces = DefaultProfile.namespaces.filter { $0.type != .network && $0.type != .cgroup }
        spec.mounts = spec.mounts.compactMap { mount in
            if mount.type == "cgroup" || mount.type == "cgroup2" { return nil }
            let isBind = mount.type == "bind" || mount.options.contains("bind") || mount.options.contains("rbind")
            guard isBind, let source = mount.source else { return mount }
            var absolute = mount
            if !source.isAbsolutePath { absolute.source = "\(bundle.path)/\(source)" }
            return shares.add(absolute)
        }
        configuration.hasShares = true
        configuration.spec = spec
        run.guest = configuration
        return try finish(groups, handles, cgroupsPath: "", in: folder, Spec.Resources())
    }
}
