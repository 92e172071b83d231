// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl apply -f FILE`
enum ApplyCommand {
    static let file = Option.list("file", "f", "FILE", "Definitions to read, '-' for standard input")
    static let restarts = Option.flag("restart", nil, "Restart zones that run and cannot change meanwhile")
    static let dryRun = Option.flag("dry-run", nil, "Only tell what would be done")

    static let command = Command(
        names: ["apply"], group: .boot, operands: "",
        summary: "Make zones what their definitions in files say",
        details: """
            A file holds one definition or a list of them, in JSON: {"name": "web", "image": "busybox", "memory": "512M"}.
            'zonectl inspect --as-definition NAME' prints the definition of a zone that there is. A zone that is not there is
            made, one that is stopped is changed for its next start; what a zone has written into its files stays.
            """,
        options: [file, restarts, dryRun] + PullOptions.forRun, entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        let paths = arguments.list(file)
        guard !paths.isEmpty, arguments.operands.isEmpty else {
            throw ZoneError(.invalid, "apply takes its files by -f", hint: "zonectl apply -f web.json")
        }
        // All of them are read before anything is changed.
        var zones: [ZoneDefinition] = []
        for path in paths { zones += try DefinitionFile(path).zones().map(\.definition) }
        let lifecycle = ZoneLifecycle(context.folders, report: Output.report)
        let isDryRun = arguments.flag(dryRun)
        var status: Int32 = 0
        for zone in zones {
            func apply() throws(ZoneError) -> ApplyOutcome {
                try lifecycle.apply(zone, restarts: arguments.flag(restarts), dryRun: isDryRun)
            }
            do throws(ZoneError) {
                let outcome = try isDryRun ? apply() : PullOptions.providing(zone.image, arguments, context, apply)
                try Output.write("\(zone.name): \(text(outcome, isDryRun))\n")
            } catch {
                Output.report(error)
                status = error.exitCode
            }
        }
        return status
    }

    private static func text(_ outcome: ApplyOutcome, _ isDryRun: Bool) -> String {
        switch outcome {
        case .unchanged: "unchanged"
        case .created: isDryRun ? "would be created" : "created"
        case .changed(let members, let restarts):
            (isDryRun ? "would be changed" : "changed") + (restarts ? " and restarted" : "") + ": "
                + members.joined(separator: ", ")
        }
    }
}
