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
    // `switch`, here and in FaceChoice: the first Set of a process costs it 130,000 instructions, a seventh of `state`.

    /// Whether the program was called by a runtime's name.
    static func isCalled(by program: String) -> Bool {
        switch name(of: program) {
        case "runc", "crun", "zonectl-oci", machineName: true
        default: false
        }
    }

    /// A runtime all of whose containers are machines.
    static let machineName: Substring = "zonectl-vm"

    static func makesMachines(_ program: String) -> Bool { name(of: program) == machineName }

    private static func name(of program: String) -> Substring {
        program.utf8.lastIndex(of: UInt8(ascii: "/")).map { program[program.utf8.index(after: $0)...] } ?? program[...]
    }

    /// Whether `verb` with these words behind it is an engine's, in folders where bundles may be known.
    static func means(_ verb: String, _ words: ArraySlice<String>, _ folders: ZoneFolders) -> Bool {
        let runtime = BundleRuntime(folders, RuntimeOptions(), report: { _ in })
        return FaceChoice(isBundle: runtime.isBundle, exists: runtime.exists).isEngine(verb, words)
    }

    // MARK: Running

    /// Runs a command line without the program's name. `globals` were parsed before a verb already.
    static func run(_ words: ArraySlice<String>, _ program: String) -> Int32 {
        var log = EngineLog()
        do throws(ZoneError) {
            let parser = ArgumentParser(
                command: "oci", options: EngineOption.globals, endsOptionsAtOperand: true, takesSingleDash: true)
            var globals: Arguments
            do throws(ZoneError) {
                globals = try parser.parse(words)
                if globals.operands.first == "oci" {
                    // Options may stand before the word and behind it.
                    let before = words.prefix(words.count - globals.operands.count)
                    globals = try parser.parse(Array(before) + globals.operands.dropFirst())
                }
            } catch {
                // The engine reads why in its log, also where another option is one that is not known here.
                log = EngineLog(of: words)
                throw error
            }
            log = try EngineLog(globals)
            if globals.flag(GlobalOption.version) { return try version(program) }
            let rest = globals.operands[...]
            guard let name = rest.first, !globals.flag(GlobalOption.help) else {
                try Output.write(EngineHelp.overview())
                return 0
            }
            if name == "help" {
                try Output.write(try rest.dropFirst().first.map(verb).map(EngineHelp.text) ?? EngineHelp.overview())
                return 0
            }
            return run(try verb(name), rest.dropFirst(), globals, log)
        } catch {
            log.report(error)
            return 1
        }
    }

    private static func verb(_ name: String) throws(ZoneError) -> EngineVerb {
        if let verb = EngineVerbs.find(name) { return verb }
        let near = Suggestion.nearest(to: name, among: EngineVerbs.all.map(\.name))
        throw ZoneError(
            .invalid, "unknown verb \"\(name)\"",
            hint: (near.map { "did you mean '\($0)'? " } ?? "") + "'zonectl oci help' lists the verbs")
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
            var options = try EngineOption.runtime(globals)
            options.makesMachines = makesMachines(zn_arguments()[0].flatMap { String(validatingCString: $0) } ?? "")
            var folders = try EngineOption.folders(globals)
            folders.guests = Main.guests()
            let context = EngineContext(folders: folders, options: options, log: log)
            // No arguments: there may be passwords among them.
            log.debug("\(verb.name) \(arguments.operands.first ?? ""): \(context.folders.root), \(Version.text)")
            if verb.entersZone { try enter(verb, arguments, context) }
            let status = try verb.run(arguments, context)
            log.debug("\(verb.name) \(arguments.operands.first ?? ""): status \(status)")
            return status
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
        let name = name(of: program)
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
