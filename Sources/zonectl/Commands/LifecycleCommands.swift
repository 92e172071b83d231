// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl create IMAGE [COMMAND…]`
enum CreateCommand {
    static let command = Command(
        names: ["create"], group: .run, operands: "IMAGE [COMMAND [ARGUMENT…]]",
        summary: "Make a zone from an image, without starting it", details: "It prints the zone's name.",
        options: RunCommand.definitionOptions, endsOptionsAtOperand: true
    ) { (arguments, context) throws(ZoneError) in
        var definition = try RunCommand.definition(arguments)
        (definition.isInteractive, definition.hasTerminal) = (
            arguments.flag(RunCommand.interactive), arguments.flag(RunCommand.terminal)
        )
        do throws(ZoneError) {
            let zone = try PullOptions.providing(
                definition.image, arguments, context, for: definition
            ) { () throws(ZoneError) in
                try ZoneLifecycle(context.folders).create(definition, name: arguments.value(RunCommand.name))
            }
            try Output.write(zone + "\n")
        } catch {
            throw error.code == .notFound ? RunCommand.hinted(error, definition.image) : error
        }
        return 0
    }
}

/// `zonectl start NAME…`
enum StartCommand {
    static let foreground = Option.flag(
        "foreground", nil, "Stay with the zone, for a supervisor such as systemd, which decides about restarts")

    static let boot = Option.flag(
        "boot", nil, "Start the zones whose restart policy is always or unless-stopped, as when the host starts")

    private static func startForBoot(_ arguments: Arguments, _ lifecycle: ZoneLifecycle) throws(ZoneError) -> Int32 {
        guard arguments.operands.isEmpty, !arguments.flag(foreground) else {
            throw ZoneError(.invalid, "start --boot takes no names: the zones' restart policies say which")
        }
        var status: Int32 = 0
        try lifecycle.startForBoot { (name) in
            // Who starts zones with the host need not read what was started.
            try? Output.write(name + "\n")
        } fail: { error in
            Output.report(error)
            status = error.exitCode
        }
        return status
    }

    static let command = Command(
        names: ["start"], group: .run, operands: "NAME…", summary: "Start stopped zones in the background",
        details: "A zone that runs is left alone, but gets a new keeper if its own was killed.",
        options: [foreground, boot], entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        let lifecycle = ZoneLifecycle(context.folders, report: Output.report)
        if arguments.flag(boot) { return try startForBoot(arguments, lifecycle) }
        if arguments.flag(foreground) {
            guard let name = arguments.operands.first, arguments.operands.count == 1 else {
                throw ZoneError(.invalid, "start --foreground takes the name of one zone")
            }
            // What the administrator has written since the last start.
            if let zone = try DefinitionFolder.zone(name, context.folders) {
                let outcome = try lifecycle.apply(zone.definition, restarts: false, dryRun: false)
                if outcome != .unchanged { Output.report("zone \(name) is now as its definition file says") }
            }
            do throws(ZoneError) { return try lifecycle.startSupervised(name) } catch {
                guard error.code == .notFound else { throw error }
                Output.report(error)
                return ZoneLifecycle.staysStopped
            }
        }
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(try lifecycle.start(name) + "\n")
        }.exitCode
    }
}

/// `zonectl attach NAME`
enum AttachCommand {
    static let noInput = Option.flag("no-stdin", nil, "Only show what the zone says")

    static let command = Command(
        names: ["attach"], group: .run, operands: "NAME",
        summary: "Join the terminal, or the streams, of a zone in the background",
        details: """
            Ctrl-P Ctrl-Q leaves a zone's terminal and lets it go on. Without a terminal signals are passed on to the zone.
            The exit status is the zone's own.
            """,
        options: [noInput]
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "attach takes the name of one zone", hint: "'zonectl ls' lists all zones")
        }
        switch try ZoneAttachment(context.folders).attach(name, passesInput: !arguments.flag(noInput)) {
        case .ended(let code): return code
        case .detached:
            Output.report("left zone \(name), which goes on")
            return 0
        }
    }
}

/// `zonectl wait NAME…`
enum WaitCommand {
    static let command = Command(
        names: ["wait"], group: .run, operands: "NAME…",
        summary: "Wait until zones have ended, and print their exit statuses",
        details:
            "A zone that is started again by its restart policy has not ended. \"unknown\" stands for a zone whose end nobody saw.",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            let code = try ZoneAttachment(context.folders).wait(name)
            try Output.write((code.map { String($0) } ?? "unknown") + "\n")
        }.exitCode
    }
}

/// `zonectl rename NAME NEW`
enum RenameCommand {
    static let command = Command(
        names: ["rename"], group: .run, operands: "NAME NEW", summary: "Give a stopped zone another name",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 2 else {
            throw ZoneError(.invalid, "rename takes two names", hint: "zonectl rename web web-old")
        }
        try ZoneLifecycle(context.folders).rename(arguments.operands[0], to: arguments.operands[1])
        return 0
    }
}

/// `zonectl pause NAME…` and `zonectl resume NAME…`
enum PauseCommand {
    static let pause = Command(
        names: ["pause"], group: .run, operands: "NAME…", summary: "Stop all processes of zones where they are",
        options: []
    ) { (arguments, context) throws(ZoneError) in
        try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ZoneControl(context.folders).pause(name)
            try Output.write(name + "\n")
        }.exitCode
    }

    static let resume = Command(
        names: ["resume", "unpause"], group: .run, operands: "NAME…", summary: "Let paused zones go on",
        options: []
    ) { (arguments, context) throws(ZoneError) in
        try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ZoneControl(context.folders).resume(name)
            try Output.write(name + "\n")
        }.exitCode
    }
}
