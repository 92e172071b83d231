// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import Images

@Suite struct TreeArchiveTests {
    private func archive(_ folder: TestSupport.TemporaryFolder, _ name: String) throws -> Descriptor {
        let file = try Descriptor.inMemory("archive")
        var archiver = try TreeArchiver(to: file.raw)
        try archiver.add(try folder.descriptor.open(name, [.path], resolve: .beneath), as: ".")
        try archiver.finish()
        file.rewind()
        return file
    }

    private func extract(_ archive: borrowing Descriptor, into folder: TestSupport.TemporaryFolder, _ name: String)
        throws
    {
        let target = try folder.descriptor.open(name, [.path, .directory], resolve: .beneath)
        try TreeExtractor(CopyPolicy()).extract(archive.raw, into: target) { below in
            try? Descriptor.open("\(folder.path)/\(name)/\(below)", [.path, .directory])
        }
    }

    @Test func whatIsArchivedIsUnpackedTheSame() throws {
        let folder = try TestSupport.TemporaryFolder()
        let long = String(repeating: "long-name/", count: 20)
        try folder.write("from/\(long)file", "deep")
        try folder.write("from/tool", "tool")
        try folder.write("from/sparse", "s")
        #expect(truncate("\(folder.path)/from/sparse", 1 << 20) == 0)
        #expect(link("\(folder.path)/from/tool", "\(folder.path)/from/second") == 0)
        #expect(symlink("/etc/passwd", "\(folder.path)/from/link") == 0)
        #expect(chmod("\(folder.path)/from/tool", 0o4751) == 0)
        #expect(chmod("\(folder.path)/from/long-name", 0o1777) == 0)
        try folder.makeFolder("to")
        try extract(try archive(folder, "from"), into: folder, "to")
        for path in ["long-name", "\(long)file", "tool", "second", "sparse", "link"] {
            let before = try FileStatus.of("\(folder.path)/from/\(path)", followLinks: false)
            let after = try FileStatus.of("\(folder.path)/to/\(path)", followLinks: false)
            #expect(before.kind == after.kind && before.mode == after.mode && before.size == after.size, "\(path)")
            // tar's times are whole seconds.
            #expect(before.modified / 1_000_000_000 == after.modified / 1_000_000_000, "\(path)")
            #expect(before.links == after.links, "\(path)")
        }
        #expect(try folder.read("to/\(long)file") == "deep")
    }

    @Test func linksOfTheTargetAreItsOwnersToFollow() throws {
        let folder = try TestSupport.TemporaryFolder()
        try folder.write("from/a/file", "new")
        try folder.makeFolder("to/real")
        #expect(symlink("real", "\(folder.path)/to/a") == 0)
        try extract(try archive(folder, "from"), into: folder, "to")
        #expect(try folder.read("to/real/file") == "new")
        // A link that leads to no directory is in the way.
        let target = try folder.descriptor.open("to", [.path, .directory], resolve: .beneath)
        let again = try archive(folder, "from")
        try TreeExtractor(CopyPolicy()).extract(again.raw, into: target) { _ in nil }
        #expect(try FileStatus.of("\(folder.path)/to/a", followLinks: false).kind == .directory)
    }

    @Test(arguments: ["../out", "a/../../out"])
    func nothingLeadsOut(_ name: String) throws {
        let folder = try TestSupport.TemporaryFolder()
        try folder.makeFolder("to")
        var tar = TarFixture()
        tar.add(name, "0", "out")
        let file = try Descriptor.inMemory("archive")
        try file.writeAll(tar.finished)
        file.rewind()
        #expect(throws: ImageError.self) { try extract(file, into: folder, "to") }
        #expect(!folder.has("out"))
    }

    @Test func aWhiteoutIsAFileLikeOthers() throws {
        let folder = try TestSupport.TemporaryFolder()
        try folder.write("to/name", "kept")
        var tar = TarFixture()
        tar.add(".wh.name", "0", "x")
        let file = try Descriptor.inMemory("archive")
        try file.writeAll(tar.finished)
        file.rewind()
        try extract(file, into: folder, "to")
        #expect(folder.has("to/name") && folder.has("to/.wh.name"))
    }
}
