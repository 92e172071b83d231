// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl restart NAME…`
enum RestartCommand {
    static let updated = Option.flag(
        "updated", nil, "Move zones (all if none is named) to what the names of their images mean now")
    static let verbose = Option.flag("verbose", nil, "With --updated: name all files that a zone keeps as its own")
    static let json = Option.flag("json", nil, "With --updated: print JSON")

    static let command = Command(
        names: ["restart"], group: .run, operands: "NAME…", summary: "Stop zones and start them again",
        details: """
            '--updated' restarts only zones whose image has changed under its name, by 'zonectl image update', 'pull',
            'tag' or 'import'. They stand on the new image afterwards and keep their own files, also those that the new
            image has otherwise, which are named. Zones that do not run are moved, too, and stay stopped. The old
            image stays until 'zonectl image prune' finds that no zone, clone or snapshot needs it.
            """,
        examples: """
            zonectl image update debian:12
            zonectl restart --updated
            """,
        options: [StopCommand.time, updated, verbose, json], entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        let seconds = try StopCommand.seconds(arguments)
        if arguments.flag(updated) { return try update(arguments, context, seconds) }
        for option in [verbose, json] where arguments.flag(option) {
            throw ZoneError(.invalid, "restart takes --\(option.name) only with --updated")
        }
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(
                try ZoneLifecycle(context.folders, report: Output.report).restart(name, seconds: seconds) + "\n")
        }.exitCode
    }

    // MARK: --updated

    /// Paths of each zone that are named without --verbose.
    private static let fewPaths = 5

    private static func update(_ arguments: Arguments, _ context: Context, _ seconds: Int?) throws(ZoneError) -> Int32 {
        let updates = ZoneUpdates(context.folders)
        let isNamed = !arguments.operands.isEmpty
        let zones = isNamed ? arguments.operands : try updates.zones()
        var done: [ZoneUpdate] = []
        var status: Int32 = 0
        for zone in zones {
            do throws(ZoneError) {
                let result = try updates.update(zone, seconds: seconds)
                guard isNamed || result.isMoved else { continue }
                done.append(result)
                // Each as soon as it is known: a stop may take its time.
                if !arguments.flag(json) { try Output.write(text(result, isVerbose: arguments.flag(verbose))) }
            } catch {
                Output.report(error)
                status = error.exitCode
            }
        }
        if arguments.flag(json) {
            try Output.json(done)
        } else if done.isEmpty, status == 0 {
            try Output.write("all zones are up to date\n")
        }
        return status
    }

    static func text(_ update: ZoneUpdate, isVerbose: Bool) -> String {
        guard update.isMoved else { return "\(update.zone): up to date (\(update.image))\n" }
        var lines = [
            "\(update.zone): moved from \(short(update.from)) to \(short(update.to)) (\(update.image))"
                + (update.restarted ? ", restarted" : "")
        ]
        let shown = isVerbose ? update.kept[...] : update.kept.prefix(fewPaths)
        for kept in shown { lines.append("zone \(update.zone) \(text(kept))") }
        let rest = update.kept.count - shown.count
        if rest > 0 { lines.append("zone \(update.zone) keeps \(rest) more as its own: --verbose names them") }
        return lines.map { Output.printable($0) + "\n" }.joined()
    }

    private static func text(_ kept: KeptPath) -> String {
        switch (kept.zone, kept.image) {
        case (.deleted, _): "has removed \(kept.path), which the new image has otherwise"
        case (_, .deleted): "keeps its own \(kept.path), which the new image has no more"
        default: "keeps its own \(kept.path)"
        }
    }

    /// As `image ls` shows digests.
    static func short(_ digest: String) -> String { String((digest.after("sha256:") ?? digest).prefix(12)) }
}
