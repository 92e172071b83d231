// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
import OCI

/// A change of the limits of a zone that lives: all of it, or nothing.
struct GroupChange {
    private let record: ZoneRecord
    private let journal = CGroupJournal()
    private var made: [CGroupDirectory] = []

    init(_ record: ZoneRecord) {
        self.record = record
    }

    /// Makes the change. `write` records the zone: before a group is made that it did without until now.
    mutating func apply(
        _ resources: Spec.Resources,
        reset: [CGroupReset] = [],
        explain: (SystemError) -> ZoneError,
        write: (ZoneRecord) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        let groups = record.groups
        let directories: [CGroupDirectory]
        do throws(SystemError) { directories = try groups.directories(for: resources) } catch { throw explain(error) }
        if directories != groups.directories {
            made = directories.filter { !groups.directories.contains($0) }
            var next = record
            next.cgroups = directories.map(RecordedCGroup.init)
            try write(next)
        }
        do throws(SystemError) {
            try groups.update(resources, undoing: journal)
            try groups.reset(reset, undoing: journal)
        } catch {
            undo(write)
            throw explain(error)
        }
    }

    /// Takes the change back.
    func undo(_ write: (ZoneRecord) throws(ZoneError) -> Void) {
        journal.undo()
        // One that could not be removed stays in the record, and goes with the zone.
        let isLeft = made.contains { (try? FileStatus.of($0.path)) != nil }
        // The error that led here is the one to tell; a group that is recorded and not there does no harm.
        if !isLeft { try? write(record) }
    }
}
