// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import Namespaces

@Suite struct TreeCopyTests {
    /// Makes a folder with `fill`, copies what is in it and returns the copy.
    private func copied(_ fill: (borrowing Descriptor) throws -> Void) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        let top = try Descriptor.open(folder.path, [.path, .directory])
        try top.makeDirectory("from")
        try top.makeDirectory("to")
        let source = try top.open("from", [.readOnly, .directory], resolve: .beneath)
        try fill(source)
        let target = try top.open("to", [.readOnly, .directory], resolve: .beneath)
        var copy = TreeCopy()
        try copy.copyContent(of: source, to: target)
        return folder
    }

    private func text(_ path: String) throws -> String {
        String(decoding: try readHostFile(path), as: UTF8.self)
    }

    @Test func keepsContentModesAndTimes() throws {
        let bytes = [UInt8]((0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        let folder = try copied { source in
            try source.replaceFile("big", bytes, mode: 0o640)
            try source.makeDirectory("d", mode: 0o700)
            try source.replaceFile("tool", Array("x".utf8))
            #expect(chmod("\(folderPath(source))/tool", 0o4711) == 0)
            #expect(chmod("\(folderPath(source))/d", 0o1770) == 0)
            let nested = try source.open("d", [.readOnly, .directory], resolve: .beneath)
            try nested.replaceFile("inner", Array("inner".utf8))
        }
        #expect(try readHostFile("\(folder.path)/to/big") == bytes)
        #expect(try text("\(folder.path)/to/d/inner") == "inner")
        for name in ["big", "d", "tool", "d/inner"] {
            let before = try FileStatus.of("\(folder.path)/from/\(name)", followLinks: false)
            let after = try FileStatus.of("\(folder.path)/to/\(name)", followLinks: false)
            #expect(before.mode == after.mode && before.kind == after.kind && before.modified == after.modified)
            #expect(before.uid == after.uid && before.gid == after.gid)
        }
    }

    @Test func linksStayLinks() throws {
        let folder = try copied { source in
            try source.replaceFile("one", Array("1".utf8))
            try source.makeDirectory("d")
            #expect(link("\(folderPath(source))/one", "\(folderPath(source))/d/two") == 0)
            try source.makeSymlink("passwd", to: "/etc/passwd")
            try source.makeSymlink("up", to: "../../../..")
            try source.makeSymlink("none", to: "nowhere")
        }
        let copy = try Descriptor.open("\(folder.path)/to", [.path, .directory])
        let one = try FileStatus.of("\(folder.path)/to/one")
        #expect(try FileStatus.of("\(folder.path)/to/d/two").inode == one.inode)
        #expect(try FileStatus.of("\(folder.path)/from/one").inode != one.inode)
        for (name, target) in [("passwd", "/etc/passwd"), ("up", "../../../.."), ("none", "nowhere")] {
            #expect(try copy.status(name).kind == .symlink)
            #expect(try copy.readLink(name) == target)
        }
    }

    @Test func fifosDoNotHoldItUp() throws {
        let folder = try copied { source in
            #expect(mkfifo("\(folderPath(source))/pipe", 0o600) == 0)
        }
        #expect(try FileStatus.of("\(folder.path)/to/pipe").kind == .fifo)
    }

    @Test func endsAtADepth() throws {
        let error = #expect(throws: SystemError.self) {
            _ = try copied { source in
                var path = folderPath(source)
                for _ in 0..<250 {
                    path += "/d"
                    #expect(mkdir(path, 0o755) == 0)
                }
            }
        }
        #expect(error?.errno == .loop)
    }

    private func folderPath(_ descriptor: borrowing Descriptor) -> String {
        "/proc/self/fd/\(descriptor.raw)"
    }
}
