// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// Decides which face a command line means where no `oci`, program name or global option says it.
///
/// - Verbs that only engines have are theirs. `list` is people's with `--json`.
/// - `run`, `create`, `exec`, `kill`, `events` and others are both faces'. An option that people's verb does not have makes
///   them the engine's, wherever the engine's grammar takes options; words that belong to the zone's program are never
///   looked at.
/// - `exec NAME …`, `start`, `pause`, `resume` and `events` of a bundle's zone are the engine's; so is `ps NAME`, as
///   people's takes none.
/// - `kill NAME…` kills each NAME, `kill ID SIGNAL` one ID: the latter is meant when the second operand is a signal
///   and no zone has that name; also when ID is a bundle's zone and the second is nothing that could be killed, because
///   a mistyped signal must not end ID. `-s` is people's.
struct FaceChoice {
    /// Whether the zone of exactly this name was made from a bundle.
    let isBundle: (String) -> Bool
    /// Whether there is a zone of exactly this name.
    let exists: (String) -> Bool

    /// Whether a verb means the same whatever follows.
    static func isOwn(_ verb: String) -> Bool {
        switch verb {
        case "checkpoint", "delete", "features", "restore", "spec", "state", "update": true
        default: false
        }
    }

    /// Whether an engine's option says nothing about the face, because people mean the same by it.
    private static func isShared(_ option: Option) -> Bool {
        option.name == EngineOption.detach.name || option.name == EngineExec.interactive.name
    }

    /// Whether `verb` with these words behind it is an engine's.
    func isEngine(_ verb: String, _ words: ArraySlice<String>) -> Bool {
        if verb == "list" { return !words.contains("--json") }
        if FaceChoice.isOwn(verb) { return true }
        guard let engine = EngineVerbs.find(verb), let (people, _) = CommandTable.find([verb]) else { return false }
        let others = engine.options.filter { option in !people.options.contains { $0.name == option.name } }
        let own = others.filter { !FaceChoice.isShared($0) }
        // With the options of both, because only they tell which words are values and where the operands begin.
        let parser = ArgumentParser(
            command: verb, options: people.options + others + [GlobalOption.help],
            endsOptionsAtOperand: people.endsOptionsAtOperand, takesSingleDash: true)
        guard let arguments = try? parser.parse(words) else { return FaceChoice.mentions(own, words) }
        if own.contains(where: { arguments.value($0) != nil }) { return true }
        let operands = arguments.operands
        switch verb {
        case "run", "create": return FaceChoice.hasOptionsBehindOperand(engine, own, words, operands)
        case "exec", "events", "start", "pause", "resume": return operands.first.map(isBundle) ?? false
        case "ps": return !operands.isEmpty
        case "kill": return arguments.value(KillCommand.signal) == nil && isEngineKill(operands)
        default: return false
        }
    }

    private func isEngineKill(_ operands: [String]) -> Bool {
        guard let first = operands.first else { return false }
        if operands.count == 1 { return isBundle(first) }
        guard operands.count == 2, !exists(operands[1]) else { return false }
        return SignalName.number(of: operands[1]) != nil || isBundle(first)
    }

    /// `run ID -b BUNDLE`, as Slurm has it. Behind an image's name stands a program, whose name does not begin with `-`.
    private static func hasOptionsBehindOperand(
        _ engine: EngineVerb, _ own: [Option], _ words: ArraySlice<String>, _ operands: [String]
    ) -> Bool {
        guard operands.count > 1, operands[1].hasPrefix("-") else { return false }
        let parser = ArgumentParser(
            command: engine.name, options: engine.options, endsOptionsAtOperand: false, takesSingleDash: true)
        // Words that make no sense as an engine's are not one's.
        guard let arguments = try? parser.parse(words) else { return false }
        return own.contains { arguments.value($0) != nil }
    }

    /// For words that neither face understands: which of the two is to say so.
    private static func mentions(_ options: [Option], _ words: ArraySlice<String>) -> Bool {
        words.prefix { $0 != "--" }.contains { word in
            guard word.hasPrefix("-") else { return false }
            let name = word.drop { $0 == "-" }.prefix { $0 != "=" }
            return options.contains { $0.name == name || $0.short.map { String($0) == name } ?? false }
        }
    }
}
