// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// One option of a command, as data: parsing, help and completion all come from it.
struct Option: Sendable {
    enum Kind: Sendable, Equatable {
        /// `--rm`, `--rm=false`.
        case flag
        /// `--name NAME`, `--name=NAME`; the text names the value in the help, and tells completion what it is: ``WordKind``.
        case value(String)
        /// `--vm`, `--vm=micro`: a value that may be left out, and is never the next word. The second text is what it is then.
        case optional(String, String)
    }

    let name: String
    let short: Unicode.Scalar?
    let kind: Kind
    let help: String
    /// Whether it may be given more than once; of others the last one counts.
    let repeats: Bool

    static func flag(_ name: String, _ short: Unicode.Scalar? = nil, _ help: String) -> Option {
        Option(name: name, short: short, kind: .flag, help: help, repeats: false)
    }

    static func value(_ name: String, _ short: Unicode.Scalar? = nil, _ valueName: String, _ help: String) -> Option {
        Option(name: name, short: short, kind: .value(valueName), help: help, repeats: false)
    }

    static func optional(_ name: String, _ valueName: String, without: String, _ help: String) -> Option {
        Option(name: name, short: nil, kind: .optional(valueName, without), help: help, repeats: false)
    }

    static func list(_ name: String, _ short: Unicode.Scalar? = nil, _ valueName: String, _ help: String) -> Option {
        Option(name: name, short: short, kind: .value(valueName), help: help, repeats: true)
    }
}

/// A verb.
struct Command: Sendable {
    enum Group: String, CaseIterable, Sendable {
        case run = "Run"
        case look = "Look"
        case keep = "Keep"
        case boot = "Start with the host"
        case images = "Images"
        case volumes = "Volumes"
        case networks = "Networks"
        case other = "Other"
    }

    /// The verb, of one word or two (`image ls`), and other words for it.
    let names: [String]
    let group: Group
    /// What follows the options, such as `NAME…`. Completion knows by these names what to offer: ``WordKind``.
    let operands: String
    let summary: String
    /// More for `help VERB`; may be empty.
    var details = ""
    /// For help and manual page: lines as at a shell, with comments; may be empty.
    var examples = ""
    /// For the manual page: an own status and what it means a line, with a tab between; may be empty.
    var statuses = ""
    let options: [Option]
    /// Options of a related verb that are parsed only to say why they are none of this one's. Not made until then: every
    /// call makes the table of all verbs.
    var refused: @Sendable () -> [Option] = { [] }
    /// Options end at the first operand, because what follows belongs to another program.
    var endsOptionsAtOperand = false
    /// Whether it changes anything on the host, which only root may.
    var needsRoot = true
    /// Whether a child of it becomes a process of a zone's. `enters_zone` in CStart.c names those that engines have, too.
    var entersZone = false
    /// For programs, not for people: neither help nor completion show it.
    var isHidden = false
    let run: @Sendable (Arguments, Context) throws(ZoneError) -> Int32

    var name: String { names[0] }
}

/// What every command gets besides its own arguments.
struct Context: Sendable {
    let folders: ZoneFolders

    var store: ZoneStore { ZoneStore(folders) }
}

/// A command's parsed arguments.
struct Arguments: Sendable {
    private(set) var operands: [String] = []
    /// In their order. No dictionary: there are few, and the first one of a process is dear, see EngineFace.
    private var values: [(name: String, value: String)] = []

    /// Whether a flag is set; the last mention counts.
    func flag(_ option: Option) -> Bool { value(option) == "true" }

    /// The last value given.
    func value(_ option: Option) -> String? { values.last { $0.name == option.name }?.value }

    /// All values given, in their order.
    func list(_ option: Option) -> [String] { values.filter { $0.name == option.name }.map { $0.value } }

    mutating func add(_ option: Option, _ value: String) { values.append((option.name, value)) }
    mutating func add(operand: String) { operands.append(operand) }
}
