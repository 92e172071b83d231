// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import TestSupport
import Testing

@testable import ZoneRuntime

/// A restore that was decided is finished from every place at which it can have been interrupted.
@Suite struct RestoreTests {
    private func check(_ fill: (TemporaryFolder) throws -> Void) throws {
        let folder = try TemporaryFolder()
        try folder.write("work/note")
        try folder.write("hosts", "kept")
        try fill(folder)
        for _ in 0..<2 {
            try PendingRestore.finish(folder.descriptor, "z")
            #expect(try folder.descriptor.entries().sorted() == ["definition.json", "hosts", "upper"])
            #expect(try folder.read("upper/file") == "new" && folder.read("definition.json") == "new")
            try folder.makeFolder("work")
            try folder.descriptor.removeTree("work")
        }
    }

    @Test func fromTheBeginning() throws {
        try check { folder in
            try folder.write("upper/file", "old")
            try folder.write("definition.json", "old")
            try folder.write(".restore/upper/file", "new")
            try folder.write(".restore/definition.json", "new")
        }
    }

    @Test func ofAZoneThatNeverRan() throws {
        try check { folder in
            try folder.write("definition.json", "old")
            try folder.write(".restore/upper/file", "new")
            try folder.write(".restore/definition.json", "new")
        }
    }

    @Test func withTheFormerChangesAway() throws {
        try check { folder in
            try folder.write("definition.json", "old")
            try folder.write(".restore/former/file", "old")
            try folder.write(".restore/upper/file", "new")
            try folder.write(".restore/definition.json", "new")
        }
    }

    @Test func withTheFilesInPlace() throws {
        try check { folder in
            try folder.write("upper/file", "new")
            try folder.write("definition.json", "old")
            try folder.write(".restore/former/file", "old")
            try folder.write(".restore/definition.json", "new")
        }
    }

    @Test func whileTheFormerChangesGo() throws {
        try check { folder in
            try folder.write("upper/file", "new")
            try folder.write("definition.json", "new")
            try folder.write(".restore/former/part", "old")
        }
    }

    @Test func whatIsNotDecidedStays() throws {
        let folder = try TemporaryFolder()
        try folder.write("upper/file", "old")
        try folder.write(".restore.new/upper/file", "new")
        try PendingRestore.finish(folder.descriptor, "z")
        #expect(try folder.read("upper/file") == "old")
    }

    @Test(
        arguments: [
            ("a", ".", "a"), ("/a", "/", "a"), ("/a/b", "/a", "b"), ("a/b", "a", "b"), ("/", "/", nil),
            ("a/", "a/", nil),
            ("a/.", "a/.", nil), ("..", "..", nil), ("/a/..", "/a/..", nil), ("a//b", "a/", "b"), ("", "", nil),
            ("a/.b", "a", ".b"), ("...", ".", "..."),
        ] as [(String, String, String?)])
    func pathsAreSplitAtTheLastName(_ path: String, _ parent: String, _ name: String?) {
        let split = CopyPlace.split(path)
        #expect(split.parent == parent && split.name == name)
    }
}
