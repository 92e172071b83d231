// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import ZoneRuntime

/// One verb as engines call it.
struct EngineVerb: Sendable {
    let name: String
    let operands: String
    let summary: String
    var options: [Option] = []
    /// What follows the first operand belongs to another program.
    var endsOptionsAtOperand = false
    /// Whether a child of it becomes a process of a zone's. `enters_zone` in CStart.c names the same verbs.
    var entersZone = false
    /// The status where the verb itself fails.
    var failure: Int32 = 1
    let run: @Sendable (Arguments, EngineContext) throws(ZoneError) -> Int32
}

/// What every verb gets besides its own arguments.
struct EngineContext: Sendable {
    let folders: ZoneFolders
    let options: RuntimeOptions
    let log: EngineLog

    var runtime: BundleRuntime { BundleRuntime(folders, options) { [log] in log.write(.warning, $0) } }

    /// The only operand, an id.
    func id(_ arguments: Arguments, _ verb: String) throws(ZoneError) -> String {
        guard let id = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "\(verb): exactly one container ID is wanted", hint: "zonectl oci \(verb) ID")
        }
        return id
    }
}

/// The OCI runtime command line, as podman, dockerd, containerd and Kubernetes call it.
///
/// It is meant when the program is called by the name of a runtime, after the word `oci`, for verbs that only it has,
/// for options that only it has, and for zones that were made from bundles.
enum EngineFace {
    private static let names: Set = ["runc", "crun", "zonectl-oci"]
    /// Verbs that mean the same whatever follows.
    private static let ownVerbs: Set = [
        "checkpoint", "create", "delete", "events", "features", "list", "pause", "ps", "restore", "resume", "spec",
        "start", "state", "update",
    ]
    /// Options that people's verbs do not have, with one dash or two.
    private static let ownOptions: [String: Set<String>] = [
        "run": ["b", "bundle", "pid-file", "console-socket", "pidfd-socket"],
        "exec": ["p", "process", "pid-file", "console-socket", "pidfd-socket", "preserve-fds", "cap", "ignore-paused"],
        "kill": ["a", "all"],
    ]

    /// Whether the program was called by a runtime's name.
    static func isCalled(by program: String) -> Bool {
        names.contains(String(program.split(separator: "/").last ?? ""))
    }

    /// Whether `verb` with these words behind it is an engine's, in folders where bundles may be known.
    static func means(_ verb: String, _ words: ArraySlice<String>, _ folders: ZoneFolders) -> Bool {
        if verb == "list" { return !words.contains("--json") }
        if ownVerbs.contains(verb) { return true }
        guard let own = ownOptions[verb] else { return false }
        var operands: [String] = []
        for word in words {
            if word == "--" { break }
            if word.hasPrefix("-") {
                if own.contains(String(word.drop { $0 == "-" }.prefix { $0 != "=" })) { return true }
                continue
            }
            // The first operand may be an option's value, and behind the zone's name another program's words begin.
            operands.append(word)
            if operands.count > (verb == "run" ? 0 : 4) { break }
        }
        if verb == "run" { return false }
        let runtime = BundleRuntime(folders, RuntimeOptions(), report: { _ in })
        if operands.contains(where: { runtime.isBundle($0) }) { return true }
        // `kill ID 9`: people name zones, and no zone is named so.
        guard verb == "kill", operands.count == 2, SignalName.number(of: operands[1]) != nil else { return false }
        return !runtime.exists(operands[1])
    }

    // MARK: Running

    /// Runs a command line without the program's name. `globals` were parsed before a verb already.
    static func run(_ words: ArraySlice<String>, _ program: String) -> Int32 {
        var log = EngineLog()
        do throws(ZoneError) {
            let parser = ArgumentParser(
                command: "oci", options: EngineOption.globals, endsOptionsAtOperand: true, takesSingleDash: true)
            var globals = try parser.parse(words)
            if globals.operands.first == "oci" {
                // Options may stand before the word and behind it.
                let before = words.prefix(words.count - globals.operands.count)
                globals = try parser.parse(Array(before) + globals.operands.dropFirst())
            }
            log = try EngineLog(globals)
            if globals.flag(GlobalOption.version) { return try version(program) }
            let rest = globals.operands[...]
            guard let name = rest.first, !globals.flag(GlobalOption.help) else {
                try Output.write(EngineHelp.overview())
                return 0
            }
            if name == "help" {
                try Output.write(EngineHelp.overview())
                return 0
            }
            guard let verb = EngineVerbs.all.first(where: { $0.name == name }) else {
                let near = Suggestion.nearest(to: name, among: EngineVerbs.all.map(\.name))
                throw ZoneError(
                    .invalid, "unknown verb \"\(name)\"", hint: near.map { "did you mean '\($0)'?" } ?? "")
            }
            return run(verb, rest.dropFirst(), globals, log)
        } catch {
            log.report(error)
            return 1
        }
    }

    private static func run(
        _ verb: EngineVerb, _ words: ArraySlice<String>, _ globals: Arguments, _ log: EngineLog
    ) -> Int32 {
        do throws(ZoneError) {
            let arguments = try ArgumentParser(
                command: "oci \(verb.name)", options: verb.options + [GlobalOption.help],
                endsOptionsAtOperand: verb.endsOptionsAtOperand, takesSingleDash: true
            ).parse(words)
            if arguments.flag(GlobalOption.help) {
                try Output.write(EngineHelp.text(verb))
                return 0
            }
            let context = EngineContext(
                folders: try EngineOption.folders(globals), options: try EngineOption.runtime(globals), log: log)
            if verb.entersZone { try enter(verb, arguments, context) }
            return try verb.run(arguments, context)
        } catch {
            log.report(error)
            return verb.failure
        }
    }

    /// An ordinary user's zones are in a user namespace, which `exec` joins.
    private static func enter(_ verb: EngineVerb, _ arguments: Arguments, _ context: EngineContext) throws(ZoneError) {
        if geteuid() != 0 {
            var process: Int32?
            if verb.name == "exec", let id = arguments.operands.first { process = try context.runtime.state(id).pid }
            try Rootless.enter(process: process) { context.log.write(.warning, $0) }
        }
        try Main.requireReadOnlyExecutable(verb.name)
    }

    /// The three lines that callers take apart: containerd wants just these, older dockerd a first one with the name
    /// that it called.
    static func version(_ program: String) throws(ZoneError) -> Int32 {
        let name = String(program.split(separator: "/").last ?? "zonectl")
        let shown = name == "runc" || name == "crun" ? name : "zonectl"
        try Output.write(
            "\(shown) version \(Version.number)\ncommit: \(Version.commit)\nspec: \(Version.specification)\n")
        return 0
    }
}

/// Help of the engine face, from the same tables.
enum EngineHelp {
    static func overview() -> String {
        "zonectl as an OCI runtime: container engines call it so.\n\nUsage: zonectl [OPTIONS] oci VERB [OPTIONS] …\n\n"
            + "Verbs:\n" + Help.columns(EngineVerbs.all.map { ($0.name, $0.summary) })
            + "\nOptions:\n" + Help.options(EngineOption.globals)
    }

    static func text(_ verb: EngineVerb) -> String {
        "Usage: zonectl oci \(verb.name)\(verb.options.isEmpty ? "" : " [OPTIONS]") \(verb.operands)\n\n"
            + "\(verb.summary).\n\nOptions:\n" + Help.options(verb.options + [GlobalOption.help])
    }
}
