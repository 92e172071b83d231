// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem

extension ZoneControl {
    /// Stops all processes of a running zone where they are.
    public func pause(_ name: String) throws(ZoneError) {
        let claim = try store.lock(try store.find(name).name)
        let entry = store.entry(claim.name)
        _ = try entry.state.runningProcess(for: "pause", of: entry.name)
        guard var record = entry.record else { return }
        let folder = try store.openVolatile(entry.name)
        record.phase = .paused
        // Recorded first: killed in between, the zone is shown as paused, and `resume` puts both right.
        try store.write(record, in: folder)
        do throws(ZoneError) {
            if try isMachine(entry.name) {
                // Its clock stands still with it, which a frozen process's does not.
                try MachineVerbs(store).ask(entry.name, MachineRequest(.pause))
            } else {
                try attempting("pause zone \(entry.name)") { () throws(SystemError) in try record.groups.freeze() }
            }
        } catch {
            record.phase = .running
            try store.write(record, in: folder)
            throw error
        }
        EventLog(store.folders).record(.pause, zone: entry.name)
    }

    private func isMachine(_ name: String) throws(ZoneError) -> Bool {
        try store.definition(of: name)?.machine != nil
    }

    /// Lets a paused zone go on.
    public func resume(_ name: String) throws(ZoneError) {
        let claim = try store.lock(try store.find(name).name)
        let entry = store.entry(claim.name)
        guard case .paused = entry.state, var record = entry.record else {
            throw ZoneError(.wrongState, "resume: zone \(entry.name) is \(entry.state.word), not paused")
        }
        if try isMachine(entry.name) {
            try MachineVerbs(store).ask(entry.name, MachineRequest(.resume))
        } else {
            try attempting("resume zone \(entry.name)") { () throws(SystemError) in try record.groups.thaw() }
        }
        record.phase = .running
        try store.write(record, in: try store.openVolatile(entry.name))
        EventLog(store.folders).record(.resume, zone: entry.name)
    }
}
