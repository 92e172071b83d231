// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

extension CGroupManager {
    /// A change that nobody takes back; returns the groups in use afterwards.
    func update(_ resources: Spec.Resources) throws(SystemError) -> [CGroupDirectory] {
        let after = try directories(for: resources)
        try update(resources, undoing: CGroupJournal())
        return after
    }
}

/// A folder of files poses as a control group.
@Suite struct JournalTests {
    @Test(
        arguments: [
            ("50000 100000\n", "cpu.max", "max 100000", "50000 100000"), ("max\n", "pids.max", "5", "max"),
            ("\n", "cpuset.cpus", "0", ""), ("0-3\n", "cpuset.cpus", "0", "0-3"),
            ("oom_kill_disable 1\nunder_oom 0\n", "memory.oom_control", "0", "1"),
            ("default 70\n8:0 50\n", "io.weight", "100", "default 70"),
            ("default 70\n8:0 50\n", "io.weight", "8:0 60", "8:0 50"),
            ("default 70\n", "io.weight", "8:0 60", "8:0 default"),
            (
                "8:0 rbps=1 wbps=max riops=max wiops=max\n", "io.max", "8:0 wbps=7",
                "8:0 rbps=1 wbps=max riops=max wiops=max"
            ),
            ("", "io.max", "8:16 wbps=7", "8:16 rbps=max wbps=max riops=max wiops=max"),
            ("8:0 5\n8:16 6\n", "blkio.throttle.read_bps_device", "8:16 7", "8:16 6"),
            ("", "blkio.throttle.read_bps_device", "8:16 7", "8:16 0"),
            ("lo 0\neth0 3\n", "net_prio.ifpriomap", "eth0 5", "eth0 3"),
        ] as [(String, String, String, String)])
    func formerStatesAreFound(_ text: String, _ file: String, _ value: String, _ former: String) {
        #expect(CGroupJournal.former(text, of: file, before: value) == former)
    }

    @Test func everythingIsTakenBack() throws {
        let folder = try TemporaryFolder()
        let before = ["pids.max": "max", "cpu.max": "max 100000", "memory.max": "4096", "cpuset.cpus": ""]
        try folder.makeFolder("z")
        for (name, text) in before { try folder.write("z/\(name)", text) }
        let journal = CGroupJournal()
        let group = try CGroupFiles("\(folder.path)/z", journal: journal)
        for (name, text) in [
            ("pids.max", "5"), ("cpu.max", "2000 10000"), ("pids.max", "6"), ("memory.max", "8192"),
            ("cpuset.cpus", "0"),
        ] { try group.write(name, text) }
        // A write that fails was noted, too, and does no harm.
        #expect(throws: SystemError.self) { try group.write("missing", "1") }
        #expect(try group.read("pids.max").hasPrefix("6"))
        journal.undo()
        for (name, text) in before {
            // These files keep the end of a longer text: no kernel's do.
            #expect(try group.read(name).hasPrefix(text), "\(name)")
        }
        // Once is enough.
        try group.write("pids.max", "9")
        let again = try CGroupFiles("\(folder.path)/z")
        try again.write("memory.max", "7777")
        journal.undo()
        journal.undo()
        #expect(try again.read("memory.max") == "7777")
    }
}
