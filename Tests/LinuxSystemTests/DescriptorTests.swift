// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct DescriptorTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    @Test func everyDescriptorIsCloseOnExec() throws {
        try folder.write("file")
        let opened = try Descriptor.open("\(folder.path)/file", [.readWrite])
        let below = try folder.descriptor.open("file", [.readOnly], resolve: .beneath)
        let duplicate = try opened.duplicate()
        let memory = try Descriptor.inMemory("test")
        for raw in [opened.raw, below.raw, duplicate.raw, memory.raw] {
            #expect(fcntl(raw, F_GETFD) & FD_CLOEXEC == FD_CLOEXEC)
        }
    }

    @Test func aDuplicateSharesThePosition() throws {
        let file = try Descriptor.inMemory("test")
        try file.writeAll("abc")
        let other = try file.duplicate()
        #expect(other.raw != file.raw)
        file.rewind()
        #expect(try other.read(upTo: 2) == Array("ab".utf8))
        #expect(try file.read(upTo: 9) == Array("c".utf8))
    }

    @Test func theEndOfTheValueClosesTheDescriptor() throws {
        let ends = try pipeEnds()
        let reading = Descriptor(owning: ends.0)
        let writing = Descriptor(owning: ends.1)
        do {
            let scoped = writing
            #expect(try waitReadable(reading.raw, milliseconds: 0) == false)
            _ = scoped.raw
        }
        // Readable at once: the last writer is gone.
        #expect(try waitReadable(reading.raw, milliseconds: 0))
        #expect(try reading.read(upTo: 1).isEmpty)
    }

    @Test func aReleasedDescriptorStaysOpen() throws {
        let ends = try pipeEnds()
        let reading = Descriptor(owning: ends.0)
        let writing = Descriptor(owning: ends.1)
        let raw = writing.release()
        #expect(try waitReadable(reading.raw, milliseconds: 0) == false)
        _ = Descriptor(owning: raw)
        #expect(try waitReadable(reading.raw, milliseconds: 0))
    }

    @Test func aBagClosesWhatItAdopted() throws {
        let ends = try pipeEnds()
        let firstReading = Descriptor(owning: ends.0)
        let firstWriting = Descriptor(owning: ends.1)
        let others = try pipeEnds()
        let secondReading = Descriptor(owning: others.0)
        let secondWriting = Descriptor(owning: others.1)
        do {
            var bag = DescriptorBag()
            let number = firstWriting.raw
            #expect(bag.adopt(firstWriting) == number)
            _ = bag.adopt(secondWriting)
            #expect(try waitReadable(firstReading.raw, milliseconds: 0) == false)
            #expect(try waitReadable(secondReading.raw, milliseconds: 0) == false)
        }
        #expect(try waitReadable(firstReading.raw, milliseconds: 0))
        #expect(try waitReadable(secondReading.raw, milliseconds: 0))
    }

    // MARK: Resolution below a directory

    struct Lookup: Sendable {
        let path: String
        let resolve: ResolveFlags
        /// nil: it succeeds.
        let errno: Errno?
    }

    @Test(arguments: [
        Lookup(path: "inside/file", resolve: .beneath, errno: nil),
        Lookup(path: "inside/file", resolve: .zone, errno: nil),
        Lookup(path: "/inside/file", resolve: .zone, errno: nil),
        Lookup(path: "../../../inside/file", resolve: .zone, errno: nil),
        // Absolute inside the root, as after chroot(2).
        Lookup(path: "absolute", resolve: .zone, errno: nil),
        Lookup(path: "absolute", resolve: .beneath, errno: .crossDevice),
        Lookup(path: "/inside/file", resolve: .beneath, errno: .crossDevice),
        Lookup(path: "inside/../../etc/passwd", resolve: .beneath, errno: .crossDevice),
        Lookup(path: "up/etc/passwd", resolve: .beneath, errno: .crossDevice),
        Lookup(path: "up/etc/passwd", resolve: .zone, errno: .noEntry),
        Lookup(path: "host", resolve: .zone, errno: .noEntry),
        Lookup(path: "absolute", resolve: [.inRoot, .noSymlinks], errno: .loop),
        Lookup(path: "missing", resolve: .zone, errno: .noEntry),
    ])
    func lookupsStayBelow(_ lookup: Lookup) throws {
        try folder.write("inside/file", "inside")
        try folder.descriptor.makeSymlink("absolute", to: "/inside/file")
        try folder.descriptor.makeSymlink("up", to: "../../../../../..")
        try folder.descriptor.makeSymlink("host", to: "/etc/passwd")
        do throws(SystemError) {
            let file = try folder.descriptor.open(lookup.path, [.readOnly], resolve: lookup.resolve)
            #expect(try String(decoding: file.readAll(limit: 10), as: UTF8.self) == "inside")
            #expect(lookup.errno == nil)
        } catch {
            #expect(error.errno == lookup.errno)
            #expect(error.subject == lookup.path)
        }
    }

    @Test func magicLinksAreRefused() throws {
        let process = try Descriptor.open("/proc/self", [.path, .directory])
        let number = folder.descriptor.raw
        #expect(process.openRaw("fd/\(number)", [.path], resolve: .zone) == -ELOOP)
        #expect(process.openRaw("root", [.path], resolve: .zone) == -ELOOP)
        #expect(process.openRaw("cwd", [.path], resolve: .zone) == -ELOOP)
    }

    @Test func openRawReturnsTheNegativeErrorNumber() {
        #expect(folder.descriptor.openRaw("missing", [.readOnly], resolve: .beneath) == -ENOENT)
        #expect(folder.descriptor.openRaw(".", [.writeOnly], resolve: .beneath) == -EISDIR)
    }
}

/// The two ends of a pipe, which the caller owns.
func pipeEnds() throws -> (reading: CInt, writing: CInt) {
    var ends: [CInt] = [-1, -1]
    try check(zn_pipe2(&ends, OpenFlags.closeOnExec.rawValue), "pipe2")
    return (ends[0], ends[1])
}
