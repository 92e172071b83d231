// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import HVBridge
import Images
import LinuxSystem
import Namespaces
import OCI

extension ZoneStarter {
    /// Makes everything that a virtual machine needs: what differs from a container is ``MachineStart``'s.
    func prepareMachine(
        _ wanted: ZoneDefinition,
        _ image: Image,
        _ claim: borrowing ZoneStore.Claim,
        _ circumstances: Circumstances
    ) throws(ZoneError) -> Prepared {
        guard let machine = wanted.machine else { throw ZoneError(.invalid, "zone \(wanted.name) is no machine") }
        var opened = DescriptorBag()
        let definition = try VolumeMounts(store).provided(wanted, &opened)
        let zone = claim.name
        var start = try MachineStart(store, definition, machine, image, report: report)
        if !circumstances.isDetached { start.windowSize = Terminal.size(of: 0) ?? Terminal.size(of: 1) }
        let volatile = try circumstances.keepsFolder ? store.openVolatile(zone) : store.makeVolatile(zone)
        let path = circumstances.cgroup ?? "\(store.folders.cgroupParent)/\(zone)"
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        var resources = definition.machineResources(machine, start.description.accelerator)
        resources.devices = Rootless.isInside ? [] : DefaultProfile.deviceRules
        if start.description.accelerator == .kvm, !Rootless.isInside {
            resources.devices.append(.init(allow: true, type: "c", major: 10, minor: 232, access: "rw"))
        }
        var groups = try attempting("limit zone \(zone)") { () throws(SystemError) in
            try CGroups.manager(layout, path: path, for: resources)
        }
        var spec = Spec()
        spec.process = Spec.Process()
        spec.process?.args = definition.bootsDisk ? [] : try definition.arguments(image.configuration.config ?? .init())
        var record = try newRecord(definition, image, spec, groups, circumstances)
        try store.write(record, in: volatile)
        try store.create(&groups, resources, &record, in: volatile)
        let ports = ZonePorts(store, definition)
        let held = try ports.take(definition.ports)
        let gateways = try NetworkStore(store).gateways(of: definition)
        try attempting("write the zone's network files") { () throws(SystemError) in
            try NetworkFiles.write(
                in: claim.persistent, hostname: definition.hostname ?? zone, definition, gateways: gateways)
        }
        let handles = try attempting("open the control groups") { () throws(SystemError) in try groups.open() }
        let links = ZoneLinks(store, definition, report: report)
        var plan = try start.plan(
            groups, handles, cgroupsPath: "/\(path)", in: claim.persistent, volatile, links: links, resources)
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        drop(opened)
        return Prepared(
            plan: plan, groups: groups, record: record, volatile: volatile, handles: handles, spec: start.spec,
            resources: resources, links: links, ports: ports, held: held, readiness: start.takeReadiness(),
            isContainer: false)
    }

    /// Waits until a machine runs, or its monitor says why it does not.
    func awaitMachine(
        _ readiness: borrowing Descriptor, _ zone: String, _ launching: inout LaunchingProcess,
        _ signals: borrowing SignalQueue, _ groups: any CGroupManager, _ resources: Spec.Resources
    ) throws(ZoneError) {
        do throws(ZoneError) {
            try MachineReadinessWaiter.wait(readiness, zone: zone, interruptedBy: signals)
        } catch {
            try? launching.process.signal(SIGKILL)
            _ = try? launching.process.wait()
            throw error.explained(by: groups, resources)
        }
    }
}
