// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
public import LinuxSystem
public import OCI

/// A zone's group as a transient unit of systemd's, on a host with version 2 alone.
///
/// systemd makes the group when it gets a process for it: ``create(_:)`` makes nothing, ``start(pid:resources:)`` is for
/// the moment when the zone's first process exists and waits. From then on the group is used like any other.
public struct SystemdScope: CGroupManager {
    /// `zonectl-NAME.scope`, or `NAME.slice`.
    public let unit: String
    private let slice: String
    private let group: CGroupDirectory
    private let root: String?
    private let annotated: [SystemdProperty]
    private let bus: SystemdBus

    /// Names the unit. `user` is the ordinary user whose own systemd is asked. `busctl` is an absolute path, for tests.
    ///
    /// Throws `.notSupported` on a host without version 2 alone or without systemd, `.invalid` for names and annotations
    /// that systemd would refuse.
    public init(
        _ layout: CGroupLayout,
        slice: String,
        prefix: String,
        name: String,
        user: UInt32? = nil,
        annotations: [String: String] = [:],
        busctl: String? = nil
    ) throws(SystemError) {
        guard layout.isUnified, let root = layout.unified else {
            throw SystemError(
                "use systemd", "its control groups need a host with cgroup version 2 alone", .notSupported)
        }
        self.root = root
        unit = try SystemdName.unit(prefix: prefix, name: name)
        self.slice = slice.isEmpty ? user == nil ? "system.slice" : "user.slice" : slice
        annotated = try SystemdAnnotation.properties(annotations)
        bus = try SystemdBus(program: busctl, user: user)
        // A user's manager has its own place in the hierarchy, and everything of the user's is below that.
        let place = user == nil ? "" : try bus.text("ControlGroup")
        // A slice's place follows from its own name.
        let isSlice = unit.hasSuffix(".slice")
        let path = try SystemdName.expand(slice: isSlice ? unit : self.slice).pathComponents + (isSlice ? [] : [unit])
        group = CGroupDirectory(
            hierarchy: "", path: ([root] + place.pathComponents + path).joined(separator: "/"))
    }

    /// For a unit whose group was recorded earlier, ``directories``.
    public init(recorded group: CGroupDirectory, user: UInt32? = nil, busctl: String? = nil) throws(SystemError) {
        unit = group.path.pathComponents.last ?? ""
        guard unit.hasSuffix(".scope") || unit.hasSuffix(".slice") else {
            throw SystemError("use systemd", "\(group.path) is no unit", .invalid)
        }
        slice = ""
        root = nil
        self.group = group
        annotated = []
        bus = try SystemdBus(program: busctl, user: user)
    }

    public var directories: [CGroupDirectory] { [group] }

    private var isSlice: Bool { unit.hasSuffix(".slice") }

    /// Throws `.exists` where processes are in a scope of that name already: it is somebody else's, and taking it back
    /// after a start that failed would end them.
    public func requireUnused() throws(SystemError) {
        guard !isSlice, (try? FileStatus.of(group.path)) != nil, !(try processes()).isEmpty else { return }
        throw SystemError("make the systemd scope", "\(unit) is in use already", .exists)
    }

    /// Makes nothing: see ``start(pid:resources:)``.
    public func create(_ resources: Spec.Resources) throws(SystemError) {
        _ = try SystemdProperty.limits(resources)
    }

    // MARK: The unit's life

    /// Makes the unit with the process in it, waits until it is there, and applies the limits.
    public func start(pid: Int32, resources: Spec.Resources) throws(SystemError) {
        let arguments = try startArguments(pid: pid, resources)
        do throws(SystemError) { try bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments) } catch {
            guard error.errno == .exists else { throw error }
            // One that failed keeps its name until somebody has looked at it; a living one stays, and refuses again.
            try? bus.call("ResetFailedUnit", "s", [unit])
            try bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)
        }
        try waitUntilThere(pid)
        try apply(resources)
    }

    /// Unit, mode, properties, no further units.
    func startArguments(pid: Int32, _ resources: Spec.Resources) throws(SystemError) -> [String] {
        var properties: [SystemdProperty] = [.text("Description", "zone \(unit)")]
        if isSlice {
            if slice != unit, slice != "-.slice" {
                properties.append(SystemdProperty(name: "Wants", signature: "as", values: ["1", slice]))
            }
        } else {
            properties += [
                .text("Slice", slice), SystemdProperty(name: "PIDs", signature: "au", values: ["1", String(pid)]),
                // The groups below are the zone's, and systemd leaves the values in ours alone.
                .bool("Delegate", true),
                // A unit that failed goes by itself.
                .text("CollectMode", "inactive-or-failed"),
            ]
        }
        properties += ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"].map { .bool($0, true) }
        // At shutdown its engine ends the zone, in the engine's order.
        properties.append(.bool("DefaultDependencies", false))
        properties += try SystemdProperty.limits(resources)
        // The user's word is the last.
        let names = Set(annotated.map(\.name))
        properties = properties.filter { !names.contains($0.name) } + annotated
        return [unit, "replace"] + SystemdProperty.list(properties) + ["0"]
    }

    /// systemd answers before it has done it.
    private func waitUntilThere(_ pid: Int32) throws(SystemError) {
        let end = MonotonicClock.milliseconds + Int64(bus.milliseconds)
        var delay: Int32 = 1
        while MonotonicClock.milliseconds < end {
            if isSlice {
                // A slice takes no processes from its maker.
                if (try? FileStatus.of(group.path)) != nil {
                    return try CGroupFiles(group.path).write("cgroup.procs", String(pid))
                }
            } else if let path = try CGroupMembership(of: pid).path(in: []), group.path.hasSuffix(path),
                path.hasSuffix("/\(unit)")
            {
                return
            }
            pause(milliseconds: delay)
            delay = min(delay * 2, 50)
        }
        throw SystemError("wait for systemd to start", unit, .timedOut)
    }

    /// Directly: with exact values, and with what systemd has no property for.
    private func apply(_ resources: Spec.Resources, _ journal: CGroupJournal? = nil) throws(SystemError) {
        var controllers = CGroups.controllers
        // An ordinary user can neither load a device filter nor make a device node.
        if bus.user != nil { controllers.removeAll { $0.name == "devices" } }
        try UnifiedCGroup(directory: group, root: root)
            .apply(resources, controllers, to: try CGroupFiles(group.path, journal: journal))
    }

    /// Stops the unit, and waits until its group is gone; one that is not there is fine.
    public func stop() throws(SystemError) {
        if (try? FileStatus.of(group.path)) != nil {
            do throws(SystemError) { try bus.call("StopUnit", "ss", [unit, "replace"]) } catch {
                if error.errno != .noEntry { throw error }
            }
            let end = MonotonicClock.milliseconds + Int64(bus.milliseconds)
            var delay: Int32 = 1
            while (try? FileStatus.of(group.path)) != nil {
                if MonotonicClock.milliseconds > end { throw SystemError("stop", unit, .timedOut) }
                pause(milliseconds: delay)
                delay = min(delay * 2, 50)
            }
        }
        // There is mostly nothing to reset, which is then the answer.
        try? bus.call("ResetFailedUnit", "s", [unit])
    }

    // MARK: As every manager

    /// systemd is told last, when nothing can be refused any more: its properties cannot be put back by the journal. It
    /// writes them rounded, hence once more.
    public func update(_ resources: Spec.Resources, undoing journal: CGroupJournal) throws(SystemError) {
        let properties = try SystemdProperty.limits(resources)
        try apply(resources, journal)
        if properties.isEmpty { return }
        // Runtime: for as long as the unit lives.
        try bus.call("SetUnitProperties", "sba(sv)", [unit, "true"] + SystemdProperty.list(properties))
        try apply(resources)
    }

    /// Before the start there is nothing to be put into.
    public func open() throws(SystemError) -> CGroupHandles {
        if (try? FileStatus.of(group.path)) == nil { return CGroupHandles() }
        return try UnifiedCGroup(directory: group).open()
    }

    public func processes() throws(SystemError) -> [Int32] { try CGroupFiles.processes(group.path) }

    public func memoryKills() throws(SystemError) -> Int { try UnifiedCGroup(directory: group).memoryKills() }

    public func remove() throws(SystemError) { try stop() }
}
