// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// What a word of a command line is, for who completes it. Most are known by the name that the help gives them, so that a
/// verb need not say the same twice.
enum WordKind: Sendable, Equatable {
    /// Anything: there is nothing to offer.
    case text
    case zones
    case images
    case volumes
    case networks
    /// Those, and what a zone may have instead.
    case zoneNetworks
    /// Verbs of zonectl's.
    case verbs
    case files
    case folders
    /// Files of the host's up to a colon, behind which stands what nobody here knows: `SOURCE:TARGET`.
    case fileBeforeColon
    /// Some of these.
    case words([String])
    /// What a zone runs with the words behind it.
    case program

    /// The kind of what the help calls so; `group` tells whose name a `NAME` is.
    init(of name: String, in group: Command.Group) {
        switch name {
        case "NAME" where group == .images, "IMAGE": self = .images
        case "NAME", "ZONE", "ID": self = .zones
        case "VOLUME": self = .volumes
        case "NETWORK": self = .networks
        case "VERB": self = .verbs
        case "FILE", "PATH", "ZONE:PATH", "SOCKET": self = .files
        case "DIR", "FOLDER": self = .folders
        case "COMMAND": self = .program
        case "SIGNAL": self = .words(SignalName.common)
        case "CAPABILITY": self = .words(["ALL"] + ZoneDefinition.capabilityNames)
        default:
            // `on-failure[:N]`: what is in brackets is left to the typist.
            let words = name.split(separator: "|").map { String($0.prefix { $0 != "[" }) }
            let areWords = words.count > 1 && words.allSatisfy { $0.utf8.allSatisfy(WordKind.isPlain) }
            self =
                areWords
                ? .words(words) : name.hasPrefix("SOURCE") || name.hasPrefix("PATH:") ? .fileBeforeColon : .text
        }
    }

    /// Small letters, digits and what joins them: a word as it is typed.
    private static func isPlain(_ byte: UInt8) -> Bool {
        byte >= 0x61 && byte <= 0x7A || byte >= 0x30 && byte <= 0x39 || byte == 0x2D
    }

    /// The kind of an operand, by the text that names all: `NAME COMMAND [ARGUMENT…]`; nil where there are to be no more.
    static func operand(_ text: String, in group: Command.Group, at index: Int) -> WordKind? {
        let names = text.split(separator: " ").map { $0.filter { $0 != "[" && $0 != "]" && $0 != "…" } }
        if index < names.count { return WordKind(of: names[index], in: group) }
        let last = names.last.map { WordKind(of: $0, in: group) }
        // Verbs may be of two words.
        return text.contains("…") || last == .verbs ? last : nil
    }
}

extension Option {
    /// What its value is.
    var completedValue: WordKind {
        if case .optional(let value, _) = kind { return WordKind(of: value, in: .other) }
        guard case .value(let value) = kind else { return .words(["true", "false"]) }
        switch name {
        // Folders of the zone's.
        case "workdir", "cwd": return .text
        case "network", "disconnect": return .zoneNetworks
        case "ulimit": return .words(ResourceLimits.shortNames.map { $0 + "=" })
        case "security-opt":
            return .words(["seccomp=", "seccomp=unconfined", "no-new-privileges", "no-new-privileges=false"])
        // What is to be made has no name yet.
        default: return value == "NAME" ? .text : WordKind(of: value, in: .other)
        }
    }
}

extension Command {
    /// What the operand at an index is; nil where there are to be no more.
    func operandKind(at index: Int) -> WordKind? { .operand(operands, in: group, at: index) }
}
