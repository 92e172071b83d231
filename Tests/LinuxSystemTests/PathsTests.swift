// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct PathsTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    // MARK: replaceFile

    @Test func replacesContentAndKeepsWhatReadersHold() throws {
        try folder.descriptor.replaceFile("file", Array("old".utf8))
        let reader = try folder.descriptor.open("file", [.readOnly], resolve: .beneath)
        try folder.descriptor.replaceFile("file", Array("new".utf8), durable: true)
        #expect(try reader.readAll(limit: 10) == Array("old".utf8))
        #expect(try folder.read("file") == "new")
        #expect(try folder.descriptor.entries() == ["file"])
    }

    @Test func replacesALinkAndNotItsTarget() throws {
        try folder.write("target", "untouched")
        try folder.descriptor.makeSymlink("link", to: "target")
        try folder.descriptor.replaceFile("link", Array("new".utf8))
        #expect(try folder.read("target") == "untouched")
        #expect(try folder.descriptor.status("link").kind == .regular)
    }

    @Test func doesNotWriteThroughALinkAtTheTemporaryName() throws {
        try folder.write("target", "untouched")
        try folder.descriptor.makeSymlink(".file.new", to: "target")
        let error = #expect(throws: SystemError.self) { try folder.descriptor.replaceFile("file", [1]) }
        #expect(error?.errno == .loop)
        #expect(try folder.read("target") == "untouched")
        #expect(!folder.has("file"))
    }

    @Test func aFailedReplacementLeavesNothing() throws {
        try folder.makeFolder("taken")
        let error = #expect(throws: SystemError.self) {
            try folder.descriptor.replaceFile("taken", [1])
        }
        #expect(error?.errno == .isDirectory)
        #expect(try folder.descriptor.entries() == ["taken"])
    }

    @Test func aReplacementOfAFileThatWasCutShortIsWhole() throws {
        try folder.write(".file.new", "left by a process that was killed")
        try folder.descriptor.replaceFile("file", Array("new".utf8))
        #expect(try folder.read("file") == "new")
    }

    // MARK: entries

    @Test func listsEveryName() throws {
        let names =
            (0..<3000).map { "a rather long name so that one buffer does not hold them all \($0)" } + [
                ".dot", "…",
            ]
        for name in names { try folder.write(name) }
        #expect(try Set(folder.descriptor.entries()) == Set(names))
        #expect(try folder.descriptor.entries().count == names.count)
        // A second look begins anew.
        #expect(try folder.descriptor.entries().count == names.count)
    }

    @Test func listsThroughAPathDescriptor() throws {
        try folder.write("one")
        #expect(try Descriptor.open(folder.path, [.path, .directory]).entries() == ["one"])
    }

    @Test func readsLinksWithoutFollowingThem() throws {
        try folder.descriptor.makeSymlink("link", to: "/not/there")
        #expect(try folder.descriptor.readLink("link") == "/not/there")
        #expect(throws: SystemError.self) { try folder.descriptor.readFile("link") }
    }

    // MARK: makePath

    @Test func makesWhatIsMissing() throws {
        let made = try Descriptor.makePath("\(folder.path)/a//b/c/", mode: 0o700)
        #expect(try FileStatus.of("\(folder.path)/a/b/c").inode == (try made.stat()).inode)
        #expect(try FileStatus.of("\(folder.path)/a").mode == 0o700)
        try folder.write("a/b/c/file")
        let again = try Descriptor.makePath("\(folder.path)/a/b/c")
        #expect(try again.entries() == ["file"])
    }

    @Test func aFileInTheWayIsAnError() throws {
        try folder.write("file")
        let error = #expect(throws: SystemError.self) {
            _ = try Descriptor.makePath("\(folder.path)/file/below")
        }
        #expect(error?.errno == .notDirectory)
        #expect(error?.subject.hasPrefix(folder.path) == true)
    }

    @Test func aPathIntoNowhereNamesIt() {
        let error = #expect(throws: SystemError.self) {
            _ = try Descriptor.makePath("/proc/nothing/here")
        }
        #expect(error?.subject.hasPrefix("/proc/nothing") == true)
    }

    // MARK: Locks, names

    @Test func aLockExcludesOthersUntilItsFileIsClosed() throws {
        let other = try Descriptor.open(folder.path, [.readOnly, .directory])
        do {
            let first = try Descriptor.open(folder.path, [.readOnly, .directory])
            #expect(try first.lock())
            #expect(try other.lock(wait: false) == false)
            #expect(try other.lock(exclusive: false, wait: false) == false)
            // A lock belongs to the open file: taking it again there is no conflict.
            #expect(try first.lock(wait: false))
        }
        #expect(try other.lock(wait: false))
    }

    @Test func sharedLocksGoTogether() throws {
        let first = try Descriptor.open(folder.path, [.readOnly, .directory])
        let second = try Descriptor.open(folder.path, [.readOnly, .directory])
        #expect(try first.lock(exclusive: false))
        #expect(try second.lock(exclusive: false, wait: false))
        let third = try Descriptor.open(folder.path, [.readOnly, .directory])
        #expect(try third.lock(wait: false) == false)
    }

    @Test func renamesWithAndWithoutReplacement() throws {
        try folder.write("a", "a")
        try folder.write("b", "b")
        let error = #expect(throws: SystemError.self) {
            try folder.descriptor.rename("a", to: "b", replace: false)
        }
        #expect(error?.errno == .exists)
        #expect(try folder.read("b") == "b")
        try folder.descriptor.rename("a", to: "b")
        #expect(try folder.read("b") == "a")
        #expect(!folder.has("a"))
    }

    @Test func makesAndRemovesDirectories() throws {
        try folder.descriptor.makeDirectory("d")
        #expect(throws: SystemError.self) { try folder.descriptor.makeDirectory("d") }
        try folder.descriptor.ensureDirectory("d")
        #expect(throws: SystemError.self) { try folder.descriptor.remove("d") }
        try folder.descriptor.remove("d", directory: true)
        #expect(!folder.has("d"))
    }
}
