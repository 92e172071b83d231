// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct CommandTableTests {
    @Test(
        arguments: [
            (["run", "busybox"], "run", ["busybox"]), (["image", "ls", "-q"], "image ls", ["-q"]),
            (["images"], "image ls", []),
            (["image", "list"], "image ls", []), (["rmi", "x"], "image rm", ["x"]), (["list"], "ls", []),
            (["ls"], "ls", []),
            (["help", "image", "ls"], "help", ["image", "ls"]), (["rm", "image"], "rm", ["image"]),
        ] as [([String], String, [String])])
    func findsVerbsOfOneWordAndTwo(_ words: [String], _ name: String, _ rest: [String]) throws {
        let (command, left) = try #require(CommandTable.find(words[...]))
        #expect(command.name == name)
        #expect(Array(left) == rest)
    }

    @Test(
        arguments: [[], [""], ["image"], ["image", "nope"], ["nope"], ["Run"], ["image ls x"], ["ls "]] as [[String]])
    func findsNothingElse(_ words: [String]) {
        #expect(CommandTable.find(words[...]) == nil)
    }

    @Test(
        arguments: [
            ("stp", nil, "unknown verb \"stp\"", "did you mean 'stop'? 'zonectl help' lists the verbs"),
            ("xyzzyx", nil, "unknown verb \"xyzzyx\"", "'zonectl help' lists the verbs"),
            ("image", nil, "image needs a verb", nil), ("image", "nope", "unknown verb \"image nope\"", nil),
        ] as [(String, String?, String, String?)])
    func unknownVerbsGetAHint(_ word: String, _ next: String?, _ detail: String, _ hint: String?) {
        let error = CommandTable.unknown(word, next: next)
        #expect(error.detail == detail)
        if let hint {
            #expect(error.hint == hint)
        } else {
            #expect(error.hint?.contains("'zonectl image import'") == true)
        }
    }

    @Test func namesAreGivenOnce() {
        let names = CommandTable.all.flatMap(\.names)
        #expect(Set(names).count == names.count)
        for command in CommandTable.all {
            let options = command.options + [GlobalOption.help]
            #expect(Set(options.map(\.name)).count == options.count, "\(command.name)")
            // -h is the host name of run, as docker has it: help there is --help.
            let letters = command.options.compactMap(\.short)
            #expect(Set(letters).count == letters.count, "\(command.name)")
        }
    }

    @Test(arguments: CommandTable.all.map(\.name))
    func helpNamesEverything(_ name: String) throws {
        let command = try #require(CommandTable.all.first { $0.name == name })
        let text = Help.text(command)
        #expect(text.hasPrefix("Usage: zonectl \(name)"))
        #expect(text.contains(command.summary))
        for option in command.options + [GlobalOption.help] {
            let line = text.split(separator: "\n").first { line in
                let words = line.split(separator: " ")
                // Not where another text mentions it.
                return words.first?.hasPrefix("-") ?? false
                    && words.prefix(2).contains {
                        $0 == "--\(option.name)" || $0 == "--\(option.name)," || $0.hasPrefix("--\(option.name)[=")
                    }
            }
            let found = try #require(line, "--\(option.name)")
            #expect(found.contains(option.help))
            if let letter = option.short { #expect(found.contains("-\(letter), ")) }
            if case .value(let placeholder) = option.kind { #expect(found.contains(placeholder)) }
            if case .optional(let placeholder, _) = option.kind { #expect(found.contains(placeholder)) }
            #expect(found.contains("may be repeated") == option.repeats)
            #expect(option.help.first?.isUppercase == true || option.help.first?.isLowercase == true)
            #expect(option.help.last != ".")
        }
        for alias in command.names.dropFirst() { #expect(text.contains(alias)) }
        #expect(command.summary.last != ".")
    }

    @Test func theOverviewNamesEveryVerb() {
        let lines = Help.overview().split(separator: "\n")
        for command in CommandTable.shown {
            #expect(
                lines.contains { $0.hasPrefix("  \(command.name) ") && $0.hasSuffix(command.summary) },
                "\(command.name)")
        }
        for option in GlobalOption.all { #expect(Help.overview().contains("--\(option.name)")) }
    }

    /// CStart.c looks for run and exec before the C library starts; the others execute zonectl again.
    @Test func whatEntersAZone() {
        #expect(
            CommandTable.all.filter(\.entersZone).map(\.name).sorted()
                == ["apply", "exec", "restart", "run", "shell", "start"])
    }

    @Test func whatBelongsToTheZonesProgramIsNotParsed() throws {
        for name in ["run", "exec"] {
            let command = try #require(CommandTable.all.first { $0.name == name })
            #expect(command.endsOptionsAtOperand)
        }
    }

    @Test func lookingNeedsNoRoot() {
        let free = CommandTable.all.filter { !$0.needsRoot }.map(\.name)
        // Signals reach a user's zones from outside of their namespaces only.
        #expect(
            Set(free) == [
                "ls", "ps", "inspect", "snapshot ls", "logs", "events", "wait", "rename", "kill", "stop", "image ls",
                "image inspect", "volume ls", "volume inspect", "network ls", "network inspect", "image save",
                "image df",
                "version",
                "help",
                "unit", "stats", "top", "metrics", "schema", "doctor", "completion", "__complete",
            ])
    }

    // MARK: Arguments

    @Test func argumentsKeepWhatWasGiven() {
        let option = zonectl.Option.list("env", "e", "X", "")
        let flag = zonectl.Option.flag("rm", nil, "")
        var arguments = Arguments()
        #expect(arguments.value(option) == nil)
        #expect(!arguments.flag(flag))
        arguments.add(option, "a")
        arguments.add(option, "b")
        arguments.add(flag, "true")
        arguments.add(operand: "x")
        #expect(arguments.list(option) == ["a", "b"])
        #expect(arguments.value(option) == "b")
        #expect(arguments.flag(flag))
        #expect(arguments.operands == ["x"])
    }

    // MARK: What people see

    @Test(
        arguments: [(0, "1970-01-01T00:00:00Z"), (1_709_210_096, "2024-02-29T12:34:56Z"), (-1, "1969-12-31T23:59:59Z")]
            as [(Int64, String)])
    func timesAreRFC3339(_ seconds: Int64, _ text: String) {
        #expect(PointInTime.rfc3339(seconds) == text)
    }

    @Test(arguments: [(59, "s ago"), (3599, "min ago"), (86_400, "h ago"), (200_000, "days ago")] as [(Int64, String)])
    func agesAreShort(_ seconds: Int64, _ unit: String) throws {
        let now = try #require(Self.now)
        #expect(Age.text(since: now - seconds).hasSuffix(unit))
        // A clock that was set back makes nothing negative.
        #expect(Age.text(since: now + 1000) == "0 s ago")
    }

    private static var now: Int64? {
        var moment = timespec()
        return clock_gettime(CLOCK_REALTIME, &moment) == 0 ? Int64(moment.tv_sec) : nil
    }
}
