// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import TestSupport
import Testing

@testable import LinuxSystem

@Suite struct HostProgramTests {
    private func shell(_ script: String) throws -> HostProgram {
        try HostProgram("sh", ["-c", script])
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test func outputErrorsAndStatus() throws {
        let outcome = try shell("echo out; echo one >&2; echo two >&2; exit 7").run()
        #expect(outcome.status == .exited(7))
        #expect(text(outcome.output) == "out\n")
        #expect(text(outcome.errors) == "one\ntwo\n")
        #expect(outcome.reason == "one" && !outcome.isCut)
        #expect(try shell("kill -9 $$").run().status == .signalled(SIGKILL))
    }

    @Test func programsAreFoundInFixedPlaces() throws {
        #expect(try HostProgram.find("sh").hasSuffix("bin/sh"))
        #expect(try HostProgram.find("/x/y") == "/x/y")
        for (name, errno) in [("no-such-program-here", Errno.noEntry), ("a/b", .invalid), ("", .invalid)] {
            let error = #expect(throws: SystemError.self) { try HostProgram(name) }
            #expect(error?.errno == errno)
        }
        let error = #expect(throws: SystemError.self) { _ = try HostProgram("/no/such/program").run() }
        #expect(error?.errno == .noEntry)
        #expect(throws: SystemError.self) { _ = try HostProgram("sh", ["a\0b"]).run() }
    }

    @Test func argumentsAndInputArriveAsTheyAre() throws {
        var command = try HostProgram("sh", ["-c", "printf '%s|' \"$@\"; cat", "name", "a b", "", "ü\n'"])
        command.input = Array(repeating: UInt8(ascii: "x"), count: 300_000)
        let outcome = try command.run()
        #expect(text(outcome.output) == "a b||ü\n'|" + String(repeating: "x", count: 300_000))
        #expect(try text(shell("cat; echo end").run().output) == "end\n")
    }

    @Test func nothingIsInherited() throws {
        // One that would be: not close-on-exec.
        let open = dup(2)
        defer { close(open) }
        setenv("ZONECTL_TEST_SECRET", "1", 1)
        defer { unsetenv("ZONECTL_TEST_SECRET") }
        let outcome = try shell("ls /proc/self/fd | tr '\\n' ' '; env").run()
        // 3 is the folder that ls reads.
        #expect(text(outcome.output).hasPrefix("0 1 2 3 "))
        #expect(!text(outcome.output).hasPrefix("0 1 2 3 4"))
        #expect(!text(outcome.output).contains("SECRET"))
        #expect(text(outcome.output).contains("LC_ALL=C"))
    }

    @Test func namedDescriptorsArePassedOn() throws {
        let first = try Descriptor.inMemory("first")
        let second = try Descriptor.inMemory("second")
        try first.writeAll("1")
        try second.writeAll("2")
        first.rewind()
        second.rewind()
        var command = try shell("cat <&3; cat <&4; ls /proc/self/fd | wc -l")
        command.inherited = [second.raw, first.raw]
        #expect(try text(command.run().output) == "216\n")
    }

    @Test func signalsAreAsAfterLogin() throws {
        let outcome = try shell("grep -E '^Sig(Blk|Ign)' /proc/self/status").run()
        let masks = text(outcome.output).split(separator: "\n").compactMap { line in
            line.split(separator: "\t").last.flatMap { UInt64($0, radix: 16) }
        }
        // 32 and 33 are the C library's own: its posix_spawn leaves them ignored.
        #expect(masks.map { $0 & ~0x1_8000_0000 } == [0, 0])
    }

    @Test func timeIsLimited() throws {
        var command = try shell("exec sleep 60")
        command.milliseconds = 100
        let start = MonotonicClock.milliseconds
        let error = #expect(throws: SystemError.self) { _ = try command.run() }
        #expect(error?.errno == .timedOut)
        #expect((90..<10_000).contains(MonotonicClock.milliseconds - start))
    }

    /// A process that the program leaves behind holds the streams open.
    @Test func theProgramsEndIsTheEnd() throws {
        let start = MonotonicClock.milliseconds
        let outcome = try shell("sleep 20 & echo $!").run()
        #expect(MonotonicClock.milliseconds - start < 10_000)
        let pid = try #require(Int32(text(outcome.output).dropLast()))
        kill(pid, SIGKILL)
    }

    @Test func muchOutputIsCut() throws {
        var command = try shell("head -c 3000000 /dev/zero; echo end >&2")
        command.limit = 1000
        let outcome = try command.run()
        #expect(outcome.output.count == 1000 && outcome.isCut && outcome.reason == "end")
        command = try shell("yes")
        command.milliseconds = 200
        let error = #expect(throws: SystemError.self) { _ = try command.run() }
        #expect(error?.errno == .timedOut)
    }
}
