// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing
import ZoneRuntime

@testable import zonectl

/// Lines of `--log`, as engines read them back.
@Suite struct EngineLogTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    private var path: String { "\(folder.path)/log" }

    private func log(_ words: [String]) throws -> EngineLog {
        try EngineLog(
            ArgumentParser(command: "", options: EngineOption.globals, endsOptionsAtOperand: true).parse(words))
    }

    private func lines() throws -> [String] {
        try folder.read("log").split(separator: "\n", omittingEmptySubsequences: true).map(String.init)
    }

    private func text(_ json: JSON?) -> String? {
        if case .string(let text) = json { text } else { nil }
    }

    @Test(arguments: ["plain", "a \"quoted\" \\ name", "line\nbreak\ttab", "\u{1}\u{7f}é\u{2028}", ""])
    func jsonLinesAreReadBack(_ message: String) throws {
        let log = try log(["--log", path, "--log-format", "json"])
        log.report(ZoneError(.system, message, hint: "not for the log"))
        log.write(.warning, "second")
        let lines = try lines()
        try #require(lines.count == 2)
        let first = try JSON(parsing: Array(lines[0].utf8))
        #expect(text(first["level"]) == "error")
        #expect(text(first["msg"]) == message)
        let time = try #require(text(first["time"]))
        #expect(time.utf8.count == 20 && time.hasPrefix("20") && time.hasSuffix("Z"))
        guard case .object(let members) = first else { return #expect(Bool(false), "no object") }
        #expect(members.map(\.name) == ["level", "msg", "time"])
        #expect(try text(JSON(parsing: Array(lines[1].utf8))["level"]) == "warning")
    }

    @Test(arguments: [[], ["--log-format", "text"]])
    func textLines(_ format: [String]) throws {
        try log(["--log", path] + format).report(ZoneError(.system, "no \"x\""))
        let line = try #require(try lines().first)
        #expect(line.hasPrefix("time=\"20"))
        #expect(line.hasSuffix("Z\" level=error msg=\"no \\\"x\\\"\""))
    }

    @Test func linesAreAppended() throws {
        try folder.write("log", "older\n")
        try log(["--log", path]).report(ZoneError(.system, "newer"))
        let lines = try lines()
        try #require(lines.count == 2)
        #expect(lines[0] == "older" && lines[1].contains("newer"))
    }

    @Test func theFileIsMadeAtOnceAndReadableByTheEngine() throws {
        _ = try log(["--log", path])
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 & ~0o044 == 0o600)
        #expect(status.st_size == 0)
    }

    @Test func debugLinesComeWhenTheyAreWanted() throws {
        try log(["--log", path]).debug("quiet")
        #expect(try lines() == [])
        try log(["--debug", "--log", path]).debug("loud")
        #expect(try lines().first?.contains("level=debug msg=\"loud\"") == true)
    }

    @Test func filesInCrunsForm() throws {
        try log(["--log", "file:\(path)"]).write(.warning, "here")
        #expect(try lines().count == 1)
    }

    @Test func anEmptyNameIsNone() throws {
        try log(["--log=", "--log-format=json"]).report(ZoneError(.system, "on stderr only"))
        #expect(!folder.has("log"))
    }

    @Test func aFileThatCannotBeIsAnError() throws {
        let error = #expect(throws: ZoneError.self) { _ = try log(["--log", "\(folder.path)/none/log"]) }
        #expect(error?.detail.hasPrefix("--log: open") == true)
        #expect(throws: ZoneError.self) { _ = try log(["--log", path, "--log-format", "xml"]) }
    }

    /// The engine must read why also where the words cannot be parsed.
    @Test func theLogIsFoundInWordsThatCannotBeParsed() throws {
        EngineLog(of: ["--nope", "--log", path, "--log-format=json", "state", "x"]).report(ZoneError(.invalid, "why"))
        #expect(try text(JSON(parsing: Array(#require(try lines().first).utf8))["msg"]) == "why")
        EngineLog(of: ["--log=\(path)", "--nope"]).report(ZoneError(.invalid, "again"))
        #expect(try lines().last?.hasSuffix("msg=\"again\"") == true)
    }

    @Test func wordsOfAProgramAreNoLog() throws {
        EngineLog(of: ["--nope", "run", "busybox", "prog", "--log", path]).report(ZoneError(.invalid, "why"))
        #expect(!folder.has("log"))
    }

    /// The whole face, from words to status and log.
    @Test(
        arguments: [
            (["state", "nosuch"], 1), (["oci", "state", "nosuch"], 1), (["exec", "nosuch", "true"], 255),
            (["nosuch"], 1),
            (["state"], 1), (["kill", "nosuch", "SIGNOT"], 1), (["state", "--nope", "x"], 1),
            (["--nope", "state", "x"], 1),
        ] as [([String], Int32)])
    func failuresReachLogAndStatus(_ words: [String], _ status: Int32) throws {
        let globals = [
            "--root", "\(folder.path)/root", "--store", "\(folder.path)/store", "--log", path, "--log-format", "json",
        ]
        #expect(EngineFace.run((globals + words)[...], "runc") == status)
        let line = try #require(try lines().last)
        let record = try JSON(parsing: Array(line.utf8))
        #expect(text(record["level"]) == "error")
        #expect(text(record["msg"])?.isEmpty == false)
    }
}
