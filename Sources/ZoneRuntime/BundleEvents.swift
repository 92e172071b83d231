// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
public import OCI

extension BundleRuntime {
    /// What the zone's control groups have counted: the `data` of runc's `events --stats`.
    public func statistics(_ id: String) throws(ZoneError) -> JSON {
        let entry = try store.findBundle(id)
        guard entry.state.process != nil else {
            throw ZoneError(.wrongState, "events: container not running: \"\(id)\" is \(entry.state.word)")
        }
        return try statistics(manager(entry), id)
    }

    private func statistics(_ groups: any CGroupManager, _ id: String) throws(ZoneError) -> JSON {
        let statistics = try attempting("read the statistics of container \(id)") { () throws(SystemError) in
            try groups.statistics()
        }
        do throws(JSONError) { return try JSON(parsing: statistics.serialized()) } catch {
            throw ZoneError(.system, "statistics of container \(id): \(error)")
        }
    }

    /// Tells what happens to a zone until it ends: `oom`, and every `intervalMilliseconds` its `stats` if wanted.
    public func watch(
        _ id: String,
        intervalMilliseconds: Int,
        statistics wantsStatistics: Bool,
        emit: (_ type: String, _ data: JSON?) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        let entry = try store.findBundle(id)
        guard let process = entry.state.process else {
            throw ZoneError(.wrongState, "events: container not running: \"\(id)\" is \(entry.state.word)")
        }
        let groups = manager(entry)
        let handle: ProcessHandle
        do throws(SystemError) { handle = try ProcessHandle(pid: process.pid) } catch { return }
        guard process.isAlive else { return }
        var watcher = try attempting("watch the memory of container \(id)") { () throws(SystemError) in
            try groups.watchMemory()
        }
        var due = MonotonicClock.milliseconds
        while true {
            if wantsStatistics, MonotonicClock.milliseconds >= due {
                try emit("stats", try statistics(groups, id))
                due = MonotonicClock.milliseconds + Int64(intervalMilliseconds)
            }
            let ended: Bool
            do throws(SystemError) {
                var poller = Poller()
                let end = poller.add(handle.raw)
                _ = poller.add(watcher.raw)
                let rest = max(0, due - MonotonicClock.milliseconds)
                _ = try poller.wait(milliseconds: wantsStatistics ? CInt(clamping: rest) : -1)
                ended = poller.isReadable(end)
            } catch {
                throw ZoneError("watch container \(id)", error)
            }
            // The last one may come with the end.
            while let event = nextMemoryEvent(&watcher) {
                if case .outOfMemory = event { try emit("oom", nil) }
                if case .ended = event { break }
            }
            if ended { return }
        }
    }

    private func nextMemoryEvent(_ watcher: inout MemoryWatcher) -> MemoryWatcher.Event? {
        // A group that is gone has nothing more to tell.
        guard let event = try? watcher.next() else { return nil }
        return event
    }
}
