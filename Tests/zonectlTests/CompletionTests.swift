// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct CompletionTests {
    static let names = Completion.Names(
        zones: { root, _ in
            ["web", "worker", "bad;name", "$(reboot)", ""].map { .init(word: $0, help: root ?? "running") }
        },
        images: { _, _ in [.init(word: "busybox", help: "1 MiB"), .init(word: "library/busybox:1.36", help: "")] })

    static func complete(_ line: String) -> Completion {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        return Completion(before: words.dropLast(), current: words.last ?? "", names: names)
    }

    static func words(_ line: String) -> [String] { complete(line).candidates.map(\.word) }

    @Test(
        arguments: [
            ("ru", ["run"]), ("image i", ["inspect", "import"]), ("image p", ["pull", "push", "prune"]),
            ("help ima", ["image"]),
            ("help image l", ["ls", "load"]), ("completion ", ["bash", "zsh", "fish"]),
            ("oci sta", ["start", "state"]),
            ("--root /x ru", ["run"]), ("nonsense ", []), ("", nil),
            ("stop ", ["web", "worker"]), ("stop we", ["web"]), ("stop web ", ["worker"]),
            ("inspect -- w", ["web", "worker"]),
            ("exec ", ["web", "worker"]), ("exec web ", []), ("exec web --us", []), ("exec --us", ["--user"]),
            ("run busy", ["busybox"]), ("run library/busybox:", ["library/busybox:1.36"]), ("rmi b", ["busybox"]),
            ("run busybox ", []), ("run -it bus", ["busybox"]), ("run -itu root bus", ["busybox"]), ("run -itu ", []),
            ("run --network ", ["none", "host"]), ("run --network=h", ["--network=host"]), ("run --name ", []),
            ("run --rm=", ["--rm=true", "--rm=false"]), ("run --cap-drop cap_chown --cap-add A", ["ALL"]),
            ("kill -s TE", ["TERM"]), ("kill --signal=HU", ["--signal=HUP"]), ("run --ulimit nofi", ["nofile="]),
            ("oci kill web TER", ["TERM"]), ("oci delete --fo", ["--force"]), ("state w", ["web", "worker"]),
            ("oci", ["oci"]), ("__com", []),
        ] as [(String, [String]?)])
    func candidates(_ line: String, _ expected: [String]?) {
        let words = Self.words(line)
        if let expected { #expect(words == expected) } else { #expect(words.contains("run") && words.contains("oci")) }
    }

    @Test func optionsAreOfferedOnce() {
        #expect(Set(Self.words("run --r")).isSuperset(of: ["--read-only", "--rm"]))
        #expect(Self.words("run --rm --rm").isEmpty)
        #expect(Self.words("run --rm --read") == ["--read-only"])
        #expect(Self.words("run -e A=1 --env") == ["--env", "--env-file"])
        #expect(Self.words("run -").contains("-i"))
        #expect(Self.words("run -- -").isEmpty)
    }

    @Test(
        arguments: [
            ("image import ", .files, ""), ("run --env-file ", .files, ""), ("run --env-file=a", .files, "--env-file="),
            ("run -v ", .files, ""), ("run -v /srv:", .none, ""), ("--store ", .folders, ""),
            ("--root=/", .folders, "--root="), ("run --workdir ", .none, ""), ("image import x ", .none, ""),
            ("oci run --bundle ", .folders, ""),
        ] as [(String, Completion.Extra, String)])
    func pathsAreTheShells(_ line: String, _ extra: Completion.Extra, _ prefix: String) {
        let completion = Self.complete(line)
        #expect(completion.extra == extra)
        #expect(completion.prefix == prefix)
        #expect(completion.candidates.isEmpty)
    }

    @Test(
        arguments: [
            ("no|on-failure[:N]|always", .words(["no", "on-failure", "always"])), ("type=bind|tmpfs,…", .text),
            ("SIZE", .text), ("PATH:RATE", .fileBeforeColon), ("SOURCE[:TARGET[:rwm]]", .fileBeforeColon),
            ("NAME", .zones), ("DIR", .folders), ("auto|zone|host", .words(["auto", "zone", "host"])),
        ] as [(String, WordKind)])
    func aValuesNameTellsWhatItIs(_ name: String, _ kind: WordKind) {
        #expect(WordKind(of: name, in: .run) == kind)
    }

    @Test func namesComeFromTheFoldersThatTheLineNames() {
        #expect(Self.complete("--root /x stop we").candidates == [.init(word: "web", help: "/x")])
        #expect(Self.complete("--root=/y stop we").candidates == [.init(word: "web", help: "/y")])
    }

    @Test func theAnswerIsLines() {
        #expect(Self.complete("stop we").text == "none\n\nweb\trunning\n")
        #expect(Self.complete("run --env-file=a").text == "files\n--env-file=\n")
    }

    /// Whoever adds a verb gets its completion: nothing that it takes may make this fail.
    @Test(arguments: CommandTable.all.map(\.name))
    func everyVerbIsCompleted(_ name: String) throws {
        let command = try #require(CommandTable.all.first { $0.name == name })
        if command.isHidden { return }
        for option in command.options { #expect(Self.words("\(name) --\(option.name)").contains("--\(option.name)")) }
        for option in command.options where option.kind != .flag { _ = Self.words("\(name) --\(option.name)=") }
    }

    @Test func scriptsAskForWhatIsThere() throws {
        for shell in ["bash", "zsh", "fish"] {
            #expect(try #require(CompletionScript.text(for: shell)).contains(" __complete -- "))
        }
        #expect(CompletionScript.text(for: "tcsh") == nil)
    }
}
