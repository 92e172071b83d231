// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import OCI

/// Records or removes a zone whose first process has ended.
struct ZoneEnd: Sendable {
    let store: ZoneStore

    /// `exitCode`: as a shell shows it, `nil` where nobody saw it. `next`: `.stopped`, or `.restarting` where the keeper is
    /// about to start the zone again. `volumes` go with a zone that is removed. `report` is told the reason why the kernel killed something.
    /// Returns whether the zone is still there and still ours.
    @discardableResult
    func record(
        _ record: inout ZoneRecord,
        exitCode: Int32?,
        _ groups: any CGroupManager,
        removes: Bool = false,
        volumes: [String] = [],
        killsRest: Bool = false,
        next: ZoneRecord.Phase = .stopped,
        report: (String) -> Void
    ) throws(ZoneError) -> Bool {
        let zone = record.id
        // `rm -f` from elsewhere may have ended and removed the zone; then there is nothing left to do.
        let claim: ZoneStore.Claim
        do throws(ZoneError) { claim = try store.lock(zone) } catch {
            if error.code == .notFound { return false }
            throw error
        }
        // A zone of the same name that was made since is not ours.
        guard let current = try store.record(of: zone), current.process == record.process else { return false }
        // `set` may have changed limits, and made groups for them.
        record = current
        let groups = current.cgroups == groups.directories.map(RecordedCGroup.init) ? groups : current.groups
        reportMemoryKills(zone, groups, report)
        // A process of the zone's that is not in its pid namespace, as one of `exec` before it gets there, may last a moment
        // longer. Not before we have the lock: the groups of a zone of the same name have the same paths.
        if killsRest { _ = try? groups.kill() }
        // What cannot be read, or taken back now, its next start takes back. Where it is removed, that does it.
        if record.isConnected, !removes, let definition = (try? store.definition(of: zone)) ?? nil {
            ZoneLinks(store, definition).forget()
        }
        if removes {
            try store.erase(zone, cgroups: groups.directories)
            EventLog(store.folders).record(.remove, zone: zone)
            drop(claim)
            if !volumes.isEmpty { try VolumeStore(store).removeAnonymous(volumes) }
            return true
        }
        record.phase = next
        record.exitCode = exitCode
        record.finished = Int64(time(nil))
        // How the zone ended is known, whatever becomes of its groups: those that stay are for the next start, or `rm`.
        var failure: SystemError?
        do throws(SystemError) {
            try groups.remove()
            record.cgroups = []
        } catch { failure = error }
        try store.write(record, in: try store.openVolatile(zone))
        drop(claim)
        if let failure { throw ZoneError("remove the control groups of zone \(zone)", failure) }
        return true
    }

    /// Says why something was killed: exit status 137 alone does not tell a memory limit from an administrator.
    private func reportMemoryKills(_ zone: String, _ groups: any CGroupManager, _ report: (String) -> Void) {
        // Without the counter there is nothing to say.
        guard let kills = try? groups.memoryKills(), kills > 0 else { return }
        let limit = (try? store.configuration(of: zone))?.linux?.resources?.memory?.limit
        let bound = limit.map { " at the limit of \(ByteSize.text($0))" } ?? ""
        EventLog(store.folders).record(.oom, zone: zone, ["kills": String(kills)])
        report(
            "zone \(zone): out of memory: \(kills) process\(kills == 1 ? "" : "es") killed\(bound); raise it with --memory"
        )
    }
}
