// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import ZoneRuntime

StandardStream.reserve()
StandardStream.closeOthers()
// A reader that goes away is an error to report, not a signal to die of. Children get the default again.
signal(SIGPIPE, SIG_IGN)
exit(Main.run())

/// Finds the verb, runs it and turns its error into a status.
enum Main {
    static func run() -> Int32 {
        do throws(ZoneError) {
            return try dispatch(try words()[...])
        } catch {
            Output.report(error)
            return error.exitCode
        }
    }

    /// The words after the program's name. Bytes that are no UTF-8 are refused: a configuration in JSON cannot hold them,
    /// and a name that is silently changed is worse than an error.
    private static func words() throws(ZoneError) -> [String] {
        var words: [String] = []
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let bytes = CommandLine.unsafeArgv[index] else { break }
            guard let word = String(validatingCString: bytes) else {
                throw ZoneError(.invalid, "word \(index) of the command is not valid UTF-8: \(String(cString: bytes))")
            }
            words.append(word)
        }
        return words
    }

    private static func dispatch(_ words: ArraySlice<String>) throws(ZoneError) -> Int32 {
        let parser = ArgumentParser(command: "", options: GlobalOption.all, endsOptionsAtOperand: true)
        let globals = try parser.parse(words)
        let context = Context(
            folders: try ZoneFolders(
                root: globals.value(GlobalOption.root) ?? variable("ZONECTL_ROOT") ?? ZoneFolders.defaultRoot,
                store: globals.value(GlobalOption.store) ?? variable("ZONECTL_STORE") ?? ZoneFolders.defaultStore))
        if globals.flag(GlobalOption.version) { return try VersionCommand.command.run(Arguments(), context) }
        if globals.flag(GlobalOption.help) { return try HelpCommand.show(globals.operands) }
        guard let verb = globals.operands.first else {
            throw ZoneError(
                .invalid, "no verb was given", hint: "'zonectl help' lists the verbs; start with: zonectl run busybox")
        }
        guard let (command, rest) = CommandTable.find(globals.operands[...]) else {
            throw CommandTable.unknown(verb, next: globals.operands.dropFirst().first)
        }
        let arguments = try ArgumentParser(
            command: command.name, options: command.options + [GlobalOption.help],
            endsOptionsAtOperand: command.endsOptionsAtOperand
        ).parse(rest)
        if arguments.flag(GlobalOption.help) {
            try Output.write(Help.text(command))
            return 0
        }
        if command.needsRoot { try ZoneFolders.requireRoot(command.name) }
        if command.entersZone, !zn_executable_is_read_only() {
            throw ZoneError(
                .unsupported,
                "\(command.name): zonectl's own file could be overwritten from inside the zone, as it cannot be executed through a read-only mount",
                hint: "this needs CAP_SYS_ADMIN, /proc, and a kernel with open_tree and mount_setattr (Linux 5.12)")
        }
        return try command.run(arguments, context)
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }
}
