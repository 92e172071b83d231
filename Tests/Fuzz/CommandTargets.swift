// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

@testable import ZoneRuntime
@testable import zonectl

/// Command lines: words are separated by new lines, the first one is the verb.
let commandTargets = [
    FuzzTarget(name: "command") { command($0) },
    FuzzTarget(name: "mount-value") { mountValue($0) },
    FuzzTarget(name: "option-value") { optionValue($0) },
]

private func command(_ input: Input) {
    guard let text = input.text else { return }
    let words = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        .compactMap { String($0) }
    guard let verb = words.first else { return }
    _ = EngineOption.preserved(words)
    var parsers: [ArgumentParser] = [
        ArgumentParser(command: "", options: EngineOption.globals, endsOptionsAtOperand: true, takesSingleDash: true)
    ]
    if let engine = EngineVerbs.all.first(where: { $0.name == verb }) {
        parsers.append(
            ArgumentParser(
                command: "oci \(verb)", options: engine.options, endsOptionsAtOperand: engine.endsOptionsAtOperand,
                takesSingleDash: true))
    } else if let (command, _) = CommandTable.find(words[...]) {
        parsers.append(
            ArgumentParser(
                command: command.name, options: command.options, endsOptionsAtOperand: command.endsOptionsAtOperand))
    }
    for parser in parsers { parse(words.dropFirst(), parser) }
    _ = CommandTable.unknown(verb, next: words.dropFirst().first)
    complete(words)
}

/// At every word of the line: what is offered begins with what is there, and is one line.
private func complete(_ words: [String]) {
    let names = Completion.Names(
        zones: { _, _ in [.init(word: "web", help: "running")] }, images: { _, _ in [.init(word: "a/b:1", help: "")] })
    for (index, current) in words.enumerated() {
        let completion = Completion(before: Array(words.prefix(index)), current: current, names: names)
        for candidate in completion.candidates {
            expect(candidate.word.hasPrefix(current), "\(candidate.word) is offered for \(current)")
            expect(!candidate.word.utf8.contains { $0 <= 0x20 }, "\(candidate.word) is no word")
        }
        expect(current.hasPrefix(completion.prefix), "\(completion.prefix) does not stand before \(current)")
    }
}

private func parse(_ words: ArraySlice<String>, _ parser: ArgumentParser) {
    guard let arguments = try? parser.parse(words) else { return }
    // Nothing is made up: operands are some of the words, in their order.
    var rest = words
    for operand in arguments.operands {
        guard let index = rest.firstIndex(where: { $0.utf8.elementsEqual(operand.utf8) }) else {
            return expect(false, "\(operand) was no word")
        }
        rest = rest[(index + 1)...]
    }
    for option in parser.options {
        for value in arguments.list(option) {
            switch option.kind {
            case .flag: expect(value == "true" || value == "false", "--\(option.name) is \(value)")
            case .value, .optional:
                let bytes = Array(value.utf8)
                if case .optional(_, value) = option.kind { continue }
                expect(
                    words.contains { $0.utf8.count >= bytes.count && $0.utf8.suffix(bytes.count).elementsEqual(bytes) },
                    "--\(option.name) has a value that is no end of a word")
            }
        }
    }
    if parser.command == "run", let definition = try? RunCommand.definition(arguments) {
        let text = definition.serialized()
        guard let again = try? ZoneDefinition(parsing: text) else { return expect(false, "a definition is written") }
        expect(again.serialized() == text, "a definition is read as it was written")
    }
}

/// `-v`, `--mount` and `--tmpfs`; the first two look at the host for what they name.
private func mountValue(_ input: Input) {
    guard let text = input.text else { return }
    let mounts = [try? MountValue.volume(text), try? MountValue.mount(text), try? MountValue.tmpfs(text)]
    for mount in mounts.compactMap({ $0 }) {
        let parts = mount.destination.utf8.split(separator: 0x2F, omittingEmptySubsequences: false).dropFirst()
        expect(mount.destination.utf8.first == 0x2F && !parts.isEmpty, "a target is absolute")
        for part in parts {
            expect(
                !part.isEmpty && !part.elementsEqual("..".utf8) && !part.elementsEqual(".".utf8), "a target is clean")
        }
        expect(parts.first.map { ["proc", "sys"].contains(String($0)) } == false, "the kernel's files are covered")
        guard let options = try? MountOptions(mount.options) else { return expect(false, "options are known") }
        for data in options.data {
            expect(
                ["size", "mode", "uid", "gid", "nr_inodes"].contains(data.key), "\(data.key) is no option of a tmpfs")
            expect(data.value?.isEmpty == false, "\(data.key) has a value")
            expect(data.value?.utf8.contains(0x2C) == false, "\(data.key) is one option")
        }
    }
}

private func optionValue(_ input: Input) {
    guard let text = input.text else { return }
    if let bytes = try? ResourceOptions.size(text, "--memory") { expect(bytes >= 0, "\(text) is a size") }
    if let quota = try? ResourceOptions.quota(text) {
        expect(quota == 0 || (1000...819_200_000).contains(quota), "\(text) is a quota")
    }
    if let shares = try? ResourceOptions.shares(text) {
        expect(shares == 0 || (2...262_144).contains(shares), "\(text) is a weight")
    }
    _ = try? ResourceOptions.list(text, "--cpuset-cpus", of: "CPUs")
    _ = try? ResourceOptions.time(text)
    _ = try? ResourceOptions.rate(text, .readBytes)
    if let pids = try? ResourceOptions.pids(text) { expect(pids >= 0, "\(text) is a number of processes") }
    if let limit = try? OptionValue.limit(text) {
        expect(limit.soft <= limit.hard, "the soft limit is below the hard one")
        expect(ResourceLimits.number(of: limit.type) != nil, "\(limit.type) is a limit")
    }
    if let name = try? OptionValue.hostname(text) { expect((1...64).contains(name.utf8.count), "\(name) is a name") }
    if let name = try? OptionValue.capability(text, "--cap-add") {
        expect(text.utf8.allSatisfy { $0 < 0x80 } && name.utf8.allSatisfy { $0 < 0x80 }, "\(text) is a capability")
    }
    if let (name, _) = try? OptionValue.sysctl(text, network: .none) {
        let separator = UInt8(ascii: name.utf8.contains(UInt8(ascii: "/")) ? "/" : ".")
        let parts = name.utf8.split(separator: separator)
        expect(!parts.contains { $0.elementsEqual("..".utf8) }, "\(name) stays where it is")
        expect(["net", "kernel", "fs"].contains(parts.first.flatMap(String.init)), "\(name) is the zone's own")
    }
    if let entries = try? OptionValue.environment(files: [], entries: [text]), let entry = entries.first {
        expect(entry.utf8.first != UInt8(ascii: "="), "a variable has a name")
        expect(entry.utf8.contains(UInt8(ascii: "=")), "a variable has a value")
    }
    if let device = try? OptionValue.device(text) {
        expect(device.target.utf8.first == 0x2F && !device.access.isEmpty, "\(text) is a device")
    }
    var definition = ZoneDefinition()
    try? OptionValue.applySecurity(text, to: &definition)
}
