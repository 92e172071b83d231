// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct ArgumentParserTests {
    private static let interactive = zonectl.Option.flag("interactive", "i", "")
    private static let terminal = zonectl.Option.flag("tty", "t", "")
    private static let user = zonectl.Option.value("user", "u", "USER", "")
    private static let remove = zonectl.Option.flag("rm", nil, "")
    private static let memory = zonectl.Option.value("memory", "m", "SIZE", "")
    private static let variable = zonectl.Option.list("env", "e", "NAME", "")

    private func parse(_ words: [String], endsAtOperand: Bool = true) throws(ZoneError) -> Arguments {
        try ArgumentParser(
            command: "run",
            options: [Self.interactive, Self.terminal, Self.user, Self.remove, Self.memory, Self.variable],
            endsOptionsAtOperand: endsAtOperand
        ).parse(words)
    }

    @Test(arguments: [
        ["-it"], ["-i", "-t"], ["-ti"], ["--interactive", "--tty"], ["-i=true", "--tty=1"],
        ["-t", "--interactive=yes"],
    ])
    func flagsInEveryForm(_ words: [String]) throws {
        let arguments = try parse(words + ["image"])
        #expect(arguments.flag(Self.interactive))
        #expect(arguments.flag(Self.terminal))
        #expect(!arguments.flag(Self.remove))
        #expect(arguments.operands == ["image"])
    }

    @Test(arguments: [
        ["--user", "root"], ["--user=root"], ["-u", "root"], ["-uroot"], ["-u=root"], ["-itu", "root"], ["-ituroot"],
        ["-itu=root"],
        ["--user", "first", "-u", "root"],
    ])
    func valuesInEveryForm(_ words: [String]) throws {
        let arguments = try parse(words + ["image"])
        #expect(arguments.value(Self.user) == "root")
        #expect(arguments.operands == ["image"])
    }

    @Test(arguments: [("--memory=1", "1"), ("--memory=", ""), ("--memory=a=b", "a=b"), ("-m=a=b", "a=b")])
    func theFirstEqualSignSeparates(_ word: String, _ value: String) throws {
        #expect(try parse([word]).value(Self.memory) == value)
    }

    @Test(arguments: ["--rm=false", "--rm=0", "--rm=no", "--rm=off"])
    func flagsCanBeTurnedOff(_ word: String) throws {
        #expect(try !parse(["--rm", word]).flag(Self.remove))
        #expect(try parse([word]).value(Self.remove) == "false")
        #expect(try parse([word, "--rm"]).flag(Self.remove))
    }

    @Test func aValueMayLookLikeAnOption() throws {
        #expect(try parse(["--env", "--rm", "x"]).list(Self.variable) == ["--rm"])
        #expect(try parse(["-m", "-1"]).value(Self.memory) == "-1")
        #expect(try parse(["-u", "--"]).value(Self.user) == "--")
    }

    @Test func listsKeepTheirOrder() throws {
        #expect(try parse(["-e", "A=1", "--env=B", "-eC"]).list(Self.variable) == ["A=1", "B", "C"])
        #expect(try parse([]).list(Self.variable) == [])
    }

    @Test func optionsEndAtTheOperandWhereTold() throws {
        let ended = try parse(["-i", "image", "ls", "-t", "--", "--rm"])
        #expect(ended.operands == ["image", "ls", "-t", "--", "--rm"])
        #expect(!ended.flag(Self.terminal))
        let mixed = try parse(["a", "-t", "b", "--rm"], endsAtOperand: false)
        #expect(mixed.operands == ["a", "b"])
        #expect(mixed.flag(Self.terminal) && mixed.flag(Self.remove))
    }

    @Test(arguments: [true, false])
    func twoDashesEndOptions(_ endsAtOperand: Bool) throws {
        let arguments = try parse(["-i", "--", "-t", "--rm", "--", "x"], endsAtOperand: endsAtOperand)
        #expect(arguments.operands == ["-t", "--rm", "--", "x"])
        #expect(!arguments.flag(Self.terminal))
    }

    @Test func oneDashAndNothingAreOperands() throws {
        #expect(try parse(["-", ""], endsAtOperand: false).operands == ["-", ""])
    }

    @Test(arguments: [
        (["--user"], "option --user needs a value (USER)"), (["-u"], "option -u needs a value (USER)"),
        (["-itu"], "option -u needs a value (USER)"),
        (["--rm=maybe"], "option --rm takes true or false, not \"maybe\""),
        (["--rm="], "option --rm takes true or false, not \"\""),
        (["-i=2"], "option -i takes true or false, not \"2\""),
        (["--nope"], "unknown option --nope of run"), (["-x"], "unknown option -x of run"),
        (["-ix"], "unknown option -x of run"),
        (["--user-name=x"], "unknown option --user-name of run"), (["--=x"], "unknown option -- of run"),
        (["-i-"], "unknown option -- of run"), (["---rm"], "unknown option ---rm of run"),
    ])
    func mistakesAreNamed(_ words: [String], _ detail: String) {
        let error = #expect(throws: ZoneError.self) { _ = try parse(words) }
        #expect(error?.detail == detail)
        #expect(error?.code == .invalid)
    }

    @Test(arguments: [
        ("--memroy", "--memory"), ("--use", "--user"), ("--interactiv", "--interactive"), ("--rn", "--rm"),
    ])
    func whatWasMeantIsSuggested(_ word: String, _ meant: String) {
        let error = #expect(throws: ZoneError.self) { _ = try parse([word]) }
        #expect(error?.hint?.hasPrefix("did you mean \(meant)? 'zonectl help run'") == true)
    }

    @Test(arguments: ["--completely-different", "--zzzz"])
    func nothingNearIsNotSuggested(_ word: String) {
        let error = #expect(throws: ZoneError.self) { _ = try parse([word]) }
        #expect(error?.hint == "'zonectl help run' lists the options")
    }

    @Test func theNearestWordIsFound() {
        #expect(Suggestion.nearest(to: "rn", among: ["ls", "run", "kill"]) == "run")
        #expect(Suggestion.nearest(to: "inspec", among: ["inspect", "image"]) == "inspect")
        #expect(Suggestion.nearest(to: "ls", among: ["ls"]) == "ls")
        #expect(Suggestion.nearest(to: "x", among: []) == nil)
        #expect(Suggestion.nearest(to: "", among: ["inspect"]) == nil)
    }
}
