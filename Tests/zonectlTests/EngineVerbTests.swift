// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing
import ZoneRuntime

@testable import zonectl

/// The engine face's tables and what becomes of the words.
@Suite struct EngineVerbTests {
    private func parse(_ verb: String, _ words: [String]) throws -> Arguments {
        let verb = try #require(EngineVerbs.find(verb))
        return try ArgumentParser(
            command: verb.name, options: verb.options, endsOptionsAtOperand: verb.endsOptionsAtOperand,
            takesSingleDash: true
        ).parse(words)
    }

    private func option(_ verb: String, _ name: String) throws -> zonectl.Option {
        try #require(EngineVerbs.find(verb)?.options.first { $0.name == name }, "\(verb) --\(name)")
    }

    // MARK: The tables

    /// What engines give: flags, and options with a value.
    private static let flags: [(String, [String])] = [
        ("create", ["no-pivot", "no-new-keyring"]),
        ("run", ["no-pivot", "no-new-keyring", "detach", "keep", "no-subreaper"]),
        ("exec", ["tty", "detach", "no-new-privs", "ignore-paused"]), ("kill", ["all"]), ("delete", ["force"]),
        ("list", ["quiet"]), ("spec", ["rootless"]), ("events", ["stats"]),
    ]
    private static let values: [(String, [String])] = [
        ("create", ["bundle", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"]),
        ("run", ["bundle", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"]),
        (
            "exec",
            [
                "console-socket", "pidfd-socket", "cwd", "env", "user", "additional-gids", "process", "pid-file",
                "process-label", "apparmor", "cap", "preserve-fds", "cgroup",
            ]
        ),
        ("list", ["format"]), ("ps", ["format"]), ("spec", ["bundle"]), ("events", ["interval"]),
        (
            "update",
            [
                "resources", "blkio-weight", "cpu-period", "cpu-quota", "cpu-burst", "cpu-share", "cpu-rt-period",
                "cpu-rt-runtime", "cpuset-cpus", "cpuset-mems", "memory", "memory-reservation", "memory-swap",
                "pids-limit", "cpu-idle",
            ]
        ),
    ]
    private static let letters: [(String, [(String, String)])] = [
        ("create", [("b", "bundle")]), ("run", [("b", "bundle"), ("d", "detach")]),
        (
            "exec",
            [
                ("e", "env"), ("t", "tty"), ("u", "user"), ("g", "additional-gids"), ("p", "process"), ("d", "detach"),
                ("c", "cap"),
            ]
        ),
        ("kill", [("a", "all")]), ("delete", [("f", "force")]), ("list", [("f", "format"), ("q", "quiet")]),
        ("ps", [("f", "format")]), ("spec", [("b", "bundle")]), ("update", [("r", "resources")]),
    ]

    @Test func flagsAreTakenInEveryForm() throws {
        for (verb, names) in Self.flags {
            for name in names {
                let option = try option(verb, name)
                for word in ["--\(name)", "-\(name)", "--\(name)=true", "-\(name)=1"] {
                    let arguments = try parse(verb, [word, "id"])
                    #expect(arguments.flag(option), "\(verb) \(word)")
                    #expect(arguments.operands == ["id"], "\(verb) \(word)")
                }
                #expect(try !parse(verb, ["-\(name)=false"]).flag(option))
            }
        }
    }

    @Test func valuesAreTakenInEveryForm() throws {
        for (verb, names) in Self.values {
            for name in names {
                let option = try option(verb, name)
                for words in [["--\(name)", "1"], ["-\(name)", "1"], ["--\(name)=1"], ["-\(name)=1"]] {
                    let arguments = try parse(verb, words + ["id"])
                    #expect(arguments.value(option) == "1", "\(verb) \(words)")
                    #expect(arguments.operands == ["id"], "\(verb) \(words)")
                }
            }
        }
    }

    @Test func lettersAreTaken() throws {
        for (verb, pairs) in Self.letters {
            for (letter, name) in pairs {
                let option = try option(verb, name)
                #expect(option.short.map(String.init) == letter, "\(verb) --\(name)")
                let isFlag = option.kind == .flag
                let arguments = try parse(verb, ["-\(letter)"] + (isFlag ? [] : ["1"]) + ["id"])
                #expect(arguments.value(option) == (isFlag ? "true" : "1"))
                #expect(arguments.operands == ["id"])
            }
        }
    }

    @Test func globalsAreTaken() throws {
        let parser = ArgumentParser(
            command: "", options: EngineOption.globals, endsOptionsAtOperand: true, takesSingleDash: true)
        let words = [
            "--debug", "--log", "F", "--log-format=json", "-root", "/r", "--systemd-cgroup", "--rootless", "auto",
            "--cgroup-manager", "systemd", "state", "--log", "x",
        ]
        let globals = try parser.parse(words)
        #expect(globals.flag(EngineOption.debug) && globals.flag(EngineOption.systemd))
        #expect(globals.value(EngineOption.log) == "F")
        #expect(globals.value(EngineOption.logFormat) == "json")
        #expect(globals.value(GlobalOption.root) == "/r")
        #expect(globals.value(EngineOption.rootless) == "auto")
        #expect(globals.operands == ["state", "--log", "x"])
        #expect(EngineOption.areIn(globals))
        #expect(try !EngineOption.areIn(parser.parse(["--root", "/r", "state", "x"])))
    }

    @Test(
        arguments: [
            ([], .cgroupfs), (["--systemd-cgroup"], .systemd), (["--systemd-cgroup=false"], .cgroupfs),
            (["--cgroup-manager", "disabled"], .disabled), (["--cgroup-manager=cgroupfs"], .cgroupfs),
            (["--systemd-cgroup", "--cgroup-manager=systemd"], .systemd),
        ] as [([String], RuntimeOptions.CGroupDriver)])
    func driversOfGroups(_ words: [String], _ driver: RuntimeOptions.CGroupDriver) throws {
        let parser = ArgumentParser(command: "", options: EngineOption.globals, endsOptionsAtOperand: true)
        #expect(try EngineOption.runtime(parser.parse(words)).cgroups == driver)
    }

    @Test func anUnknownDriverIsRefused() throws {
        let parser = ArgumentParser(command: "", options: EngineOption.globals, endsOptionsAtOperand: true)
        let globals = try parser.parse(["--cgroup-manager=libcgroup"])
        #expect(throws: ZoneError.self) { _ = try EngineOption.runtime(globals) }
    }

    @Test func namesAreGivenOnce() {
        #expect(Set(EngineVerbs.all.map(\.name)).count == EngineVerbs.all.count)
        for verb in EngineVerbs.all {
            let options = verb.options + [GlobalOption.help]
            #expect(Set(options.map(\.name)).count == options.count, "\(verb.name)")
            let letters = options.compactMap(\.short)
            #expect(Set(letters).count == letters.count, "\(verb.name)")
            // CStart.c looks for the same verbs before the C library starts.
            #expect(verb.entersZone == ["create", "run", "exec", "restore"].contains(verb.name), "\(verb.name)")
            #expect(verb.failure == (verb.name == "exec" ? 255 : 1), "\(verb.name)")
            let shared = [
                "run", "create", "start", "pause", "resume", "exec", "kill", "list", "events", "ps",
            ]
            #expect(FaceChoice.isOwn(verb.name) != shared.contains(verb.name), "\(verb.name)")
        }
    }

    @Test(arguments: EngineVerbs.all.map(\.name))
    func helpNamesEverything(_ name: String) throws {
        let verb = try #require(EngineVerbs.find(name))
        let text = EngineHelp.text(verb)
        #expect(text.hasPrefix("Usage: zonectl oci \(name) "))
        for option in verb.options { #expect(text.contains("--\(option.name)") && text.contains(option.help)) }
        #expect(EngineHelp.overview().contains(verb.summary))
        #expect(EngineVerbs.find(name)?.summary == verb.summary)
    }

    @Test func onlyWordsBehindTheProgramAreItsOwn() throws {
        #expect(try parse("run", ["id", "-b", "DIR"]).value(EngineOption.bundle) == "DIR")
        let exec = try parse("exec", ["id", "ls", "-d", "--process", "x"])
        #expect(exec.operands == ["id", "ls", "-d", "--process", "x"])
        #expect(try !exec.flag(option("exec", "detach")))
        #expect(try parse("ps", ["id", "-f", "-o", "pid"]).operands == ["id", "-f", "-o", "pid"])
    }

    // MARK: Requests

    @Test func creationIsAskedForAsItIsWritten() throws {
        let words = [
            "--bundle", "/b", "--pid-file=/p", "-console-socket", "/c", "--pidfd-socket", "/f", "--no-pivot",
            "--no-new-keyring", "--preserve-fds", "3", "-d", "--keep", "--no-subreaper", "id",
        ]
        let request = try EngineOption.request(parse("run", words), "id")
        #expect(request.id == "id" && request.bundle == "/b" && request.pidFile == "/p")
        #expect(request.consoleSocket == "/c" && request.pidfdSocket == "/f" && request.preservedDescriptors == 3)
        #expect(!request.pivots && !request.makesKeyring && request.isDetached && request.keeps)
        let plain = try EngineOption.request(parse("create", ["id"]), "id")
        #expect(plain.bundle == "." && plain.pidFile == nil && plain.consoleSocket == nil && plain.pidfdSocket == nil)
        #expect(plain.pivots && plain.makesKeyring && !plain.isDetached && !plain.keeps)
        #expect(plain.preservedDescriptors == 0)
    }

    @Test(arguments: ["-1", "", "x", "65537", "99999999999999999999"])
    func badNumbersOfDescriptors(_ text: String) throws {
        let arguments = try parse("create", ["--preserve-fds", text, "id"])
        let error = #expect(throws: ZoneError.self) { _ = try EngineOption.request(arguments, "id") }
        #expect(error?.detail.hasPrefix("--preserve-fds \"\(text)\"") == true)
    }

    @Test func execIsAskedForAsItIsWritten() throws {
        let words = [
            "--console-socket", "/c", "--cwd", "/w", "-e", "A=1", "--env", "B=2", "-t", "-u", "1:2", "-g", "3",
            "--additional-gids", "4", "-p", "/p", "-d", "--pid-file", "/f", "--process-label", "l", "--apparmor", "a",
            "--no-new-privs", "-c", "CAP_KILL", "--cap", "CAP_CHOWN", "--preserve-fds", "2", "--cgroup", "g",
            "--ignore-paused", "--pidfd-socket", "/s", "id", "--", "ls", "-l",
        ]
        let request = try EngineExec.request(parse("exec", words))
        #expect(request.id == "id" && request.arguments == ["ls", "-l"] && request.processFile == "/p")
        #expect(request.environment == ["A=1", "B=2"] && request.workingDirectory == "/w" && request.user == "1:2")
        #expect(request.additionalGroups == [3, 4] && request.hasTerminal && request.isDetached)
        #expect(request.capabilities == ["CAP_KILL", "CAP_CHOWN"] && request.noNewPrivileges == true)
        #expect(request.apparmorProfile == "a" && request.selinuxLabel == "l" && request.cgroup == "g")
        #expect(request.ignoresPause && request.pidFile == "/f" && request.preservedDescriptors == 2)
        #expect(request.consoleSocket == "/c" && request.pidfdSocket == "/s")
    }

    @Test func execSaysNothingThatWasNotSaid() throws {
        let request = try EngineExec.request(parse("exec", ["id", "ls"]))
        #expect(request.processFile == nil && request.user == nil && request.workingDirectory == nil)
        #expect(request.noNewPrivileges == nil && !request.hasTerminal && !request.isDetached)
        #expect(try EngineExec.request(parse("exec", ["--no-new-privs=false", "id"])).noNewPrivileges == false)
        #expect(throws: ZoneError.self) { _ = try EngineExec.request(Arguments()) }
    }

    @Test(arguments: ["-1", "4294967295", "x", "", "1.5"])
    func badGroups(_ text: String) throws {
        let arguments = try parse("exec", ["-g", text, "id"])
        #expect(throws: ZoneError.self) { _ = try EngineExec.request(arguments) }
    }

    // MARK: Words that are looked at before they are parsed

    @Test(
        arguments: [
            (["create", "--preserve-fds", "3", "x"], 3), (["create", "--preserve-fds=3"], 3),
            (["run", "-preserve-fds=4"], 4),
            (["run", "-preserve-fds", "4"], 4), (["create", "x"], 0), (["create", "--preserve-fds"], 0),
            (["create", "--preserve-fds", "x"], 0), (["create", "--preserve-fds", "-1"], 0), ([], 0),
        ] as [([String], UInt32)])
    func descriptorsAreKeptBeforeParsing(_ words: [String], _ count: UInt32) {
        #expect(EngineOption.preserved(words) == count)
    }

    @Test func onlyOptionsBeforeTheVerbAreTheEngines() {
        #expect(EngineOption.areMentioned(in: ["--nope", "--log", "F", "state", "x"]))
        #expect(EngineOption.areMentioned(in: ["--log=F", "--nope"]))
        #expect(!EngineOption.areMentioned(in: ["--nope", "run", "busybox", "prog", "--log", "F"]))
        #expect(!EngineOption.areMentioned(in: ["--nope", "--root", "/r"]))
    }

    // MARK: Times

    @Test(arguments: [
        ("50ms", 50), ("10s", 10_000), ("5", 5000), ("1m", 60_000), ("24h", 86_400_000), ("1m30s", 90_000),
        ("1.5s", 1500), ("0.25h", 900_000), ("1h2m3s4ms", 3_723_004), ("0s", 0), ("0.0001s", 0),
    ])
    func times(_ text: String, _ milliseconds: Int) {
        #expect(TimeSpan.milliseconds(text) == milliseconds)
    }

    @Test(arguments: [
        "", "s", "-1s", "+1s", "1x", "1s ", " 1s", "1 s", "1m30", "30 1m", ".5s", "5.s", "1.2.3s", "25h", "86401s",
        "999999999999999999999s", "١s", "1é", "1ms1", "nan", "inf", "1e3s", "0x10s",
    ])
    func notTimes(_ text: String) {
        #expect(TimeSpan.milliseconds(text) == nil)
    }
}
