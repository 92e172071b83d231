// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Namespaces
import TestSupport
import Testing

@testable import ZoneRuntime

@Suite struct LogTests {
    private let folder: TemporaryFolder
    /// 2026-11-21T15:04:05.000000007Z
    private let time: Int64 = 1_795_273_445_000_000_007

    init() throws {
        folder = try TemporaryFolder()
    }

    private func writer(_ policy: LogPolicy = LogPolicy()) throws -> LogWriter {
        LogWriter(folder: try folder.descriptor.duplicate(), policy: policy)
    }

    private func policy(_ size: Int64, _ files: Int32) -> LogPolicy {
        var policy = LogPolicy()
        policy.maximumSize = size
        policy.files = files
        return policy
    }

    private func reader() throws -> LogReader {
        try LogReader(folder: try folder.descriptor.duplicate())
    }

    private func messages(_ reader: inout LogReader, isLast: Bool = true) throws -> [String] {
        var result: [String] = []
        try reader.read(isLast: isLast) { (bytes) throws(ZoneError) in
            result.append(String(decoding: LogLine(bytes).message, as: UTF8.self))
        }
        return result
    }

    // MARK: Lines

    @Test func aLineHasTimeStreamTagAndMessage() throws {
        var writer = try writer()
        writer.append(Array("hello\nwor".utf8)[...], .output, at: time)
        writer.append(Array("oops\n".utf8)[...], .error, at: time)
        let isUnfinished = writer.hasUnfinished
        #expect(isUnfinished)
        writer.append(Array("ld\n\n".utf8)[...], .output, at: time)
        let isFinished = !writer.hasUnfinished
        #expect(isFinished)
        let head = "2026-11-21T15:04:05.000000007Z"
        #expect(
            try folder.read("log")
                == "\(head) stdout F hello\n\(head) stderr F oops\n\(head) stdout F world\n\(head) stdout F \n")
    }

    @Test func whatHasNoEndYetIsWrittenWhenNothingHappens() throws {
        var writer = try writer()
        writer.append(Array("Password: ".utf8)[...], .output, at: time)
        #expect(try folder.read("log").isEmpty)
        writer.flush(at: time)
        writer.flush(at: time)
        writer.append(Array("ok\n".utf8)[...], .output, at: time)
        writer.append(Array("end".utf8)[...], .output, at: time)
        writer.flush(at: time)
        writer.finish(at: time)
        let tags = try folder.read("log").split(separator: "\n").map { $0.dropFirst(31) }
        #expect(tags == ["stdout P Password: ", "stdout F ok", "stdout P end", "stdout F "])
    }

    @Test func longLinesAreSplitAndNothingIsLost() throws {
        var writer = try writer()
        let text = (0..<100_000).map { UInt8(ascii: "a") + UInt8($0 % 26) }
        for start in stride(from: 0, to: text.count, by: 4000) {
            writer.append(text[start..<(start + 4000)], .output, at: time)
        }
        writer.append([0x0A], .output, at: time)
        var joined: [UInt8] = []
        var tags = ""
        var reader = try reader()
        try reader.read(isLast: true) { (bytes) throws(ZoneError) in
            let line = LogLine(bytes)
            #expect(line.message.count <= 16 << 10)
            joined += line.message
            tags += line.isPartial ? "P" : "F"
        }
        #expect(joined == text)
        #expect(tags == "PPPPPPF")
    }

    @Test(arguments: [
        "", " ", "x", "2026-11-21T15:04:05Z", "2026-11-21T15:04:05Z stdout", "2026-11-21T15:04:05Z stdlog F x",
        "2026-11-21T15:04:05Z stdout X x", "2026-13-21T15:04:05Z stdout F x", "2026-11-21T15:04:05 stdout F x",
        "2026-11-21T15:04:05.Z stdout F x", "9999-11-21T15:04:05Z stdout F x", "\u{0}\u{0}\u{0}",
    ])
    func aDamagedLineIsShownAsItIs(_ text: String) {
        let line = LogLine(Array(text.utf8)[...])
        #expect(line.time == nil)
        #expect(Array(line.message) == Array(text.utf8))
        #expect(!line.isPartial)
    }

    @Test(arguments: [
        ("2026-11-21T15:04:05Z stdout F x y ", LogStream.output, false, "x y "),
        ("2026-11-21T16:04:05.5+01:00 stderr P ", .error, true, ""),
        ("2026-11-21T15:04:05Z stderr F", .error, false, ""),
        ("2026-11-21T15:04:05Z stdout P:a:b x", .output, true, "x"),
    ])
    func whatOthersWriteIsTaken(_ text: String, _ stream: LogStream, _ isPartial: Bool, _ message: String) {
        let line = LogLine(Array(text.utf8)[...])
        #expect(line.time != nil)
        #expect(line.stream == stream)
        #expect(line.isPartial == isPartial)
        #expect(String(decoding: line.message, as: UTF8.self) == message)
    }

    @Test func noBytesTrap() {
        var random = SystemRandomNumberGenerator()
        let valid = Array("2026-11-21T15:04:05.123456789+01:00 stdout P:x message".utf8)
        for _ in 0..<20_000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let line = LogLine(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
            #expect(line.message.count <= bytes.count)
        }
    }

    // MARK: Rotation

    @Test func filesAreRotatedAndReadInTheirOrder() throws {
        var writer = try writer(policy(1024, 3))
        for number in 0..<100 { writer.append(Array("line \(number)\n".utf8)[...], .output, at: time) }
        #expect(folder.has("log.2"))
        #expect(!folder.has("log.3"))
        for file in ["log", "log.1", "log.2"] { #expect(try folder.read(file).utf8.count <= 1024) }
        var reader = try reader()
        let all = try messages(&reader)
        #expect(all.count > 40)
        #expect(all == (100 - all.count..<100).map { "line \($0)" })
    }

    @Test func aLowerNumberOfFilesRemovesTheRest() throws {
        for name in ["log.1", "log.2", "log.3"] { try folder.write(name, "old\n") }
        var writer = try writer(policy(1024, 2))
        for number in 0..<40 { writer.append(Array("line \(number)\n".utf8)[...], .output, at: time) }
        #expect(folder.has("log.1"))
        #expect(!folder.has("log.2"))
        #expect(!folder.has("log.3"))
    }

    @Test(arguments: [1, 2, 3] as [Int32]) func aFollowerLosesNothing(_ files: Int32) throws {
        var writer = try writer(policy(1024, files))
        var reader = try reader()
        var seen: [String] = []
        for number in 0..<500 {
            writer.append(Array("line \(number)\n".utf8)[...], .output, at: time)
            // Less often than files are begun, and not so seldom that the oldest is gone by then.
            if number % 17 == 0 { seen += try messages(&reader, isLast: false) }
        }
        seen += try messages(&reader)
        #expect(seen == (0..<500).map { "line \($0)" })
    }

    @Test func aGapInTheNumbersIsFilled() throws {
        try folder.write("log.2", "2026-11-21T15:04:05Z stdout F oldest\n")
        var writer = try writer(policy(1024, 3))
        for number in 0..<30 { writer.append(Array("line \(number)\n".utf8)[...], .output, at: time) }
        var reader = try reader()
        #expect(try messages(&reader).first == "oldest")
    }

    // MARK: Damage

    @Test func halfALineIsEndedByTheNextWriter() throws {
        try folder.write("log", "2026-11-21T15:04:05Z stdout F whole\n2026-11-21T15:04:05Z std")
        var writer = try writer()
        writer.append(Array("next\n".utf8)[...], .output, at: time)
        var reader = try reader()
        #expect(try messages(&reader) == ["whole", "2026-11-21T15:04:05Z std", "next"])
    }

    @Test func aHugeLineOfSomebodyElsesIsShownInParts() throws {
        try folder.write("log", String(repeating: "x", count: 200_000))
        var reader = try reader()
        #expect(try messages(&reader).joined() == String(repeating: "x", count: 200_000))
        var last = try self.reader()
        try last.skip(toLast: 1)
        #expect(try !messages(&last).isEmpty)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can mount the small file system that it fills"))
    func aFullDiskLosesLinesAndSaysHowMany() throws {
        let context = try FileSystemContext("tmpfs")
        try context.set("size", "64k")
        let disk = try context.mount()
        var writer = LogWriter(folder: try disk.open(".", [.path, .directory], resolve: .beneath))
        let line = Array((String(repeating: "x", count: 99) + "\n").utf8)
        for _ in 0..<2000 { writer.append(line[...], .output, at: time) }
        let isUnfinished = writer.hasUnfinished
        #expect(isUnfinished)
        let full = try disk.readFile("log")
        #expect(full.count <= 64 << 10)
        // Only whole lines.
        #expect(full.last == 0x0A)
        let kept = full.count { $0 == 0x0A }
        #expect(kept > 100)
        // Room again.
        try disk.open("log", [.writeOnly, .truncate], resolve: .beneath).writeAll([])
        writer.flush(at: time)
        writer.append(Array("back\n".utf8)[...], .output, at: time)
        let text = String(decoding: try disk.readFile("log"), as: UTF8.self)
        let head = "2026-11-21T15:04:05.000000007Z"
        #expect(
            text == "\(head) stderr F zonectl: \(2000 - kept) lines were lost: No space left on device\n"
                + "\(head) stdout F back\n")
        let isFinished = !writer.hasUnfinished
        #expect(isFinished)
    }

    @Test func noFolderIsNoReasonToFail() throws {
        try folder.makeFolder("zone")
        var writer = LogWriter(folder: try folder.descriptor.open("zone", [.path, .directory], resolve: .beneath))
        try folder.descriptor.removeTree("zone")
        writer.append(Array("still here\n".utf8)[...], .output)
        writer.finish()
    }

    // MARK: The last lines

    @Test(arguments: [0, 1, 2, 9, 10, 11, 500, 1000, 2000]) func theLastLines(_ count: Int) throws {
        var writer = try writer(policy(16 << 10, 10))
        for number in 0..<1000 { writer.append(Array("line \(number)\n".utf8)[...], .output, at: time) }
        var reader = try reader()
        try reader.skip(toLast: count)
        #expect(try messages(&reader) == (max(0, 1000 - count)..<1000).map { "line \($0)" })
    }

    @Test func aLineThatGoesOnIsOne() throws {
        var writer = try writer()
        writer.append(Array("before\n".utf8)[...], .output, at: time)
        writer.append([UInt8](repeating: 0x78, count: 40_000)[...], .output, at: time)
        writer.append(Array("\nlast".utf8)[...], .output, at: time)
        writer.flush(at: time)
        var reader = try reader()
        try reader.skip(toLast: 2)
        #expect(try messages(&reader).map(\.utf8.count) == [16_384, 16_384, 7232, 4])
        reader = try self.reader()
        try reader.skip(toLast: 1)
        #expect(try messages(&reader) == ["last"])
    }

    // MARK: Policies

    @Test func optionsAreDockers() throws {
        var policy = LogPolicy()
        try policy.apply(option: "max-size=10k")
        try policy.apply(option: "max-file=5")
        #expect(policy.maximumSize == 10_240)
        #expect(policy.files == 5)
        try policy.apply(option: "max-size=-1")
        #expect(policy.maximumSize == .max)
        for text in ["", "max-size", "max-size=", "max-size=1", "max-size=-2", "max-file=0", "max-file=x", "mode=x"] {
            #expect(throws: ZoneError.self) { try policy.apply(option: text) }
        }
    }
}
