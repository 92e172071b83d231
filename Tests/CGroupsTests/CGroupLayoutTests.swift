// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

@Suite struct CGroupLayoutTests {
    private func layout(_ lines: [String]) -> CGroupLayout {
        CGroupLayout(mountInfo: Array((lines.joined(separator: "\n") + "\n").utf8))
    }

    private static let others = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw",
        "24 22 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:2 - sysfs sysfs rw",
        "25 24 0:23 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755",
    ]

    @Test func pureVersion2() {
        let found = layout(
            Self.others + [
                "35 24 0:30 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
            ])
        #expect(found == CGroupLayout(unified: "/sys/fs/cgroup", legacy: []))
    }

    @Test func hybrid() {
        let found = layout(
            Self.others + [
                "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
                "31 25 0:27 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory",
                "32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
                "33 25 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
            ])
        #expect(found.unified == "/sys/fs/cgroup/unified")
        #expect(found.legacy.map(\.controllers) == [["memory"], ["pids"]])
        #expect(found.legacy.map(\.mountPoint) == ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"])
    }

    @Test func version1WithControllersMountedTogether() {
        let found = layout(
            Self.others + [
                "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
                "32 25 0:28 / /sys/fs/cgroup/net_cls,net_prio rw - cgroup cgroup rw,net_cls,net_prio",
            ])
        #expect(found.unified == nil)
        #expect(found.legacy.map(\.controllers) == [["cpu", "cpuacct"], ["net_cls", "net_prio"]])
        let groups = CGroups.manager(found, path: "zonectl/z").directories
        #expect(groups == [CGroupDirectory(hierarchy: "cpu,cpuacct", path: "/sys/fs/cgroup/cpu,cpuacct/zonectl/z")])
    }

    /// The kernel escapes blank, tab, new line and backslash.
    @Test(arguments: [
        ("/mnt/a\\040b", "/mnt/a b"), ("/mnt/a\\134040", "/mnt/a\\040"), ("/m\\011\\012", "/m\t\n"),
        ("/m\\04", "/m\\04"),
        ("/m\\999", "/m\\999"),
    ])
    func mountPointsAreDecoded(_ text: String, _ path: String) {
        #expect(layout(["35 24 0:30 / \(text) rw - cgroup2 cgroup2 rw"]).unified == path)
    }

    /// Bind mounts of one group, as a container has them, are no place for ours; nor is a second mount of a hierarchy.
    @Test func nestedAndRepeatedMountsAreIgnored() {
        let found = layout([
            "31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "32 25 0:30 /user.slice /mnt/group rw - cgroup2 cgroup2 rw",
            "33 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
            "34 25 0:28 / /second/pids rw - cgroup cgroup rw,pids",
            "35 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            "36 25 0:30 / /second/unified rw - cgroup2 cgroup2 rw",
        ])
        #expect(found.unified == "/sys/fs/cgroup/unified")
        #expect(found.legacy == [.init(controllers: ["pids"], mountPoint: "/sys/fs/cgroup/pids")])
    }

    @Test(arguments: [
        "", "\n\n", "-", " - ", "- cgroup2", "1 2 3 4 5 6 -", "1 2 3 / /m rw - cgroup2", "1 2 3 / /m rw - cgroup",
        "1 2 3 / /m rw - cgroup cgroup ", "a b c d e f g h i j k l", "1 2 3 / /m rw shared:1 - cgroupish x rw,memory2",
        "22 1 8:1 / /cgroup2 rw - ext4 cgroup2 cgroup2",
    ])
    func otherTextsHoldNoHierarchy(_ text: String) {
        #expect(layout([text]) == CGroupLayout(unified: nil, legacy: []))
    }

    @Test func thisHostHasOne() throws {
        let found = try CGroupLayout.ofHost()
        // A machine without any would make every other test of groups meaningless.
        try #require(found.unified != nil || !found.legacy.isEmpty)
        for point in found.legacy.map(\.mountPoint) + (found.unified.map { [$0] } ?? []) {
            #expect(try FileStatus.of(point).kind == .directory)
        }
    }

    // MARK: Which groups a zone gets

    private static let full = CGroupLayout(
        unified: "/u",
        legacy: ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"].map {
            .init(controllers: [$0], mountPoint: "/v1/\($0)")
        })

    @Test func onlyWhatIsNeededIsMade() throws {
        var resources = Spec.Resources()
        let plain = try CGroups.manager(Self.full, path: "zonectl/z", for: resources)
        #expect(plain.directories.map(\.hierarchy) == ["cpu", "memory", "devices", "pids", ""])
        resources.cpu = Spec.CPU()
        resources.cpu?.cpus = "0"
        let placed = try CGroups.manager(Self.full, path: "zonectl/z", for: resources)
        #expect(placed.directories.map(\.hierarchy).contains("cpuset"))
        #expect(placed.directories.last == CGroupDirectory(hierarchy: "", path: "/u/zonectl/z"))
    }

    @Test func enginesGetWhatTheirReadersLookAt() throws {
        let plain = try CGroups.engineManager(Self.full, path: "e/z", for: Spec.Resources())
        #expect(plain.directories.map(\.hierarchy) == ["cpu", "memory", "devices", "pids", ""])
        let named = try CGroups.engineManager(Self.full, path: "e/z", for: Spec.Resources(), isNamed: true)
        for hierarchy in ["cpuacct", "freezer", "cpuset"] {
            #expect(named.directories.map(\.hierarchy).contains(hierarchy))
        }
        var resources = Spec.Resources()
        resources.cpu = Spec.CPU()
        resources.cpu?.mems = "0"
        let placed = try CGroups.engineManager(Self.full, path: "e/z", for: resources)
        #expect(placed.directories.map(\.hierarchy).contains("cpuset"))
    }

    /// On a hybrid host the version 2 hierarchy may have what version 1 has not.
    @Test func version2HelpsOut() throws {
        let folder = try TemporaryFolder()
        try folder.write("u/cgroup.controllers", "hugetlb\n")
        try folder.write("u/cgroup.subtree_control")
        try folder.write("u/z/hugetlb.2MB.max")
        try folder.write("u/z/hugetlb.2MB.current")
        try folder.write("m/z/memory.limit_in_bytes")
        let layout = CGroupLayout(
            unified: "\(folder.path)/u", legacy: [.init(controllers: ["memory"], mountPoint: "\(folder.path)/m")])
        var resources = Spec.Resources()
        resources.hugepageLimits = [.init()]
        resources.hugepageLimits[0].pageSize = "2MB"
        resources.hugepageLimits[0].limit = 2_097_152
        resources.unified = ["hugetlb.2MB.current": "7"]
        try CGroups.engineManager(layout, path: "z", for: resources).create(resources)
        #expect(try folder.read("u/cgroup.subtree_control") == "+hugetlb")
        #expect(try folder.read("u/z/hugetlb.2MB.max") == "2097152")
        #expect(try folder.read("u/z/hugetlb.2MB.current") == "7")
        // What version 1 has in use is not there in version 2.
        resources.unified = ["memory.max": "1"]
        let error = #expect(throws: SystemError.self) {
            _ = try CGroups.engineManager(layout, path: "z", for: resources)
        }
        #expect(error?.errno == .notSupported)
        let without = CGroupLayout(unified: nil, legacy: layout.legacy)
        #expect(throws: SystemError.self) { _ = try CGroups.engineManager(without, path: "z", for: resources) }
    }

    @Test func disabledMeansNone() throws {
        let manager = CGroups.disabled()
        try manager.create(Spec.Resources())
        #expect(manager.directories.isEmpty)
        #expect(try manager.processes().isEmpty && manager.statistics() == CGroupStatistics())
        #expect(try manager.open().unified == nil)
        var resources = Spec.Resources()
        resources.pids = Spec.Pids(limit: 5)
        let error = #expect(throws: SystemError.self) { try manager.create(resources) }
        #expect(error?.errno == .notSupported && error?.subject.contains("pids") == true)
        #expect(throws: SystemError.self) { try manager.freeze() }
    }

    @Test func withoutVersion2OthersStandIn() {
        let layout = CGroupLayout(unified: nil, legacy: Self.full.legacy)
        let names = CGroups.manager(layout, path: "z").directories.map(\.hierarchy)
        #expect(names == ["cpu", "cpuacct", "memory", "devices", "freezer", "pids"])
    }

    @Test func aLimitWithoutItsControllerIsAnError() {
        let layout = CGroupLayout(unified: nil, legacy: [.init(controllers: ["cpu"], mountPoint: "/v1/cpu")])
        var resources = Spec.Resources()
        resources.memory = Spec.Memory()
        resources.memory?.limit = 1
        let error = #expect(throws: SystemError.self) { _ = try CGroups.manager(layout, path: "z", for: resources) }
        #expect(error?.errno == .notSupported)
        #expect(error?.subject.contains("memory") == true)
    }

    @Test func everyPossibleGroupIsFound() {
        let all = CGroups.everyPossible(Self.full, path: "p/z")
        #expect(all.count == 8)
        #expect(all.contains(CGroupDirectory(hierarchy: "freezer", path: "/v1/freezer/p/z")))
        #expect(all.contains(CGroupDirectory(hierarchy: "", path: "/u/p/z")))
    }
}
