// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct FilesTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    @Test(arguments: [0, 1, 4095, 4096, 4097, 100_000])
    func readsWhatWasWritten(_ size: Int) throws {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let file = try Descriptor.inMemory("test")
        try file.writeAll(bytes)
        file.rewind()
        #expect(try file.readAll(limit: 100_000) == bytes)
    }

    @Test func readingStopsAtTheLimit() throws {
        let file = try Descriptor.inMemory("test")
        try file.writeAll([UInt8](repeating: 1, count: 101))
        file.rewind()
        let error = #expect(throws: SystemError.self) { try file.readAll(limit: 100, "the file") }
        #expect(error?.errno.rawValue == EFBIG)
        #expect(error?.subject == "the file")
        // A source without end must not be read for ever.
        let endless = #expect(throws: SystemError.self) {
            try readHostFile("/dev/zero", limit: 1 << 16)
        }
        #expect(endless?.errno.rawValue == EFBIG)
    }

    @Test func readsKernelFilesThatClaimToBeEmpty() throws {
        #expect(try FileStatus.of("/proc/self/status").size == 0)
        // Each file of sysfs claims to be a page, whatever is in it; a small limit is for what is.
        let number = try readHostFile("/sys/kernel/uevent_seqnum", limit: 64)
        #expect(number.count > 1 && number.last == UInt8(ascii: "\n"))
        #expect(throws: SystemError.self) { try readHostFile("/sys/kernel/uevent_seqnum", limit: 1) }
        #expect(try String(decoding: readHostFile("/proc/self/status"), as: UTF8.self).contains("Pid:"))
    }

    @Test func aFailedWriteNamesFileAndValue() throws {
        let full = try Descriptor.open("/dev/full", [.writeOnly])
        let once = #expect(throws: SystemError.self) { try full.writeOnce("42", "memory.max") }
        #expect(once.map { "\($0)" } == "write memory.max = 42: No space left on device")
        let all = #expect(throws: SystemError.self) { try full.writeAll("42", "file") }
        #expect(all?.errno == .noSpace)
    }

    @Test func tellsKindsApart() throws {
        try folder.write("file", "12345")
        try folder.makeFolder("directory")
        try folder.descriptor.makeSymlink("link", to: "file")
        try #require(mkfifo("\(folder.path)/fifo", 0o600) == 0)
        try #require(chmod("\(folder.path)/file", 0o4751) == 0)
        let file = try folder.descriptor.status("file")
        #expect(file.kind == .regular)
        #expect(file.size == 5)
        #expect(file.mode == 0o4751)
        #expect(try folder.descriptor.status("directory").kind == .directory)
        #expect(try folder.descriptor.status("link").kind == .symlink)
        #expect(try folder.descriptor.status("fifo").kind == .fifo)
        #expect(try FileStatus.of("\(folder.path)/link").inode == file.inode)
        #expect(try FileStatus.of("\(folder.path)/link", followLinks: false).kind == .symlink)
        let null = try FileStatus.of("/dev/null")
        #expect(null.kind == .characterDevice)
        #expect((null.major, null.minor) == (1, 3))
        #expect(try Descriptor.open("/dev/null", [.path]).stat() == null)
    }

    @Test func timesAreOnTheClockOfNow() throws {
        let before = FileStatus.now
        try folder.write("file", "x")
        let status = try folder.descriptor.status("file")
        // The kernel stamps files with the time of its last tick.
        #expect(status.modified > before - 1_000_000_000)
        #expect(status.changed <= FileStatus.now)
    }

    @Test func aStatusOfNothingIsAnError() {
        let error = #expect(throws: SystemError.self) { try folder.descriptor.status("missing") }
        #expect(error.map { "\($0)" } == "stat missing: No such file or directory")
    }

    @Test func checkKeepsTheErrorOfTheCall() throws {
        #expect(try check(7, "operation") == 7)
        let error = #expect(throws: SystemError.self) { try check(-ENOSPC, "write", "/file") }
        #expect(error?.errno == .noSpace)
        #expect(error.map { "\($0)" } == "write /file: No space left on device")
        #expect(error.map { "\($0.during("save", "it"))" } == "save it: No space left on device")
        let plain = #expect(throws: SystemError.self) { try check(-1, "act") }
        #expect(plain.map { "\($0)" } == "act: Operation not permitted")
    }
}
