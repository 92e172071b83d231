// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import ZoneRuntime

/// `zonectl kill NAME…`
enum KillCommand {
    static let signal = Option.value("signal", "s", "SIGNAL", "Name or number of the signal (default KILL)")

    static let command = Command(
        names: ["kill"], group: .run, operands: "NAME…", summary: "Send a signal to zones' first processes",
        examples: "zonectl kill -s HUP web",
        options: [signal], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let text = arguments.value(signal) ?? "KILL"
        guard let number = SignalName.number(of: text) else {
            throw ZoneError(
                .invalid, "\"\(text)\" is not a signal", hint: "give a name such as TERM or a number from 1 to 64")
        }
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ZoneControl(context.folders).kill(name, signal: number)
        }.exitCode
    }
}

/// `zonectl stop NAME…`
enum StopCommand {
    static let time = Option.value(
        "time", "t", "SECONDS", "How long to wait before killing (default: the zone's --stop-timeout, or 10)")

    static let command = Command(
        names: ["stop"], group: .run, operands: "NAME…",
        summary: "Ask zones to end, and kill those that do not in time",
        examples: "zonectl stop -t 30 web database", options: [time],
        needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let seconds = try seconds(arguments)
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ZoneControl(context.folders).stop(name, seconds: seconds)
            try Output.write(name + "\n")
        }.exitCode
    }
}

extension StopCommand {
    /// `nil`: as the zone has it.
    static func seconds(_ arguments: Arguments) throws(ZoneError) -> Int? {
        guard let text = arguments.value(time) else { return nil }
        guard let seconds = Int(text), seconds >= 0 else {
            throw ZoneError(.invalid, "--time \"\(text)\" is not a number of seconds")
        }
        return seconds
    }
}

/// `zonectl rm NAME…`
enum RemoveCommand {
    static let force = Option.flag("force", "f", "End zones that are running first")
    static let volumes = Option.flag("volumes", "v", "Remove their volumes without a name of their own, too")

    static let command = Command(
        names: ["rm"], group: .run, operands: "NAME…", summary: "Remove zones and everything in them",
        examples: """
            zonectl rm web
            # Every zone that there is
            zonectl rm -f $(zonectl ls -q)
            """,
        options: [force, volumes]
    ) { (arguments, context) throws(ZoneError) in
        try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ZoneControl(context.folders).remove(
                name, force: arguments.flag(force), volumes: arguments.flag(volumes)
            ) { Output.report($0) }
            try Output.write(name + "\n")
        }.exitCode
    }
}
