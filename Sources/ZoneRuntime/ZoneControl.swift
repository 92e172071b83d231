// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import Images
import LinuxSystem
import OCI

/// Signals, stops and removes zones.
public struct ZoneControl: Sendable {
    let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Sends a signal to the zone's first process.
    public func kill(_ name: String, signal: Int32) throws(ZoneError) {
        let entry = try store.find(name)
        let process = try entry.state.livingProcess(for: "kill", of: entry.name)
        // Who kills a zone does not want it back at once.
        if signal == SIGKILL { try noteStop(entry) }
        // Before what follows from it.
        EventLog(store.folders).record(.kill, zone: entry.name, ["signal": String(signal)])
        let definition = entry.record?.bundle == nil ? try store.definition(of: entry.name) : nil
        let isMachine = definition?.machine != nil
        try send(signal == SIGKILL && isMachine ? MachineMonitor.killSignal : signal, to: process, of: entry.name)
    }

    /// Tells a detached zone's keeper, and the next boot, that the zone is not to be started again.
    private func noteStop(_ entry: ZoneStore.Entry) throws(ZoneError) {
        guard let record = entry.record, record.isDetached, record.bundle == nil else { return }
        try store.noteStop(entry.name)
    }

    /// Asks the zone's first process to end, and kills the zone after `seconds` without success; `nil`: as the zone's
    /// definition says, or 10. Returns once the zone has ended; a zone that is stopped already is fine.
    public func stop(_ name: String, seconds: Int?) throws(ZoneError) {
        let entry = try started(try store.find(name))
        if case .stopped = entry.state {
            // systemd may be about to start it again.
            if let unit = SystemdUnits(store).unitToStop(entry) { try SystemdUnits.stop(unit, entry.name) }
            return
        }
        let unit = SystemdUnits.unit(running: entry.record)
        if let unit {
            // systemd must know that this end is no failure. It asks the keeper, which asks the zone.
            try SystemdUnits.stop(unit, entry.name, waits: seconds == nil)
            if seconds == nil { return }
        } else {
            try noteStop(entry)
        }
        if case .restarting(let keeper) = entry.state { return try endKeeper(keeper, entry.name) }
        let process = try entry.state.livingProcess(for: "stop", of: entry.name)
        let handle: ProcessHandle
        do throws(SystemError) { handle = try ProcessHandle(pid: process.pid) } catch {
            if error.errno == .noProcess { return settle(entry) }
            throw ZoneError("stop zone \(entry.name)", error)
        }
        guard process.isAlive else { return settle(entry) }
        let definition = entry.record?.bundle == nil ? try store.definition(of: entry.name) : nil
        let signal = stopSignal(definition)
        EventLog(store.folders).record(.stop, zone: entry.name, ["signal": String(signal)])
        do throws(SystemError) {
            let seconds = seconds ?? ZoneControl.stopTimeout(definition)
            if unit == nil, !askMachine(definition, milliseconds: Int64(min(seconds, 86_400)) * 1000) {
                try handle.signal(signal)
            }
            // What is frozen notices a signal when it is thawed.
            if case .paused = entry.state { try entry.record?.groups.thaw() }
            let milliseconds = min(seconds, 86_400) * 1000
            if milliseconds > 0, try handle.waitUntilEnded(milliseconds: milliseconds) { return settle(entry) }
            if definition?.machine != nil {
                // Its program is killed, as a container's would be; what it has written is written to its disk all the same.
                try handle.signal(MachineMonitor.killSignal)
                if try handle.waitUntilEnded(milliseconds: MachineMonitor.killPatience) { return settle(entry) }
            }
            try handle.signal(SIGKILL)
            // Not even SIGKILL ends a process that hangs in a driver.
            if try handle.waitUntilEnded(milliseconds: 10_000) { return settle(entry) }
        } catch {
            if error.errno == .noProcess { return settle(entry) }
            throw ZoneError("stop zone \(entry.name)", error)
        }
        throw ZoneError(
            .wrongState, "stop: zone \(entry.name) does not end, even by SIGKILL",
            hint: "its first process may hang in the kernel: look at /proc/\(process.pid)/stack")
    }

    /// Presses the power button of a machine that boots its own disk, and says how long it has; false where that is not how the zone ends.
    private func askMachine(_ definition: ZoneDefinition?, milliseconds: Int64) -> Bool {
        guard let definition, definition.bootsDisk, milliseconds > 0 else { return false }
        var request = MachineRequest(.powerDown)
        request.milliseconds = milliseconds
        // A monitor that does not answer is asked by the signal.
        return (try? MachineVerbs(store).ask(definition.name, request)) != nil
    }

    /// The same zone, once the start is over that its keeper, or another `zonectl`, is just making.
    private func started(_ entry: ZoneStore.Entry) throws(ZoneError) -> ZoneStore.Entry {
        guard case .creating = entry.state, entry.record?.bundle == nil else { return entry }
        // Who starts a zone has its lock.
        drop(try store.lock(entry.name))
        return try store.find(entry.name, exactly: true)
    }

    /// Gives the `zonectl` that stays with the zone a moment to record the end, or to remove the zone if it was told so:
    /// who stops a zone may want its name again at once.
    private func settle(_ entry: ZoneStore.Entry, seconds: Int = 2) {
        for _ in 0..<(seconds * 100) {
            guard let keeper = entry.record?.keeper, keeper.isAlive else { return }
            // A record that cannot be read is for the next command to report.
            guard let record = try? store.record(of: entry.name) else { return }
            guard record.phase == .running || record.phase == .paused else { return }
            LinuxSystem.pause(milliseconds: 10)
        }
    }

    /// Seconds until a zone that was asked to end is killed: as many as docker's unless told otherwise, more for a machine.
    static func stopTimeout(_ definition: ZoneDefinition?) -> Int {
        definition?.stopTimeout.map { Int(clamping: $0) }
            ?? (definition?.initSystem == nil && definition?.bootsDisk != true ? 10 : InitSystem.stopTimeout)
    }

    /// The same zone, once its keeper has said whether a zone that has just ended is started again. It may have much to write
    /// down first.
    func settled(_ entry: ZoneStore.Entry) -> ZoneStore.Entry {
        guard case .restarting = entry.state, let record = entry.record, record.phase != .restarting else {
            return entry
        }
        settle(entry, seconds: 30)
        return (try? store.find(entry.name, exactly: true)) ?? entry
    }

    /// What the zone or its image asks for, its init's own, or SIGTERM.
    func stopSignal(_ definition: ZoneDefinition?) -> Int32 {
        // Without its definition or image a zone can still be stopped.
        guard let definition else { return SIGTERM }
        let text =
            definition.stopSignal
            ?? (try? ZoneLifecycle(store).image(of: definition))?.configuration.config?.stopSignal
        return text.flatMap { SignalName.number(of: $0) } ?? definition.initSystem?.stopSignal ?? SIGTERM
    }

    /// Ends the keeper of a zone that waits to be started again.
    private func endKeeper(_ keeper: RecordedProcess, _ name: String) throws(ZoneError) {
        do throws(SystemError) {
            let handle = try ProcessHandle(pid: keeper.pid)
            guard keeper.isAlive else { return }
            try handle.signal(SIGTERM)
            if try handle.waitUntilEnded(milliseconds: 10_000) { return }
            try handle.signal(SIGKILL)
            _ = try handle.waitUntilEnded(milliseconds: 5000)
        } catch {
            if error.errno != .noProcess { throw ZoneError("stop zone \(name)", error) }
        }
    }

    private func send(_ signal: Int32, to process: RecordedProcess, of name: String) throws(ZoneError) {
        do throws(SystemError) {
            let handle = try ProcessHandle(pid: process.pid)
            guard process.isAlive else { throw SystemError("kill", name, .noProcess) }
            try handle.signal(signal)
        } catch {
            if error.errno == .noProcess { throw ZoneError(.wrongState, "kill: zone \(name) is not running") }
            throw ZoneError("kill zone \(name)", error)
        }
    }

    /// Removes a zone and everything that it has; `force` ends it first. `report` is told what hooks of a bundle's say.
    public func remove(
        _ name: String, force: Bool, volumes: Bool = false, report: @escaping (String) -> Void
    ) throws(ZoneError) {
        // `rm -f web; run --name web` must not end web-production because there is no web.
        let entry = settled(try store.find(name, exactly: force))
        // An engine's zone has nothing in the store, not even where its record was never written. One that has a record
        // and no bundle is another store's.
        if entry.record == nil || entry.record?.bundle != nil, try !store.isPersistent(entry.name) {
            return try BundleRemoval(store: store, report: report).remove(entry, force: force)
        }
        let units = SystemdUnits(store)
        if !force { try units.refuse("rm", entry.name) }
        try store.refuseBase("rm", entry.name)
        switch entry.state {
        case .created where !force, .running where !force, .paused where !force:
            throw ZoneError(
                .wrongState, "rm: zone \(entry.name) is \(entry.state.word)",
                hint: "stop it first, or use 'zonectl rm -f \(entry.name)'")
        case .creating where !force:
            throw ZoneError(
                .wrongState, "rm: zone \(entry.name) is just being created",
                hint: "use 'zonectl rm -f \(entry.name)' to stop that")
        case .restarting where !force:
            throw ZoneError(
                .wrongState, "rm: zone \(entry.name) is about to be started again",
                hint: "stop it first, or use 'zonectl rm -f \(entry.name)'")
        case .creating, .created, .running, .paused, .restarting:
            try end(entry)
        case .stopped, .damaged: break
        }
        let claim: ZoneStore.Claim
        do throws(ZoneError) { claim = try store.lockAsItIs(entry.name) } catch {
            // Its own zonectl was faster (`run --rm`): what was wanted.
            if error.code == .notFound, try removeLeftRecord(entry) || force { return }
            throw error
        }
        // Started again while we waited for the lock.
        let now = try store.find(entry.name, exactly: true).state
        if !force, now.process != nil {
            throw ZoneError(
                .wrongState, "rm: zone \(entry.name) is \(now.word)",
                hint: "stop it first, or use 'zonectl rm -f \(entry.name)'")
        }
        // Cloned meanwhile.
        try store.refuseBase("rm", entry.name)
        if force, units.isEnabled(entry.name) { _ = try units.disable(entry.name, stops: false) }
        // Read again under the lock: a start that was under way may have recorded its groups since.
        let groups = try recordedGroups(entry.name)
        if !groups.isEmpty { try killAll(groups, entry.name) }
        // One that is damaged may have some, which `volume prune` removes.
        let definition = (try? store.definition(of: entry.name)) ?? nil
        try store.erase(entry.name, cgroups: groups)
        EventLog(store.folders).record(.remove, zone: entry.name)
        drop(claim)
        if let definition, volumes || definition.autoRemove {
            try VolumeStore(store).removeAnonymous(definition.anonymousVolumes)
        }
    }

    /// Removes what was recorded of a zone that is gone: a `rename` that was killed leaves it. Returns whether there was such.
    private func removeLeftRecord(_ entry: ZoneStore.Entry) throws(ZoneError) -> Bool {
        guard let record = entry.record, record.bundle == nil, record.store == store.folders.store,
            case .stopped = entry.state
        else { return false }
        try store.eraseBundle(entry.name, cgroups: record.cgroups.map(\.directory))
        return true
    }

    /// Ends a zone for a removal that follows, as the ordinary user who started it: from the namespace that the removal
    /// enters there is no right to signal other ids of that user's. What cannot be ended is for the removal to report.
    public func endBeforeRemoval(_ name: String) {
        guard let entry = try? store.find(name, exactly: true) else { return }
        try? end(entry)
    }

    private func recordedGroups(_ name: String) throws(ZoneError) -> [CGroupDirectory] {
        do throws(ZoneError) {
            if let record = try store.record(of: name) { return record.cgroups.map(\.directory) }
            if try store.isRootOthers(name) { return [] }
        } catch {
            // The record is damaged: the groups are where every zone's are.
        }
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        let path = "\(store.folders.cgroupParent)/\(name)"
        return CGroups.everyPossible(layout, path: path).filter { (try? FileStatus.of($0.path)) != nil }
    }

    /// Ends a zone that runs, or the `zonectl` that is starting it.
    private func end(_ entry: ZoneStore.Entry) throws(ZoneError) {
        if let unit = SystemdUnits.unit(running: entry.record) {
            // Nobody waits for a zone that is removed; its service must not start it again.
            try SystemdUnits.stop(unit, entry.name, waits: false)
        }
        // Else its keeper would start it again.
        try noteStop(entry)
        if case .restarting(let keeper) = entry.state { return try endKeeper(keeper, entry.name) }
        do throws(SystemError) {
            if case .creating = entry.state, let keeper = entry.record?.keeper {
                // It rolls back by itself only while it lives; killed, its child sees the channel close and exits.
                let handle = try ProcessHandle(pid: keeper.pid)
                if keeper.isAlive { try handle.signal(SIGKILL) }
                _ = try handle.waitUntilEnded(milliseconds: 5000)
                return
            }
            guard let process = entry.state.process else { return }
            let handle = try ProcessHandle(pid: process.pid)
            guard process.isAlive else { return }
            try handle.signal(SIGKILL)
            _ = try handle.waitUntilEnded(milliseconds: 10_000)
        } catch {
            if error.errno != .noProcess { throw ZoneError("end zone \(entry.name)", error) }
        }
    }

    private func killAll(_ groups: [CGroupDirectory], _ name: String) throws(ZoneError) {
        do throws(SystemError) {
            if try groups.manager.kill() { return }
        } catch {
            throw ZoneError("end the processes of zone \(name)", error)
        }
        throw ZoneError(
            .wrongState, "rm: processes of zone \(name) do not end, even by SIGKILL",
            hint: "they may hang in the kernel; try again later")
    }
}
