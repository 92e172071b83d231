// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import Namespaces

/// P8: what is written to procfs goes to a procfs, and to nothing that was mounted or linked in its place.
@Suite struct ProcFilesTests {
    private func errno(_ body: () throws(LaunchFailure) -> Void) -> Errno? {
        do throws(LaunchFailure) {
            try body()
            return nil
        } catch {
            return error.errno
        }
    }

    private func take(_ path: String) throws -> ProcFiles {
        try ProcFiles(Descriptor.open(path, [.path, .directory]), .sysctl)
    }

    @Test func writesToAFile() throws {
        let before = try readHostFile("/proc/self/coredump_filter", limit: 64)
        try ProcFiles.openHost(.sysctl).write("self/coredump_filter", "0x31", .sysctl)
        defer { try? ProcFiles.openHost(.sysctl).write("self/coredump_filter", "0x33", .sysctl) }
        let after = try readHostFile("/proc/self/coredump_filter", limit: 64)
        #expect(String(decoding: after, as: UTF8.self) == "00000031\n", "was \(before)")
    }

    @Test func whatIsNoProcfsIsRefused() throws {
        let folder = try TemporaryFolder()
        // A part of a procfs is what an image could have bound on /proc.
        for path in [folder.path, "/proc/sys", "/sys"] {
            let error = #expect(throws: LaunchFailure.self) { _ = try take(path) }
            #expect(error?.errno == .noDevice)
        }
    }

    @Test func magicLinksLeadNowhere() throws {
        let folder = try TemporaryFolder()
        try folder.write("victim", "old")
        let file = try Descriptor.open("\(folder.path)/victim", [.readWrite])
        let files = try take("/proc")
        let (isThere, isNot) = (files.has("self/status"), files.has("self/no-such-file"))
        #expect(isThere && !isNot)
        for path in ["self/fd/\(file.raw)", "self/root\(folder.path)/victim", "../\(folder.path)/victim"] {
            #expect(errno { () throws(LaunchFailure) in try files.write(path, "new", .sysctl) } != nil)
        }
        #expect(try folder.read("victim") == "old")
    }
}

@Suite(.enabled(if: geteuid() == 0, "needs root")) struct IDMapTests {
    @Test func makesAUserNamespaceWithItsMaps() throws {
        let map = IDMap(
            users: [.init(inside: 0, outside: 1000, count: 10), .init(inside: 50, outside: 5000, count: 1)],
            groups: [.init(inside: 0, outside: 2000, count: 1)])
        let namespace = try map.makeUserNamespace()
        let own = try FileStatus.of("/proc/self/ns/user")
        let made = try namespace.stat()
        #expect(made.device == own.device && made.inode != own.inode)
    }

    @Test func theKernelRefusesBadMaps() {
        let overlapping = IDMap(
            users: [.init(inside: 0, outside: 0, count: 10), .init(inside: 5, outside: 50, count: 1)], groups: [])
        let error = #expect(throws: SystemError.self) { _ = try overlapping.makeUserNamespace() }
        #expect(error?.errno == .invalid)
    }
}
