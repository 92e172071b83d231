// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import ZoneRuntime

StandardStream.reserve()
// A reader that goes away is an error to report, not a signal to die of. Children get the default again.
signal(SIGPIPE, SIG_IGN)
// The same for a limit of file sizes: EFBIG.
signal(SIGXFSZ, SIG_IGN)
exit(Main.run())

/// Finds the verb, runs it and turns its error into a status.
enum Main {
    static func run() -> Int32 {
        let program = zn_arguments()[0].flatMap { String(validatingCString: $0) } ?? ""
        if GuestAgent.isCalled(by: program) { GuestAgent.run() }
        do throws(ZoneError) {
            let words = try words()
            // Before what closes descriptors: it inherits many.
            if words.first == MachineCommand.monitorVerb { return MachineCommand.monitor(words.dropFirst()) }
            StandardStream.closeOthers(keeping: EngineOption.preserved(words))
            if UnitGenerator.isCalled(by: program) { return UnitGenerator.run(words) }
            if EngineFace.isCalled(by: program) { return EngineFace.run(words[...], program) }
            return try dispatch(words[...], program)
        } catch {
            Output.report(error)
            return error.exitCode
        }
    }

    /// The words after the program's name. Bytes that are no UTF-8 are refused: a configuration in JSON cannot hold them,
    /// and a name that is silently changed is worse than an error.
    private static func words() throws(ZoneError) -> [String] {
        var words: [String] = []
        for index in 1..<max(1, Int(zn_argument_count())) {
            guard let bytes = zn_arguments()[index] else { break }
            guard let word = String(validatingCString: bytes) else {
                throw ZoneError(.invalid, "word \(index) of the command is not valid UTF-8: \(String(cString: bytes))")
            }
            words.append(word)
        }
        return words
    }

    private static func dispatch(_ words: ArraySlice<String>, _ program: String) throws(ZoneError) -> Int32 {
        // Engines' options before the verb are taken too: which face is meant is only known after them.
        let parser = ArgumentParser(
            command: "", options: EngineOption.globals, endsOptionsAtOperand: true, takesSingleDash: true)
        let globals: Arguments
        do throws(ZoneError) { globals = try parser.parse(words) } catch {
            if EngineOption.areMentioned(in: words) { return EngineFace.run(words, program) }
            throw error
        }
        if globals.flag(GlobalOption.version) { return try EngineFace.version(program) }
        if let verb = globals.operands.first, verb == "oci" || EngineOption.areIn(globals) || FaceChoice.isOwn(verb) {
            return EngineFace.run(words, program)
        }
        let folders = try folders(root: globals.value(GlobalOption.root), store: globals.value(GlobalOption.store))
        if let verb = globals.operands.first, EngineFace.means(verb, globals.operands.dropFirst(), folders) {
            return EngineFace.run(words, program)
        }
        let context = Context(folders: folders)
        if globals.flag(GlobalOption.help) { return try HelpCommand.show(globals.operands) }
        guard let verb = globals.operands.first else {
            throw ZoneError(
                .invalid, "no verb was given", hint: "'zonectl help' lists the verbs; start with: zonectl run busybox")
        }
        guard let (command, rest) = CommandTable.find(globals.operands[...]) else {
            throw CommandTable.unknown(verb, next: globals.operands.dropFirst().first)
        }
        let arguments = try ArgumentParser(
            command: command.name, options: command.options + command.refused() + [GlobalOption.help],
            endsOptionsAtOperand: command.endsOptionsAtOperand
        ).parse(rest)
        if arguments.flag(GlobalOption.help) {
            try Output.write(Help.text(command))
            return 0
        }
        if command.needsRoot { try becomeRoot(command, arguments, context) }
        if command.entersZone {
            // Verbs that CStart does not know, since engines' verbs of the same name do not enter zones.
            if !zn_executable_is_read_only() { _ = zn_execute_read_only() }
            try requireReadOnlyExecutable(command.name)
        }
        return try command.run(arguments, context)
    }

    /// An ordinary user's zones are in a user namespace, in which the user is root.
    private static func becomeRoot(
        _ command: Command, _ arguments: Arguments, _ context: Context
    ) throws(ZoneError) {
        if geteuid() == 0 { return }
        var process: Int32?
        if command.name == "exec", let name = arguments.operands.first {
            process = try context.store.find(name).state.process?.pid
        }
        if command.name == "cp", let name = CopyCommand.zone(arguments) {
            process = try context.store.find(name).state.process?.pid
        }
        if command.name == "rm", arguments.flag(RemoveCommand.force) {
            arguments.operands.forEach(ZoneControl(context.folders).endBeforeRemoval)
        }
        try Rootless.enter(process: process) { Output.report($0) }
    }

    static func requireReadOnlyExecutable(_ verb: String) throws(ZoneError) {
        if zn_executable_is_read_only() { return }
        throw ZoneError(
            .unsupported,
            "\(verb): zonectl's own file could be overwritten from inside the zone, as it cannot be executed through a read-only mount",
            hint: "this needs CAP_SYS_ADMIN, /proc, and a kernel with open_tree and mount_setattr (Linux 5.12)")
    }

    /// Where zones are kept: as told by options, by variables, or as fits the user.
    static func folders(root: String?, store: String?) throws(ZoneError) -> ZoneFolders {
        let root = root ?? variable("ZONECTL_ROOT")
        let store = store ?? variable("ZONECTL_STORE")
        var folders: ZoneFolders
        if let root, let store {
            folders = try ZoneFolders(root: root, store: store)
        } else {
            let defaults = try ZoneFolders.defaults()
            folders = try ZoneFolders(root: root ?? defaults.root, store: store ?? defaults.store)
        }
        folders.guests = guests()
        return folders
    }

    /// Folders with kernels of micro machines: as a variable says, and beside an executable that was called by its path.
    static func guests() -> [String] {
        if let told = variable("ZONECTL_GUEST") { return [told] }
        let program = zn_arguments()[0].flatMap { String(validatingCString: $0) } ?? ""
        guard program.isAbsolutePath || program.utf8.contains(UInt8(ascii: "/")), let resolved = realpath(program, nil)
        else { return [] }
        defer { free(resolved) }
        return ["\(Array(String(cString: resolved).pathComponents.dropLast()).absolutePath)/guest"]
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }
}
