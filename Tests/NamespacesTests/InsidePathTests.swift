// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import Namespaces

@Suite final class InsidePathTests {
    private let outer: TemporaryFolder
    private let root: Descriptor
    private var inside: InsidePath { InsidePath(root: root.raw) }

    init() throws {
        outer = try TemporaryFolder()
        try outer.makeFolder("root/etc")
        try outer.makeFolder("outside")
        root = try outer.descriptor.open("root", [.readOnly, .directory], resolve: .beneath)
    }

    @Test(arguments: [
        ("/a/b", "/a", "b"), ("/a", "/", "a"), ("a/b/c", "/a/b", "c"), ("//a///b//", "/a", "b"), ("/", "/", ""),
        ("", "/", ""),
        ("/a/..", "/a", ".."), (".", "/", "."),
        // A combining mark makes one character of a slash and itself.
        ("/a/\u{301}b/../\u{301}c", "/a/\u{301}b/..", "\u{301}c"),
    ])
    func splits(_ path: String, _ parent: String, _ name: String) {
        let parts = InsidePath.split(path)
        #expect(parts.parent == parent)
        #expect(parts.name == name)
    }

    @Test func makesDirectoriesAndFiles() throws {
        let directory = inside.findOrMake("/x/y/z", directory: true, noSymlinks: true)
        try #require(directory >= 0)
        _ = Descriptor(owning: directory)
        #expect(try FileStatus.of("\(outer.path)/root/x/y/z").kind == .directory)
        let file = inside.findOrMake("/x/file", directory: false, noSymlinks: true)
        try #require(file >= 0)
        _ = Descriptor(owning: file)
        let status = try FileStatus.of("\(outer.path)/root/x/file")
        #expect(status.kind == .regular)
        #expect(status.size == 0)
    }

    @Test func findsWhatIsThere() throws {
        try outer.write("root/etc/hosts", "content")
        let found = inside.findOrMake("/etc/hosts", directory: false, noSymlinks: false)
        try #require(found >= 0)
        _ = Descriptor(owning: found)
        #expect(try outer.read("root/etc/hosts") == "content")
        #expect(inside.find("/etc/missing") == -ENOENT)
        #expect(!outer.has("root/etc/missing"))
    }

    /// A link out of the root leads to the same name inside it, and nothing is made outside.
    @Test func makesNothingOutside() throws {
        try outer.descriptor.makeSymlink("root/up", to: "../outside")
        try outer.descriptor.makeSymlink("root/absolute", to: "\(outer.path)/outside")
        for path in ["/up/new", "/absolute/new", "/../../outside/new", "/etc/../../outside/new2"] {
            let made = inside.findOrMake(path, directory: true, noSymlinks: false)
            if made >= 0 { _ = Descriptor(owning: made) }
        }
        #expect(try Descriptor.open("\(outer.path)/outside", [.path, .directory]).entries().isEmpty)
        #expect(try Set(outer.descriptor.entries()) == ["root", "outside"])
    }

    @Test func refusesLinksWhereTold() throws {
        try outer.makeFolder("root/real")
        try outer.descriptor.makeSymlink("root/proc", to: "/real")
        #expect(inside.findOrMake("/proc", directory: true, noSymlinks: true) == -ELOOP)
        #expect(inside.findOrMake("/proc/self", directory: true, noSymlinks: true) == -ELOOP)
        let followed = inside.findOrMake("/proc", directory: true, noSymlinks: false)
        try #require(followed >= 0)
        let target = Descriptor(owning: followed)
        #expect(try target.stat().inode == FileStatus.of("\(outer.path)/root/real").inode)
    }

    /// As images have /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf: the target is made, inside the root.
    @Test(arguments: ["/run/made/file", "../run/made/file", "../../../../run/made/file"])
    func makesTheTargetOfADanglingLink(_ target: String) throws {
        try outer.makeFolder("root/etc")
        try outer.descriptor.makeSymlink("root/etc/dangling", to: target)
        let made = inside.findOrMake("/etc/dangling", directory: false, noSymlinks: false)
        try #require(made >= 0)
        _ = Descriptor(owning: made)
        #expect(try FileStatus.of("\(outer.path)/root/etc/dangling", followLinks: false).kind == .symlink)
        #expect(outer.has("root/run/made/file"))
        #expect(!outer.has("run"))
    }

    @Test func makesNothingWhereLinksAreRefusedOrLeadInCircles() throws {
        try outer.descriptor.makeSymlink("root/dangling", to: "/made")
        #expect(inside.findOrMake("/dangling", directory: false, noSymlinks: true) == -ELOOP)
        #expect(!outer.has("root/made"))
        try outer.descriptor.makeSymlink("root/one", to: "/two")
        try outer.descriptor.makeSymlink("root/two", to: "/one")
        #expect(inside.findOrMake("/one", directory: false, noSymlinks: false) == -ELOOP)
    }

    @Test(arguments: ["/missing/..", "/missing/../x/.."])
    func dotsAreNoNames(_ path: String) {
        #expect(inside.findOrMake(path, directory: true, noSymlinks: false) == -EINVAL)
    }

    @Test func aFileInTheWayIsAnError() throws {
        try outer.write("root/file")
        #expect(inside.findOrMake("/file/below", directory: true, noSymlinks: false) == -ENOTDIR)
    }

    @Test func sysctlTargetsAndKernelFileSystemsRefuseLinks() {
        let proc = MountPlan(target: "/proc", source: .fileSystem(type: "proc", options: []))
        #expect(proc.refusesSymlinks)
        #expect(MountPlan(target: "/anywhere", source: .fileSystem(type: "sysfs", options: [])).refusesSymlinks)
        #expect(MountPlan(target: "/dev/shm", source: .fileSystem(type: "tmpfs", options: [])).refusesSymlinks)
        #expect(MountPlan(target: "/sys/fs/cgroup", source: .tree(0, isDirectory: true)).refusesSymlinks)
        #expect(MountPlan(target: "/proc/\u{301}x", source: .tree(0, isDirectory: true)).refusesSymlinks)
        #expect(!MountPlan(target: "/tmp", source: .fileSystem(type: "tmpfs", options: [])).refusesSymlinks)
        #expect(!MountPlan(target: "/procession", source: .tree(0, isDirectory: true)).refusesSymlinks)
    }
}
