// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem

/// Zones that are damaged, and what is left of some that are gone.
enum DoctorZones {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        let entries: [ZoneStore.Entry]
        do throws(ZoneError) { entries = try ZoneStore(host.folders).list() } catch {
            return [
                .problem(
                    "zones.list", error.detail, affects: "zones cannot be found",
                    fix: error.hint ?? "look at the rights of \(host.folders.store) and \(host.folders.root)")
            ]
        }
        let groups = (try? CGroupLayout.ofHost()).map { leftGroups(host, $0, entries.map(\.name)) } ?? []
        return [
            .ok("zones.list", count(entries)), damaged(entries.map { ($0.name, $0.state) }),
            interrupted(entries.filter(isInterrupted).map(\.name)), left(groups),
        ]
    }

    private static func count(_ entries: [ZoneStore.Entry]) -> String {
        let running = entries.count { $0.state.process != nil }
        return "\(entries.count) zone\(entries.count == 1 ? "" : "s"), \(running) of them running"
    }

    static func damaged(_ zones: [(name: String, state: ZoneState)]) -> DoctorFinding {
        let check = "zones.damaged"
        var names: [String] = []
        var reason = ""
        for case (let name, .damaged(let why)) in zones {
            if names.isEmpty { reason = why }
            names.append(name)
        }
        if names.isEmpty { return .ok(check, "none") }
        return .problem(
            check, "\(names.joined(separator: ", ")): \(reason)", affects: "these zones cannot be used",
            fix: "zonectl rm -f \(names.joined(separator: " "))")
    }

    /// Its zonectl was killed before the zone ran.
    private static func isInterrupted(_ entry: ZoneStore.Entry) -> Bool {
        guard let record = entry.record, case .stopped = entry.state else { return false }
        return record.phase == .creating
    }

    static func interrupted(_ names: [String]) -> DoctorFinding {
        let check = "zones.interrupted"
        if names.isEmpty { return .ok(check, "none") }
        return .warning(
            check, "the making of \(names.joined(separator: ", ")) was interrupted",
            affects: "these zones cannot be used", fix: "zonectl rm \(names.joined(separator: " "))")
    }

    /// Groups below ours that no zone has. Groups that engines name are theirs to look after.
    private static func leftGroups(_ host: DoctorHost, _ layout: CGroupLayout, _ names: [String]) -> [String] {
        let mounts = [layout.unified].compactMap { $0 } + layout.legacy.map(\.mountPoint)
        var left: [String] = []
        for mount in mounts {
            let parent = "\(mount)/\(host.folders.cgroupParent)"
            // Without that group nothing can be left in it.
            guard let folder = try? Descriptor.open(parent, [.readOnly, .directory]),
                let entries = try? folder.entries()
            else { continue }
            for name in entries where !names.contains(name) && (try? folder.status(name))?.kind == .directory {
                left.append("\(parent)/\(name)")
            }
        }
        return left
    }

    static func left(_ groups: [String]) -> DoctorFinding {
        let check = "zones.leftovers"
        if groups.isEmpty { return .ok(check, "none") }
        return .warning(
            check, "control groups without a zone: \(groups.joined(separator: ", "))",
            affects: "nothing but memory, unless processes are in them",
            fix: "end the processes in their cgroup.procs, then: rmdir \(groups.joined(separator: " "))")
    }
}
