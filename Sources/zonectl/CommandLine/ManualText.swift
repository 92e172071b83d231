// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// The text of a manual page in the macros of man(7), with everything escaped that means something there.
struct ManualText {
    private(set) var text = ""
    /// A section's first paragraph needs no macro of its own.
    private var isFresh = false

    /// The beginning: `.TH`. `date` as 2026-01-31.
    init(name: String, date: String, source: String) {
        text = ".\\\" Made from zonectl's definitions of its verbs by 'zonectl help --man'.\n"
        // The date as it is: mandoc parses it.
        text += ".TH \"\(ManualText.escaped(name.uppercased()))\" 1 \"\(date)\" "
        text += "\"\(ManualText.escaped(source))\" \"ZoneRuntime\"\n"
        // Commands that are copied from the page shall work: no hyphenation, no breaking at both edges.
        text += ".nh\n.ad l\n"
    }

    mutating func section(_ title: String) {
        text += ".SH \"\(ManualText.escaped(title))\"\n"
        isFresh = true
    }

    mutating func paragraph(_ words: String) {
        separate()
        text += "\(line(words))\n"
    }

    private mutating func separate() {
        if !isFresh { text += ".PP\n" }
        isFresh = false
    }

    /// Paragraphs of plain text, with blank lines between them; indented lines stay as they are.
    mutating func paragraphs(_ words: String) {
        var isOpen = false
        for row in words.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
            if row.isEmpty {
                isOpen = false
            } else if row.hasPrefix(" ") {
                if isOpen { text += ".br\n" } else { separate() }
                text += "\(line(row))\n"
                isOpen = true
            } else {
                if !isOpen { separate() }
                text += "\(line(row))\n"
                isOpen = true
            }
        }
    }

    /// A term and what it means. `term` is escaped already: see ``bold(_:)``.
    mutating func item(_ term: String, _ meaning: String) {
        isFresh = false
        text += ".TP\n\(term)\n\(line(meaning))\n"
    }

    /// Lines that stay as they are, in the font of a terminal.
    mutating func example(_ words: String) {
        separate()
        text += ".RS 4\n.nf\n"
        for row in words.split(separator: "\n", omittingEmptySubsequences: false) { text += line(String(row)) + "\n" }
        text += ".fi\n.RE\n"
    }

    /// Escaped words, as a paragraph of their own.
    mutating func raw(_ words: String) {
        separate()
        text += words + "\n"
    }

    private func line(_ words: String) -> String {
        let escaped = ManualText.escaped(words)
        // At the beginning of a line these two are requests.
        return escaped.hasPrefix(".") || escaped.hasPrefix("'") ? "\\&" + escaped : escaped
    }

    static func bold(_ words: String) -> String { "\\fB\(escaped(words))\\fR" }
    static func italic(_ words: String) -> String { "\\fI\(escaped(words))\\fR" }

    /// Every character as itself: roff makes typographic ones of some, and reads a backslash. What is not ASCII is written
    /// as roff's own names, so that a page does not depend on the reader's locale.
    static func escaped(_ words: String) -> String {
        var result = ""
        for scalar in words.unicodeScalars {
            switch scalar {
            case "\\": result += "\\e"
            case "-": result += "\\-"
            case "'": result += "\\(aq"
            case "`": result += "\\(ga"
            case "^": result += "\\(ha"
            case "~": result += "\\(ti"
            case "\"": result += "\\(dq"
            case "…": result += "..."
            default:
                if scalar.isASCII {
                    result.unicodeScalars.append(scalar)
                } else {
                    let digits = String(scalar.value, radix: 16, uppercase: true)
                    result += "\\[u\(String(repeating: "0", count: max(0, 4 - digits.count)))\(digits)]"
                }
            }
        }
        return result
    }
}
