// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// What may stand at a place of a command line, from the same tables that parse it. The scripts for shells only ask here:
/// one grammar, and a shell that runs while zonectl is upgraded is right at once.
struct Completion {
    struct Candidate: Equatable, Sendable {
        let word: String
        let help: String
    }

    /// What a shell is to do besides.
    enum Extra: String {
        case none, files, folders
    }

    /// Names that are looked up when they are wanted.
    struct Names: Sendable {
        var zones: @Sendable (_ root: String?, _ store: String?) -> [Candidate]
        var images: @Sendable (_ root: String?, _ store: String?) -> [Candidate]
        var volumes: @Sendable (_ root: String?, _ store: String?) -> [Candidate] = { _, _ in [] }
        var networks: @Sendable (_ root: String?, _ store: String?) -> [Candidate] = { _, _ in [] }
    }

    private(set) var candidates: [Candidate] = []
    private(set) var extra = Extra.none
    /// What stands before the path that the shell is to complete: `--env-file=`.
    private(set) var prefix = ""

    private let current: String
    private let names: Names
    private var root: String?
    private var store: String?

    /// Words behind the program's name, up to the one that is not finished and may be empty.
    init(before words: [String], current: String, names: Names) {
        self.current = current
        self.names = names
        let globals = WordWalk(words[...], EngineOption.globals, endsAtOperand: true)
        root = globals.value(GlobalOption.root)
        store = globals.value(GlobalOption.store)
        if globals.operands.isEmpty {
            complete(globals, GlobalOption.all) { $0.offerVerbs() }
            return
        }
        completeVerb(globals.operands)
        candidates = candidates.filter { $0.word.hasPrefix(current) }
    }

    // MARK: Verbs

    private mutating func completeVerb(_ words: [String]) {
        if let (command, rest) = CommandTable.find(words[...]), !command.isHidden {
            let walk = WordWalk(
                rest, command.options + [GlobalOption.help], endsAtOperand: command.endsOptionsAtOperand)
            return complete(walk, command.options + [GlobalOption.help]) { completion in
                completion.offer(operand: command.operandKind(at: walk.operands.count), walk.operands)
            }
        }
        let family = CommandTable.family(words[0]).filter { !$0.isHidden }
        if !family.isEmpty {
            if words.count == 1 { offer(family.map { ($0.name.after(words[0] + " ") ?? "", $0.summary) }) }
            return
        }
        let isNamed = words[0] == "oci"
        let rest = isNamed ? words.dropFirst() : words[...]
        guard let name = rest.first else { return offer(EngineVerbs.all.map { ($0.name, $0.summary) }) }
        guard let verb = EngineVerbs.find(name) else { return }
        let options = verb.options + [GlobalOption.help]
        let walk = WordWalk(rest.dropFirst(), options, endsAtOperand: verb.endsOptionsAtOperand)
        complete(walk, options) { completion in
            completion.offer(operand: .operand(verb.operands, in: .other, at: walk.operands.count), walk.operands)
        }
    }

    private mutating func offerVerbs() {
        var seen: [String] = []
        for command in CommandTable.shown {
            guard let space = command.name.firstIndex(of: " ") else {
                offer([(command.name, command.summary)])
                continue
            }
            let word = String(command.name[..<space])
            if seen.contains(word) { continue }
            seen.append(word)
            let verbs = CommandTable.family(word).map { $0.name.after(word + " ") ?? "" }
            offer([(word, verbs.joined(separator: ", "))])
        }
        offer([("oci", "What container engines call")])
    }

    // MARK: Options and operands

    private mutating func complete(
        _ walk: WordWalk, _ options: [Option], _ offerOperands: (inout Completion) -> Void
    ) {
        if let option = walk.pending {
            offer(value: option.completedValue, of: current, before: "")
        } else if !walk.isOver, current.hasPrefix("--"), current.contains("=") {
            let (name, value) = current.halves("=")
            guard let option = options.first(where: { "--\($0.name)" == name }) else { return }
            offer(value: option.completedValue, of: value ?? "", before: name + "=")
        } else if !walk.isOver, current.hasPrefix("-") {
            let free = options.filter { $0.repeats || !walk.given.contains($0.name) }
            offer(free.map { ("--\($0.name)", $0.help) })
            if current == "-" { offer(free.compactMap { option in option.short.map { ("-\($0)", option.help) } }) }
        } else {
            offerOperands(&self)
        }
        candidates = candidates.filter { $0.word.hasPrefix(current) }
    }

    private mutating func offer(operand kind: WordKind?, _ given: [String]) {
        guard let kind else { return }
        if kind == .verbs, let word = given.first {
            let family = given.count == 1 ? CommandTable.family(word) : []
            return offer(family.map { ($0.name.after(word + " ") ?? "", $0.summary) })
        }
        offer(value: kind, of: current, before: "")
        // `stop a a` means nothing that `stop a` does not.
        candidates.removeAll { given.contains($0.word) }
    }

    private mutating func offer(value kind: WordKind, of value: String, before prefix: String) {
        switch kind {
        case .text, .program: break
        case .words(let words): offer(words.map { (prefix + $0, "") })
        case .verbs: offerVerbs()
        case .zones: add(names.zones(root, store), prefix)
        case .images: add(names.images(root, store), prefix)
        case .volumes: add(names.volumes(root, store), prefix)
        case .networks: add(names.networks(root, store), prefix)
        case .zoneNetworks:
            offer(["none", "host"].map { (prefix + $0, "") })
            add(names.networks(root, store), prefix)
        case .files: (extra, self.prefix) = (.files, prefix)
        case .folders: (extra, self.prefix) = (.folders, prefix)
        case .fileBeforeColon: if !value.contains(":") { (extra, self.prefix) = (.files, prefix) }
        }
    }

    private mutating func offer(_ words: [(String, String)]) {
        candidates += words.map { Candidate(word: $0.0, help: $0.1) }
    }

    /// Names come from files: what a shell would obey is left out.
    private mutating func add(_ names: [Candidate], _ prefix: String) {
        for name in names where name.word.utf8.allSatisfy(Completion.isHarmless) && !name.word.isEmpty {
            candidates.append(Candidate(word: prefix + name.word, help: Output.printable(name.help)))
        }
    }

    private static func isHarmless(_ byte: UInt8) -> Bool {
        byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A || "0123456789._:/@+=-".utf8.contains(byte)
    }

    /// For the shells' scripts: what to do besides, what stands before the path, then a candidate a line, with a tab
    /// before its help.
    var text: String {
        "\(extra.rawValue)\n\(prefix)\n"
            + candidates.map { $0.help.isEmpty ? "\($0.word)\n" : "\($0.word)\t\($0.help)\n" }.joined()
    }
}

/// Words as far as they are typed, gone through as ``ArgumentParser`` does; nothing is an error, as more is to come.
struct WordWalk {
    private(set) var operands: [String] = []
    /// Names of the options that were given.
    private(set) var given: [String] = []
    /// The option whose value comes next.
    private(set) var pending: Option?
    /// Whether no more options can come.
    private(set) var isOver = false
    private var values: [(name: String, value: String)] = []

    init(_ words: ArraySlice<String>, _ options: [Option], endsAtOperand: Bool) {
        for word in words {
            if let option = pending {
                values.append((option.name, word))
                pending = nil
            } else if isOver {
                operands.append(word)
            } else if word == "--" {
                isOver = true
            } else if let long = word.after("--") {
                let (name, value) = long.halves("=")
                take(options.first { $0.name == name }, value)
            } else if let letters = word.after("-"), !letters.isEmpty {
                takeLetters(letters, options)
            } else {
                operands.append(word)
                isOver = endsAtOperand
            }
        }
    }

    func value(_ option: Option) -> String? { values.last { $0.name == option.name }?.value }

    private mutating func take(_ option: Option?, _ value: String?) {
        guard let option else { return }
        given.append(option.name)
        if let value { values.append((option.name, value)) } else if option.kind != .flag { pending = option }
    }

    private mutating func takeLetters(_ letters: String, _ options: [Option]) {
        var rest = letters.unicodeScalars[...]
        while let letter = rest.popFirst() {
            guard let option = options.first(where: { $0.short == letter }) else { return }
            if option.kind == .flag {
                given.append(option.name)
                continue
            }
            return take(option, rest.isEmpty ? nil : String(rest))
        }
    }
}
