// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// All verbs of the engine face.
enum EngineVerbs {
    static let all: [EngineVerb] = [
        create, start, run, state, kill, delete, EngineExec.verb, EngineList.list, EngineList.ps, pause, resume,
        EngineUpdate.verb, EngineEvents.verb, EngineCheckpoint.checkpoint, EngineCheckpoint.restore, EngineSpec.spec,
        EngineSpec.features,
    ]

    static func find(_ name: String) -> EngineVerb? { all.first { $0.name == name } }

    private static let create = EngineVerb(
        name: "create", operands: "ID", summary: "Make a container from a bundle, up to where its program starts",
        options: EngineOption.creation, entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.create(try EngineOption.request(arguments, try context.id(arguments, "create")))
        return 0
    }

    private static let run = EngineVerb(
        name: "run", operands: "ID", summary: "Make a container from a bundle and run it",
        options: EngineOption.creation + [EngineOption.detach, EngineOption.keep], entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.run(try EngineOption.request(arguments, try context.id(arguments, "run")))
    }

    private static let start = EngineVerb(
        name: "start", operands: "ID", summary: "Let the program of a created container start"
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.start(try context.id(arguments, "start"))
        return 0
    }

    private static let state = EngineVerb(
        name: "state", operands: "ID", summary: "Show the state of a container"
    ) { (arguments, context) throws(ZoneError) in
        try Output.write(try context.runtime.state(try context.id(arguments, "state")).serialized(pretty: true))
        return 0
    }

    private static let everyProcess = Option.flag("all", "a", "Signal all processes of the container")

    private static let kill = EngineVerb(
        name: "kill", operands: "ID [SIGNAL]", summary: "Send a signal to a container (default TERM)",
        options: [everyProcess]
    ) { (arguments, context) throws(ZoneError) in
        guard let id = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(.invalid, "kill: a container ID and perhaps a signal are wanted")
        }
        let text = arguments.operands.count == 2 ? arguments.operands[1] : "TERM"
        guard let signal = SignalName.number(of: text) else {
            throw ZoneError(
                .invalid, "kill: \"\(text)\" is not a signal", hint: "give a name such as TERM or a number from 1 to 64"
            )
        }
        try context.runtime.kill(id, signal: signal, all: arguments.flag(everyProcess))
        return 0
    }

    private static let force = Option.flag("force", "f", "End a container that still runs")

    private static let delete = EngineVerb(
        name: "delete", operands: "ID", summary: "Remove a stopped container", options: [force]
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.delete(try context.id(arguments, "delete"), force: arguments.flag(force))
        return 0
    }

    private static let pause = EngineVerb(
        name: "pause", operands: "ID", summary: "Stop all processes of a container where they are"
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.pause(try context.id(arguments, "pause"))
        return 0
    }

    private static let resume = EngineVerb(
        name: "resume", operands: "ID", summary: "Let a paused container go on"
    ) { (arguments, context) throws(ZoneError) in
        try context.runtime.resume(try context.id(arguments, "resume"))
        return 0
    }
}
