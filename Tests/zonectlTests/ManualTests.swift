// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import zonectl

@Suite struct ManualTests {
    @Test(
        arguments: [
            ("--rm", "\\-\\-rm"), ("a\\b", "a\\eb"), ("it's", "it\\(aqs"), ("NAME…", "NAME..."), ("µ", "\\[u00B5]"),
            ("~/x", "\\(ti/x"),
        ])
    func everyCharacterIsItself(_ text: String, _ escaped: String) {
        #expect(ManualText.escaped(text) == escaped)
    }

    @Test func noLineIsARequest() {
        var page = ManualText(name: "x", date: "2026-01-31", source: "x")
        page.paragraph(".so /etc/passwd")
        page.paragraphs("'one\n\n.two\n  .three")
        page.example(".four")
        let lines = page.text.split(separator: "\n")
        for word in ["so /etc", "two", "four"] { #expect(lines.contains { $0.hasPrefix("\\&." + word) }) }
        #expect(lines.contains { $0.hasPrefix("\\(aqone") })
        #expect(lines.contains { $0.hasPrefix("  .three") || $0.hasPrefix("\\&  .three") })
    }

    @Test(arguments: CommandTable.shown.map(\.name))
    func everyPageHasItsSections(_ name: String) throws {
        let command = try #require(CommandTable.all.first { $0.name == name })
        let page = Manual.text(command)
        for title in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
            #expect(page.contains(".SH \"\(title)\"\n"))
        }
        for option in command.options { #expect(page.contains("\\-\\-" + ManualText.escaped(option.name))) }
        #expect(page.contains(".SH \"EXAMPLES\"") == !command.examples.isEmpty)
        #expect(page.utf8.allSatisfy { $0 < 0x80 })
    }

    @Test func theOverviewNamesEveryPage() {
        let page = Manual.overview()
        for command in CommandTable.shown {
            #expect(page.contains(ManualText.escaped(Manual.name(of: command.name))), "\(command.name)")
        }
        for verb in EngineVerbs.all { #expect(Manual.engine().contains("VERB: \(verb.name.uppercased())")) }
    }

    /// An example that no longer works is worse than none: every one is parsed.
    @Test(arguments: CommandTable.shown.map(\.name))
    func examplesAreOfTheGrammar(_ name: String) throws {
        let command = try #require(CommandTable.all.first { $0.name == name })
        for line in command.examples.split(separator: "\n") where !line.hasPrefix("#") {
            let words = line.split(separator: " ").map(String.init)
            guard let start = words.firstIndex(of: "zonectl") else { continue }
            let rest = words[(start + 1)...].prefix { !["|", ">", "<", "&&"].contains($0) && !$0.hasPrefix("$(") }
            let (found, left) = try #require(CommandTable.find(rest), "\(line)")
            _ = try ArgumentParser(
                command: found.name, options: found.options, endsOptionsAtOperand: found.endsOptionsAtOperand
            ).parse(left.map { String($0.filter { $0 != "\"" && $0 != ")" }) })
        }
    }
}
