// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

/// Removal of trees that a hostile zone filled.
@Suite struct TreeRemovalTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.write("outside/precious", "kept")
    }

    private func expectOutsideIsUntouched() throws {
        #expect(try folder.read("outside/precious") == "kept")
        #expect(try folder.descriptor.entries() == ["outside"])
    }

    @Test func removesATree() throws {
        try folder.write("tree/a/b/file")
        try folder.write("tree/file")
        try folder.makeFolder("tree/empty")
        try #require(mkfifo("\(folder.path)/tree/fifo", 0o600) == 0)
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    @Test func nothingAndSingleFilesAreFine() throws {
        try folder.descriptor.removeTree("tree")
        try folder.write("tree")
        try folder.descriptor.removeTree("tree")
        try folder.makeFolder("tree")
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    @Test func neverFollowsLinks() throws {
        try folder.makeFolder("tree/deep/er")
        for (index, target) in [
            "../outside", "../../outside", "\(folder.path)/outside", "/", ".", "loop",
        ].enumerated() {
            try folder.descriptor.makeSymlink("tree/link\(index)", to: target)
            try folder.descriptor.makeSymlink("tree/deep/link\(index)", to: target)
            try folder.descriptor.makeSymlink("tree/deep/er/link\(index)", to: target)
        }
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    @Test func aLinkAtTheTopIsRemovedAlone() throws {
        try folder.descriptor.makeSymlink("tree", to: "outside")
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    @Test func namesNeedNotBeText() throws {
        try folder.makeFolder("tree/sub")
        for place in ["tree", "tree/sub"] {
            let names: [[UInt8]] = [[0xFF], [0x80, 0x81], [0x0A], [0x20], Array("\u{1B}[2J".utf8)]
            for name in names {
                let path = Array("\(folder.path)/\(place)/".utf8) + name
                try #require(mkdir(path.map { CChar(bitPattern: $0) } + [0], 0o755) == 0)
                let file = path + Array("/x".utf8)
                let raw = open(file.map { CChar(bitPattern: $0) } + [0], O_CREAT | O_WRONLY, 0o644)
                try #require(raw >= 0)
                close(raw)
            }
        }
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    /// Deeper than PATH_MAX, than descriptors and than the stack would last with one frame a level.
    @Test func depthIsNoLimit() throws {
        try folder.makeFolder("tree")
        var current = try folder.descriptor.open("tree", [.readOnly, .directory], resolve: .beneath)
        for _ in 0..<3000 {
            try current.makeDirectory("d")
            let next = try current.open("d", [.readOnly, .directory], resolve: .beneath)
            current = next
        }
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    /// Names like those that the removal itself gives to directories that it moves.
    @Test func namesOfTheRemovalsOwnAreNoTrap() throws {
        for index in 0..<4 {
            try folder.write("tree/.removed-\(index)/a/b/c/file")
            try folder.write("tree/x/.removed-\(index)/a/b/file")
        }
        try folder.descriptor.removeTree("tree")
        try expectOutsideIsUntouched()
    }

    @Test func whatCannotBeRemovedIsNamed() throws {
        let proc = try Descriptor.open("/proc", [.path, .directory])
        let error = #expect(throws: SystemError.self) { try proc.removeTree("version") }
        #expect(error?.subject == "version")
    }
}
