// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// Parses words against a table of options, in the GNU style that docker's users know.
///
/// Why not swift-argument-parser: 1.5 ms and 3.5 MB of memory a call, half of what a whole start of a zone takes, and
/// no options with optional values; see ARCHITECTURE.md.
struct ArgumentParser {
    let command: String
    let options: [Option]
    let endsOptionsAtOperand: Bool
    /// Also takes `-bundle DIR`, as programs do that use Go's flag package and so do their callers.
    var takesSingleDash = false

    /// Parses all words.
    func parse(_ words: some Collection<String>) throws(ZoneError) -> Arguments {
        var arguments = Arguments()
        var rest = Array(words)[...]
        while let word = rest.popFirst() {
            if word == "--" {
                rest.forEach { arguments.add(operand: $0) }
                break
            }
            if let long = word.after("--") {
                try parseLong(long, &rest, &arguments)
            } else if takesSingleDash, let long = word.after("-"), isLong(long) {
                try parseLong(long, &rest, &arguments)
            } else if let letters = word.after("-"), !letters.isEmpty, !(takesSingleDash && Int(word) != nil) {
                try parseShort(letters, &rest, &arguments)
            } else {
                arguments.add(operand: word)
                if endsOptionsAtOperand {
                    rest.forEach { arguments.add(operand: $0) }
                    break
                }
            }
        }
        return arguments
    }

    /// `-bundle` or `-bundle=DIR`: one dash before the whole name of an option of more than one letter.
    private func isLong(_ word: String) -> Bool {
        let (name, _) = word.halves("=")
        return name.utf8.count > 1 && options.contains { $0.name == name }
    }

    private func parseLong(
        _ word: String,
        _ rest: inout ArraySlice<String>,
        _ arguments: inout Arguments
    ) throws(ZoneError) {
        let (name, given) = word.halves("=")
        guard let option = options.first(where: { $0.name == name }) else { throw unknown("--\(name)") }
        switch option.kind {
        case .flag: arguments.add(option, try truth(given ?? "true", of: "--\(name)"))
        case .optional(_, let without): arguments.add(option, given ?? without)
        case .value(let valueName):
            guard let value = given ?? rest.popFirst() else { throw missingValue("--\(name)", valueName) }
            arguments.add(option, value)
        }
    }

    /// `-i`, `-it`, `-u root`, `-uroot`, `-itu root`.
    private func parseShort(
        _ word: String,
        _ rest: inout ArraySlice<String>,
        _ arguments: inout Arguments
    ) throws(ZoneError) {
        var letters = word.unicodeScalars[...]
        while let letter = letters.popFirst() {
            guard let option = options.first(where: { $0.short == letter }) else { throw unknown("-\(letter)") }
            let following = String(letters)
            switch option.kind {
            case .flag:
                if let value = following.after("=") {
                    arguments.add(option, try truth(value, of: "-\(letter)"))
                    return
                }
                arguments.add(option, "true")
            case .optional(_, let without): arguments.add(option, without)
            case .value(let valueName):
                let given = following.after("=") ?? following
                guard let value = given.isEmpty ? rest.popFirst() : given else {
                    throw missingValue("-\(letter)", valueName)
                }
                arguments.add(option, value)
                return
            }
        }
    }

    private func truth(_ text: String, of option: String) throws(ZoneError) -> String {
        switch text {
        case "true", "1", "yes", "on": return "true"
        case "false", "0", "no", "off": return "false"
        default: throw ZoneError(.invalid, "option \(option) takes true or false, not \"\(text)\"")
        }
    }

    private func unknown(_ option: String) -> ZoneError {
        let names = options.map { "--\($0.name)" }
        let help = "'zonectl help\(command.isEmpty ? "" : " " + command)' lists the options"
        let hint = Suggestion.nearest(to: option, among: names).map { "did you mean \($0)? \(help)" } ?? help
        return ZoneError(.invalid, "unknown option \(option)\(command.isEmpty ? "" : " of \(command)")", hint: hint)
    }

    private func missingValue(_ option: String, _ valueName: String) -> ZoneError {
        ZoneError(.invalid, "option \(option) needs a value (\(valueName))")
    }
}

/// Finds what somebody may have meant.
enum Suggestion {
    /// The nearest of some words, `nil` where none is near.
    static func nearest(to word: String, among words: [String]) -> String? {
        let ranked = words.map { ($0, distance(Array(word.utf8), Array($0.utf8))) }.min { $0.1 < $1.1 }
        guard let (best, distance) = ranked, distance <= max(1, word.utf8.count / 3) else { return nil }
        return best
    }

    /// Levenshtein's distance.
    private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var previous = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let replaced = previous + (x == y ? 0 : 1)
                previous = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
            }
        }
        return row[b.count]
    }
}
