// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import zonectl

/// Which face a command line means, where `web` and `db` are people's zones and `pod` and `ctr` are bundles'.
@Suite struct FaceChoiceTests {
    private let choice = FaceChoice(
        isBundle: { ["pod", "ctr"].contains($0) }, exists: { ["web", "db", "pod", "ctr"].contains($0) })

    private func isEngine(_ line: String) -> Bool {
        let words = line.split(separator: " ").map(String.init)
        return choice.isEngine(words[0], words.dropFirst())
    }

    @Test(arguments: [
        "create -b . x", "start pod", "state web", "delete -f web", "features", "spec", "checkpoint x", "restore x",
        "update --memory 1G web", "events pod", "events --stats web", "events --interval 1s web",
        "events --interval=1s", "pause pod", "resume pod", "ps web", "ps --format json web", "ps web -ef", "ps -f json",
        "list",
        "list -q", "list -f json",
    ])
    func verbsOfEngines(_ line: String) {
        #expect(isEngine(line))
    }

    @Test(arguments: [
        "list --json", "ls", "stop web", "rm web", "inspect web", "image ls", "nosuch", "version", "ps", "ps -aq",
        "ps --json", "events", "events web", "events --since 1h", "events --json web", "events -f event=die",
        "events nosuch",
    ])
    func verbsOfPeople(_ line: String) {
        #expect(!isEngine(line))
    }

    @Test(arguments: [
        "run -b DIR x", "run --bundle DIR x", "run --bundle=DIR x", "run -bundle DIR x", "run --pid-file F x",
        "run --console-socket S x", "run --pidfd-socket S x", "run --preserve-fds 1 x",
        // Slurm: options behind the id.
        "run x -b DIR", "run x --bundle=DIR -d", "run -d x --pid-file F",
        // Neither face knows all of it: the engine is to be told.
        "run --bundle DIR --nope x",
    ])
    func runOfABundle(_ line: String) {
        #expect(isEngine(line))
    }

    @Test(arguments: [
        "run busybox", "run busybox sh -c true", "run busybox grep -b x", "run busybox prog --bundle x",
        "run busybox -- -b x", "run --name -b busybox", "run -e --bundle=x busybox", "run -it --rm busybox", "run",
        "run -- -b", "run pod", "run --nope busybox", "run --rm busybox tar -b 1 --pid-file x",
    ])
    func runOfAnImage(_ line: String) {
        #expect(!isEngine(line))
    }

    @Test(arguments: [
        "exec pod true", "exec -t pod sh", "exec -it pod sh", "exec -e A=B pod sh", "exec -u 1:2 pod sh",
        "exec --user web pod sh", "exec -p F web", "exec --process F --detach web", "exec -process F web",
        "exec --process=F nosuch", "exec --pid-file F web true", "exec --console-socket S web sh",
        "exec --preserve-fds 2 web sh", "exec --cap CAP_KILL web sh", "exec --ignore-paused web sh",
        "exec --cwd / web sh", "exec --process F --nope web",
    ])
    func execOfAnEngine(_ line: String) {
        #expect(isEngine(line))
    }

    @Test(arguments: [
        "exec web true", "exec -it web sh",
        // What belongs to the zone's program says nothing.
        "exec web mkdir -p /x", "exec web mkdir --process x", "exec web echo pod", "exec web prog --pid-file x",
        "exec web -- ls -p",
        // A prefix of a name is people's; a value is no name.
        "exec po true", "exec -u pod web true", "exec -e pod web true", "exec -w pod web true", "exec",
        "exec --nope web",
    ])
    func execOfPeople(_ line: String) {
        #expect(!isEngine(line))
    }

    @Test(arguments: [
        "kill pod", "kill pod 9", "kill pod KILL", "kill web 9", "kill web SIGTERM", "kill nosuch 15", "kill --all web",
        "kill -a pod 9", "kill web --all 9",
        // A mistyped signal must not end the zone by people's default.
        "kill pod SIGTREM",
    ])
    func killOfAnEngine(_ line: String) {
        #expect(isEngine(line))
    }

    @Test(arguments: [
        "kill web", "kill web db", "kill pod ctr", "kill web pod", "kill -s TERM pod", "kill --signal 9 web db",
        "kill web db pod", "kill web nosuch", "kill pod 9 web", "kill",
    ])
    func killOfPeople(_ line: String) {
        #expect(!isEngine(line))
    }

    @Test func aZoneMayBeNamedAsASignal() {
        let choice = FaceChoice(isBundle: { _ in false }, exists: { ["web", "term"].contains($0) })
        #expect(!choice.isEngine("kill", ["web", "term"]))
        #expect(choice.isEngine("kill", ["web", "TERM"]))
    }

    @Test(arguments: [
        ("runc", true), ("/usr/bin/runc", true), ("./crun", true), ("zonectl-oci", true), ("zonectl", false),
        ("/usr/bin/zonectl", false), ("/runc/zonectl", false), ("", false), ("/", false), ("runc/", false),
        ("runc2", false), ("xrunc", false),
    ])
    func namesOfRuntimes(_ program: String, _ isRuntime: Bool) {
        #expect(EngineFace.isCalled(by: program) == isRuntime)
    }

    /// Both tables are used at once: a letter must not mean two things in them.
    @Test(arguments: ["run", "exec", "kill", "events", "ps"])
    func theTablesOfBothFacesAgree(_ name: String) throws {
        let engine = try #require(EngineVerbs.find(name))
        let (people, _) = try #require(CommandTable.find([name]))
        for option in engine.options {
            let other = people.options.first { $0.name == option.name }
            if let other {
                #expect(option.short == other.short, "--\(option.name)")
                if case .flag = option.kind { #expect(other.kind == .flag) } else { #expect(other.kind != .flag) }
            } else if let letter = option.short {
                #expect(!people.options.contains { $0.short == letter }, "-\(letter)")
            }
        }
    }
}
