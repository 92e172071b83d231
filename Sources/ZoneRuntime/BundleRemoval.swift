// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import OCI

/// Removes a bundle's zone.
struct BundleRemoval {
    let store: ZoneStore
    let report: (String) -> Void

    /// `force` ends the zone first.
    func remove(_ found: ZoneStore.Entry, force: Bool) throws(ZoneError) {
        if !force { try refuseUnlessStopped(found) }
        // Before the lock: who makes or starts the zone has it, and lets it go when that fails.
        if force { try end(found) }
        try removeEnded(found.name, force: force)
    }

    /// Removes a zone whose first process has ended as far as the caller knows.
    func removeEnded(_ id: String, force: Bool) throws(ZoneError) {
        let claim: ZoneStore.BundleClaim
        do throws(ZoneError) { claim = try store.lockBundle(id) } catch {
            // Somebody else has removed it: what was wanted.
            if force, error.code == .notFound { return }
            throw error
        }
        // Read again under the lock: a start that was under way may have recorded its groups since.
        let entry = store.entry(id)
        if force { try end(entry) } else { try refuseUnlessStopped(entry) }
        try endRestore(id)
        var groups = try directories(entry)
        // One call for each group, where killing looks into each of them first. A scope is systemd's to remove.
        let manager = groups.manager
        if !(manager is SystemdScope), manager.removeIfEmpty() { groups = [] } else { try endAll(groups, id) }
        // Only zones with such hooks pay for reading the configuration.
        let spec = entry.record?.hasStopHooks ?? false ? try store.configuration(of: id) : nil
        try store.eraseBundle(id, cgroups: groups)
        drop(claim)
        if let hooks = spec?.hooks, let record = entry.record {
            BundleHooks(hooks: hooks, state: BundleState(record)).runAfterStop(report: report)
        }
    }

    private func refuseUnlessStopped(_ entry: ZoneStore.Entry) throws(ZoneError) {
        switch entry.state {
        case .stopped, .damaged: return
        case .creating, .created, .running, .paused, .restarting:
            throw ZoneError(
                .wrongState, "delete: container \"\(entry.name)\" is not stopped: \(entry.state.word)",
                hint: "stop it first with 'kill', or use 'delete --force'")
        }
    }

    /// Kills the first process, or the `zonectl` that is making the zone.
    private func end(_ entry: ZoneStore.Entry) throws(ZoneError) {
        let target: RecordedProcess
        if let process = entry.state.process {
            target = process
        } else if case .creating = entry.state, let keeper = entry.record?.keeper, keeper.pid != getpid() {
            target = keeper
        } else {
            return
        }
        do throws(SystemError) {
            let handle = try ProcessHandle(pid: target.pid)
            guard target.isAlive else { return }
            try handle.signal(SIGKILL)
            // A frozen process only dies once it is thawed, except on version 2.
            if case .paused = entry.state { try recorded(entry).manager.thaw() }
            _ = try handle.waitUntilEnded(milliseconds: 10_000)
        } catch {
            if error.errno != .noProcess { throw ZoneError("end container \(entry.name)", error) }
        }
    }

    /// A restore that was killed leaves its criu, which may make groups anew, and processes that wait for each other and
    /// are in no group of the zone's yet.
    private func endRestore(_ id: String) throws(ZoneError) {
        guard let holders = FileHolders(of: "\(store.folders.volatile(id))/\(Restore.mark)") else { return }
        let all = try attempting("end what restores container \(id)") { () throws(SystemError) in try holders.kill() }
        if all { return }
        throw ZoneError(
            .wrongState, "delete: criu, which was restoring container \(id), does not end, even by SIGKILL",
            hint: "it may hang in the kernel; try again later")
    }

    private func recorded(_ entry: ZoneStore.Entry) -> [CGroupDirectory] {
        entry.record?.cgroups.map(\.directory) ?? []
    }

    /// The zone's groups; where the record is lost, those that the name alone tells.
    private func directories(_ entry: ZoneStore.Entry) throws(ZoneError) -> [CGroupDirectory] {
        if entry.record != nil { return recorded(entry) }
        let layout = try attempting("find the control groups") { () throws(SystemError) in try CGroupLayout.ofHost() }
        let path = "\(store.folders.cgroupParent)/\(entry.name)"
        return CGroups.everyPossible(layout, path: path).filter { (try? FileStatus.of($0.path)) != nil }
    }

    private func endAll(_ groups: [CGroupDirectory], _ id: String) throws(ZoneError) {
        if groups.isEmpty { return }
        do throws(SystemError) {
            if try groups.manager.kill() { return }
        } catch {
            throw ZoneError("end the processes of container \(id)", error)
        }
        throw ZoneError(
            .wrongState, "delete: processes of container \(id) do not end, even by SIGKILL",
            hint: "they may hang in the kernel; try again later")
    }
}
