// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

private let mayMakeGroups: Bool = {
    guard getuid() == 0, let layout = try? CGroupLayout.ofHost(),
        let point = layout.legacy.first?.mountPoint ?? layout.unified
    else { return false }
    return access(point, W_OK) == 0
}()

/// The kernel's own groups: a leaf of this test's own in each hierarchy, always removed.
@Suite(.serialized, .enabled(if: mayMakeGroups, "needs root, and control groups that may be written"))
final class LiveTests {
    private let layout: CGroupLayout
    private let parent: String
    private var sleepers: [pid_t] = []

    init() throws {
        layout = try CGroupLayout.ofHost()
        parent = "zonectl-test-\(getpid())"
    }

    deinit {
        for pid in sleepers {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        let all = CGroups.everyPossible(layout, path: parent).filter { access($0.path, F_OK) == 0 }
        for directory in all {
            do throws(SystemError) { try CGroupFiles.remove(directory.path) } catch { Issue.record("\(error)") }
        }
    }

    /// A process that waits, in the groups.
    private func sleeper(in groups: any CGroupManager) throws -> pid_t {
        var pid: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("60"), nil]
        defer { for word in words { free(word) } }
        try #require(posix_spawn(&pid, "/bin/sleep", nil, nil, &words, nil) == 0)
        sleepers.append(pid)
        for directory in groups.directories { try CGroupFiles(directory.path).write("cgroup.procs", String(pid)) }
        return pid
    }

    private func engine(
        _ name: String, isNamed: Bool = false, _ change: (inout Spec.Resources) -> Void = { _ in }
    ) throws -> any CGroupManager {
        var resources = Spec.Resources()
        change(&resources)
        let groups = try CGroups.engineManager(layout, path: "\(parent)/\(name)", for: resources, isNamed: isNamed)
        try groups.create(resources)
        return groups
    }

    private func value(_ groups: any CGroupManager, _ controller: String, _ file: String) throws -> String {
        let directory = try #require(groups.directories.first { $0.controllers.contains(controller) })
        return try CGroupFiles(directory.path).read(file)
    }

    @Test func limitsArriveAndChange() throws {
        try #require(!layout.isUnified, "written for version 1 and hybrid")
        let groups = try engine("limits") {
            $0.memory = .init()
            $0.memory?.limit = 32 << 20
            $0.memory?.swap = 64 << 20
            $0.memory?.swappiness = 10
            $0.memory?.disableOOMKiller = true
            $0.cpu = .init()
            $0.cpu?.shares = 512
            $0.cpu?.quota = 50_000
            $0.cpu?.period = 100_000
            $0.cpu?.burst = 10_000
            $0.pids = .init(limit: 33)
            $0.devices = [.init(allow: false), .init(allow: true, type: "c", major: 1, minor: 3, access: "rw")]
        }
        #expect(try value(groups, "memory", "memory.limit_in_bytes") == "33554432")
        #expect(try value(groups, "memory", "memory.memsw.limit_in_bytes") == "67108864")
        #expect(try value(groups, "memory", "memory.swappiness") == "10")
        #expect(try value(groups, "memory", "memory.oom_control").contains("oom_kill_disable 1"))
        #expect(try value(groups, "cpu", "cpu.shares") == "512")
        #expect(try value(groups, "cpu", "cpu.cfs_burst_us") == "10000")
        #expect(try value(groups, "pids", "pids.max") == "33")
        #expect(try value(groups, "devices", "devices.list") == "c 1:3 rw")

        // Up and down again: each pair has an order that the kernel refuses.
        var change = Spec.Resources()
        change.memory = .init()
        change.cpu = .init()
        for (limit, swap, quota, period, burst) in [
            (128 << 20, 256 << 20, 900_000, 1_000_000, 20_000), (16 << 20, 16 << 20, 2000, 10_000, 1000),
            (-1, -1, -1, 100_000, 0),
        ] as [(Int64, Int64, Int64, UInt64, UInt64)] {
            change.memory?.limit = limit
            change.memory?.swap = swap
            change.memory?.disableOOMKiller = false
            change.cpu?.quota = quota
            change.cpu?.period = period
            change.cpu?.burst = burst
            #expect(try CGroups.manager(recorded: groups.directories).update(change) == groups.directories)
            if limit > 0 {
                #expect(try value(groups, "memory", "memory.limit_in_bytes") == String(limit))
                #expect(try value(groups, "memory", "memory.memsw.limit_in_bytes") == String(swap))
            }
            #expect(try value(groups, "cpu", "cpu.cfs_quota_us") == String(quota))
            #expect(try value(groups, "cpu", "cpu.cfs_period_us") == String(period))
        }
        #expect(try value(groups, "memory", "memory.oom_control").contains("oom_kill_disable 0"))
        change = Spec.Resources()
        change.cpu = .init()
        change.cpu?.idle = 1
        change.cpu?.shares = 512
        _ = try groups.update(change)
        _ = try groups.update(change)
        #expect(try value(groups, "cpu", "cpu.idle") == "1")
        change.cpu?.idle = 0
        change.cpu?.shares = 300
        _ = try groups.update(change)
        #expect(try value(groups, "cpu", "cpu.shares") == "300")
        try groups.remove()
    }

    /// A pod's limits hold for its zones, though none of them asks for any.
    @Test(arguments: ["cpuset", "pids"]) func aLimitedParentIsJoined(_ controller: String) throws {
        let hierarchy = try #require(layout.legacy.first { $0.controllers == [controller] })
        // pids stands for hierarchies like hugetlb, which not every host has.
        let host = CGroupLayout(unified: layout.unified, legacy: [hierarchy])
        let group = "\(hierarchy.mountPoint)/\(parent)"
        func limited() -> [String] {
            LegacyCGroups.limited(host, "\(parent)/zone", besides: [])
        }
        #expect(limited() == [])
        try CGroupFiles.make(group)
        #expect(limited() == [controller])
        guard controller == "cpuset" else { return }
        try CPUSetController.inherit(group)
        try CGroupFiles(group).write("cpuset.cpus", "0")
        let groups = try CGroups.engineManager(layout, path: "\(parent)/zone", for: .init(), isNamed: true)
        try groups.create(.init())
        #expect(try value(groups, "cpuset", "cpuset.cpus") == "0")
        let pid = try sleeper(in: groups)
        #expect(try groups.processes() == [pid])
    }

    /// A controller that the zone did without gets a group, and the zone moves into it, with what it forks meanwhile.
    @Test func anUpdateCanAddAGroup() throws {
        try #require(layout.legacy.contains { $0.controllers.contains("cpuset") })
        let groups = try engine("added")
        #expect(!groups.directories.contains { $0.controllers.contains("cpuset") })
        let pids = [try sleeper(in: groups), try sleeper(in: groups)]
        // A group of the zone's own below: its process moves too.
        let memory = try #require(groups.directories.first { $0.controllers.contains("memory") })
        try CGroupFiles.make("\(memory.path)/below")
        try CGroupFiles("\(memory.path)/below").write("cgroup.procs", String(pids[1]))
        var change = Spec.Resources()
        change.cpu = .init()
        change.cpu?.cpus = "0"
        let after = try CGroups.manager(recorded: groups.directories).update(change)
        #expect(after.count == groups.directories.count + 1)
        let again = CGroups.manager(recorded: after)
        #expect(try value(again, "cpuset", "cpuset.cpus") == "0")
        for pid in pids {
            #expect(try CGroupMembership(of: pid).path(in: ["cpuset"]) == "/\(parent)/added")
        }
        // Once it is there, it is only written.
        change.cpu?.cpus = "0-1"
        #expect(try again.update(change) == after)
        #expect(try value(again, "cpuset", "cpuset.cpus") == "0-1")
        // One that the host has not.
        change = Spec.Resources()
        change.network = .init()
        change.network?.classID = 5
        if !layout.legacy.contains(where: { $0.controllers.contains("net_cls") }) {
            let error = #expect(throws: SystemError.self) { try again.update(change) }
            #expect(error?.errno == .notSupported)
        }
        #expect(try again.kill())
        for pid in pids { waitpid(pid, nil, 0) }
        sleepers = []
        try again.remove()
        #expect(after.allSatisfy { access($0.path, F_OK) != 0 })
    }

    private func state(_ pid: pid_t) throws -> Character {
        Character(UnicodeScalar(try ProcessStatus(of: pid).state))
    }

    @Test(arguments: [true, false]) func freezesAndThaws(_ unified: Bool) throws {
        let all = try engine("frozen\(unified)", isNamed: true)
        let directories = all.directories.filter { unified == $0.hierarchy.isEmpty }
        try #require(!directories.isEmpty)
        let groups = CGroups.manager(recorded: directories)
        let pid = try sleeper(in: all)
        #expect(try !groups.isFrozen())
        try groups.freeze()
        #expect(try groups.isFrozen())
        try groups.freeze()
        #expect(try all.isFrozen())
        try groups.thaw()
        #expect(try !groups.isFrozen())
        // A frozen zone can be killed, in both versions.
        try groups.freeze()
        #expect(try groups.kill() || (unified == false && waitpid(pid, nil, WNOHANG) == pid))
        waitpid(pid, nil, 0)
        sleepers = []
        try all.remove()
    }

    @Test func tellsWhatWasUsed() throws {
        let groups = try engine("used") { $0.pids = .init(limit: 44) }
        _ = try sleeper(in: groups)
        let script = groups.directories.map { "echo $$ > \($0.path)/cgroup.procs" }.joined(separator: "\n")
        _ = try HostProgram(
            "sh",
            ["-c", "\(script)\ni=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; head -c 1M /dev/zero >/tmp/\(parent)"]
        ).run()
        unlink("/tmp/\(parent)")
        let found = try groups.statistics()
        #expect(found.cpu.usage.total > 1_000_000 && found.cpu.usage.user > 0)
        #expect(found.memory.usage.max > 0 && found.memory.usage.limit > 1 << 40)
        #expect(found.pids.current == 1 && found.pids.limit == 44)
        #expect(!found.memory.raw.isEmpty)
    }

    @Test func aReachedLimitIsNoticed() throws {
        let groups = try engine("small") {
            $0.memory = .init()
            $0.memory?.limit = 8 << 20
            $0.memory?.swap = 8 << 20
        }
        var watcher = try groups.watchMemory()
        #expect(try watcher.next() == nil)
        let script = groups.directories.map { "echo $$ > \($0.path)/cgroup.procs" }.joined(separator: "\n")
        let outcome = try HostProgram("sh", ["-c", "\(script)\nexec tail /dev/zero"]).run()
        #expect(outcome.status == .signalled(SIGKILL))
        #expect(try waitReadable(watcher.raw, milliseconds: 5000))
        #expect(try watcher.next() == .outOfMemory(kills: 1))
        #expect(try watcher.next() == nil)
        #expect(try groups.memoryKills() == 1)
        try groups.remove()
        #expect(try waitReadable(watcher.raw, milliseconds: 5000))
        #expect(try watcher.next() == .ended)
    }

    /// The filter is a program on the version 2 group; an update leaves one, the new one.
    @Test func theDeviceFilterIsReplaced() throws {
        let root = try #require(layout.unified, "needs version 2, be it hybrid")
        let path = "\(root)/\(parent)/devices"
        let isNew = try CGroupFiles.make(path)
        let script = "echo $$ > \(path)/cgroup.procs || exit 9; head -c 1 /dev/zero >/dev/null"
        let reads = { try HostProgram("sh", ["-c", script]).run().status == .exited(0) }
        #expect(try reads())
        var resources = Spec.Resources()
        let null = Spec.DeviceRule(allow: true, type: "c", major: 1, minor: 3)
        resources.devices = [.init(allow: false), null]
        try DeviceController().applyUnified(resources, to: CGroupFiles(path, isNew: isNew))
        #expect(try !reads())
        for _ in 0..<3 {
            resources.devices = [.init(allow: false), null, .init(allow: true, type: "c", major: 1, minor: 5)]
            try DeviceController().applyUnified(resources, to: CGroupFiles(path))
        }
        #expect(try reads(), "the old program is gone")
        let programs = try DeviceController.programs(try Descriptor.open(path, [.readOnly, .directory]))
        for program in programs { close(program) }
        #expect(programs.count == 1)
    }

    /// A script poses as busctl and does with the kernel's groups what systemd would do.
    @Test func aScopeTakesItsProcess() throws {
        let root = try #require(layout.unified, "needs version 2, be it hybrid")
        let top = "\(root)/zonectl_test_\(getpid()).slice"
        defer { #expect(throws: Never.self) { try CGroupFiles.remove(top) } }
        let folder = try TemporaryFolder()
        try folder.write(
            "busctl",
            """
            #!/bin/sh
            case "$*" in *StartTransientUnit*)
                # The process comes late, as with systemd.
                (sleep 0.2; mkdir -p \(top)/zonectl-z.scope; echo $(cat \(folder.path)/pid) > \(top)/zonectl-z.scope/cgroup.procs) &
            ;; *StopUnit*)
                echo 1 > \(top)/zonectl-z.scope/cgroup.kill; sleep 0.1; rmdir \(top)/zonectl-z.scope
            esac
            """)
        chmod("\(folder.path)/busctl", 0o755)
        let scope = try SystemdScope(
            CGroupLayout(unified: root, legacy: []), slice: "zonectl_test_\(getpid()).slice", prefix: "zonectl",
            name: "z",
            busctl: "\(folder.path)/busctl")
        let pid = try sleeper(in: CGroups.disabled())
        try folder.write("pid", String(pid))
        var resources = Spec.Resources()
        resources.devices = [.init(allow: false)]
        try scope.start(pid: pid, resources: resources)
        #expect(try scope.processes() == [pid])
        let programs = try DeviceController.programs(
            try Descriptor.open(scope.directories[0].path, [.readOnly, .directory]))
        for program in programs { close(program) }
        #expect(programs.count == 1)
        try scope.freeze()
        #expect(try scope.isFrozen())
        try scope.stop()
        #expect(access(scope.directories[0].path, F_OK) != 0)
    }

    /// The calls of an engine's start, between two that a trace can be cut at.
    @Test(arguments: [false, true]) func createAndOpen(_ isLimited: Bool) throws {
        _ = try engine("first")
        access("/zonectl-trace-begin", F_OK)
        let groups = try engine("traced\(isLimited)") {
            guard isLimited else { return }
            $0.memory = .init()
            $0.memory?.limit = 64 << 20
            $0.memory?.swap = 64 << 20
            $0.cpu = .init()
            $0.cpu?.shares = 512
            $0.pids = .init(limit: 100)
            $0.devices = [.init(allow: false), .init(allow: true, type: "c", major: 1, minor: 3)]
        }
        let handles = try groups.open()
        access("/zonectl-trace-end", F_OK)
        #expect(handles.tasks.count + (handles.unified == nil ? 0 : 1) == groups.directories.count)
        drop(handles)
    }

    private func drop(_ handles: consuming CGroupHandles) {}

    /// What version 1's kernel made of a rule for `mknod` alone, or of one number of both types: everything.
    @Test func version1DoesNotOpenEverything() throws {
        try #require(layout.legacy.contains { $0.controllers.contains("devices") })
        let groups = try engine("narrow") {
            $0.devices = [
                .init(allow: false), .init(allow: true, access: "m"), .init(allow: true, type: "a", major: 1, minor: 3),
                .init(allow: true, type: "u", major: 1, minor: 5, access: "r"),
                .init(allow: true, type: "c", major: 1, minor: 7, access: "rw"),
                .init(allow: false, type: "c", major: 1, access: "w"),
                .init(allow: true, type: "b", major: 7, access: "rw"), .init(allow: false, type: "b", access: "w"),
            ]
        }
        #expect(
            try value(groups, "devices", "devices.list").split(separator: "\n").sorted()
                == ["b *:* m", "b 1:3 rm", "b 7:* r", "c *:* m", "c 1:3 rm", "c 1:5 r", "c 1:7 r"])
    }
}
