// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import ZoneRuntime

@Suite struct EventLogTests {
    private let folder: TemporaryFolder
    private let folders: ZoneFolders

    init() throws {
        folder = try TemporaryFolder()
        folders = try ZoneFolders(root: "\(folder.path)/run", store: "\(folder.path)/store")
        try folder.makeFolder("run")
    }

    private func events(_ change: (inout EventLog.Request) -> Void = { _ in }) throws -> [ZoneEvent] {
        var request = EventLog.Request()
        request.follows = false
        change(&request)
        var result: [ZoneEvent] = []
        _ = try EventLog(folders).read(request) { (event) throws(ZoneError) in result.append(event) }
        return result
    }

    @Test func whatIsRecordedIsRead() throws {
        let log = EventLog(folders)
        log.record(.start, zone: "web", ["image": "a \"b\"\n"])
        log.record(.die, zone: "web", ["exitCode": "1"])
        log.record(.start, zone: "db")
        let all = try events()
        #expect(all.map(\.event) == ["start", "die", "start"])
        #expect(all[0].attributes == ["image": "a \"b\"\n"])
        #expect(PointInTime.nanoseconds(rfc3339: Array(all[0].time.utf8)[...]) != nil)
        #expect(try events { $0.zones = ["db"] }.count == 1)
        #expect(try events { $0.kinds = ["die"] }.map(\.zone) == ["web"])
        #expect(try events { $0.since = FileStatus.now + 1_000_000_000 }.isEmpty)
        #expect(try events { $0.until = FileStatus.now + 1_000_000_000 }.count == 3)
    }

    @Test func isNoZone() throws {
        EventLog(folders).record(.start, zone: "web")
        #expect(folder.has("run/.events"))
        #expect(try ZoneStore(folders).list().isEmpty)
        #expect(throws: ZoneError.self) { try ZoneStore(folders).find(".events") }
    }

    @Test func nothingFailsForAnEvent() throws {
        let none = try ZoneFolders(root: "\(folder.path)/none", store: "\(folder.path)/store")
        EventLog(none).record(.start, zone: "web")
        #expect(!folder.has("none"))
    }

    @Test func twoFilesAreKept() throws {
        let log = EventLog(folders)
        for number in 0..<300 {
            log.record(.exec, zone: "web", ["number": String(number), "x": String(repeating: "x", count: 3800)])
        }
        #expect(folder.has("run/.events.1"))
        let numbers = try events().compactMap { $0.attributes["number"].flatMap { Int($0) } }
        #expect(numbers == Array(0..<300))
        for number in 300..<1000 {
            log.record(.exec, zone: "web", ["number": String(number), "x": String(repeating: "x", count: 3800)])
        }
        #expect(try FileStatus.of("\(folder.path)/run/.events.1").size < 1_100_000)
        #expect(!folder.has("run/.events.2"))
        #expect(try events().last?.attributes["number"] == "999")
    }

    @Test func aLineIsNeverLong() throws {
        EventLog(folders).record(.exec, zone: "web", ["command": String(repeating: "x", count: 100_000)])
        #expect(try events().map(\.attributes) == [[:]])
    }

    @Test func damagedLinesAreLeftOut() throws {
        EventLog(folders).record(.start, zone: "web")
        let text = try folder.read("run/.events")
        try folder.write("run/.events", "{\n\u{0}\n[]\n{\"time\":1}\n\(text){\"time\"")
        #expect(try events().count == 1)
    }
}
