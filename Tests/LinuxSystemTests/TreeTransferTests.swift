// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct TreeTransferTests {
    private func open(_ folder: TemporaryFolder, _ name: String) throws -> Descriptor {
        try folder.descriptor.open(name, [.path, .noFollow], resolve: .beneath)
    }

    private func name(_ text: String) -> [CChar] { text.utf8CString.map { $0 } }

    @Test func anExactCopyIsTheSame() throws {
        let folder = try TemporaryFolder()
        try folder.write("from/d/file", "content")
        try folder.write("from/empty")
        #expect(link("\(folder.path)/from/d/file", "\(folder.path)/from/hard") == 0)
        #expect(symlink("/etc/passwd", "\(folder.path)/from/link") == 0)
        #expect(mkfifo("\(folder.path)/from/fifo", 0o620) == 0)
        #expect(chmod("\(folder.path)/from/d/file", 0o4711) == 0)
        #expect(chmod("\(folder.path)/from/d", 0o1770) == 0)
        var transfer = TreeTransfer(.exact)
        try transfer.copy(try open(folder, "from"), to: folder.descriptor, as: name("to"))
        for path in ["", "/d", "/d/file", "/empty", "/hard", "/link", "/fifo"] {
            let before = try FileStatus.of("\(folder.path)/from\(path)", followLinks: false)
            let after = try FileStatus.of("\(folder.path)/to\(path)", followLinks: false)
            #expect(before.kind == after.kind && before.mode == after.mode && before.size == after.size, "\(path)")
            #expect(before.modified == after.modified && before.links == after.links, "\(path)")
            #expect(before.inode != after.inode)
        }
        #expect(try folder.read("to/hard") == "content")
        // Nothing may be there already.
        #expect(throws: SystemError.self) {
            var again = TreeTransfer(.exact)
            try again.copy(try open(folder, "from"), to: folder.descriptor, as: name("to"))
        }
    }

    @Test func holesStayHoles() throws {
        let folder = try TemporaryFolder()
        try folder.write("sparse", "beginning")
        #expect(truncate("\(folder.path)/sparse", 8 << 20) == 0)
        var transfer = TreeTransfer(CopyPolicy())
        try transfer.copy(try open(folder, "sparse"), to: folder.descriptor, as: name("copy"))
        var status = stat()
        #expect(stat("\(folder.path)/copy", &status) == 0)
        #expect(status.st_size == 8 << 20 && status.st_blocks < 1000)
        #expect(try folder.read("copy").hasPrefix("beginning\0"))
    }

    @Test func filesReplaceFilesAndLinksAreNotFollowed() throws {
        let folder = try TemporaryFolder()
        try folder.write("from/a", "new")
        try folder.write("from/b/c", "new")
        try folder.write("to/a", "old")
        try folder.write("to/kept", "kept")
        try folder.makeFolder("outside")
        #expect(symlink("../outside", "\(folder.path)/to/b") == 0)
        var transfer = TreeTransfer(CopyPolicy())
        try transfer.copyContent(of: try open(folder, "from"), to: try open(folder, "to"))
        #expect(try folder.read("to/a") == "new" && folder.read("to/b/c") == "new" && folder.read("to/kept") == "kept")
        #expect(!folder.has("outside/c"))
        #expect(
            try folder.descriptor.open("to", [.readOnly], resolve: .beneath).entries().sorted() == ["a", "b", "kept"])
    }

    @Test func aFileReplacesNoDirectory() throws {
        let folder = try TemporaryFolder()
        try folder.write("file", "x")
        try folder.write("to/name/inside", "kept")
        let error = #expect(throws: SystemError.self) {
            var transfer = TreeTransfer(CopyPolicy())
            try transfer.copy(try open(folder, "file"), to: try open(folder, "to"), as: name("name"))
        }
        #expect(error?.errno == .isDirectory)
        #expect(try folder.read("to/name/inside") == "kept")
    }

    @Test func nothingIsCopiedIntoItselfWithoutEnd() throws {
        let folder = try TemporaryFolder()
        try folder.write("a/file", "x")
        try folder.makeFolder("a/b")
        var transfer = TreeTransfer(CopyPolicy())
        try transfer.copy(try open(folder, "a"), to: try open(folder, "a/b"), as: name("c"))
        #expect(folder.has("a/b/c/file") && !folder.has("a/b/c/b/c"))
    }

    @Test func setIDBitsGoWithTheOwner() throws {
        let folder = try TemporaryFolder()
        try folder.write("tool", "x")
        #expect(chmod("\(folder.path)/tool", 0o6755) == 0)
        var policy = CopyPolicy()
        policy.owner = (geteuid(), getegid())
        var transfer = TreeTransfer(policy)
        try transfer.copy(try open(folder, "tool"), to: folder.descriptor, as: name("copy"))
        #expect(try FileStatus.of("\(folder.path)/copy").mode == 0o755)
    }

    @Test func endsAtADepth() throws {
        let folder = try TemporaryFolder()
        var path = "\(folder.path)/from"
        #expect(mkdir(path, 0o755) == 0)
        for _ in 0..<450 {
            path += "/d"
            #expect(mkdir(path, 0o755) == 0)
        }
        let error = #expect(throws: SystemError.self) {
            var transfer = TreeTransfer(CopyPolicy())
            try transfer.copy(try open(folder, "from"), to: folder.descriptor, as: name("to"))
        }
        #expect(error?.errno == .loop)
    }
}
