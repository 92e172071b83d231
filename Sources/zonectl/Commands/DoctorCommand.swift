// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl doctor`
enum DoctorCommand {
    static let quiet = Option.flag("quiet", "q", "Print warnings and problems only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["doctor"], group: .other, operands: "", summary: "Look for what zones need and this host lacks",
        details: """
            Each check says what was found, and for a warning or a problem what does not work because of it and what to do.
            A warning is about something that need not matter to you; with a problem zones do not work, or not safely.
            Nothing is changed. Ordinary users are told what concerns their own zones.

            With --json: an object with schema (1), uid, problems, warnings (numbers) and findings, a list of objects with
            check (such as kernel.version; these names stay), verdict (ok, warning, problem, skipped), found, and for
            warnings and problems affects and fix.
            """,
        examples: """
            zonectl doctor
            # For scripts: the problems
            zonectl doctor --json | jq -r '.findings[] | select(.verdict == "problem") | .fix'
            """,
        statuses: "1\tA problem was found.", options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let report = DoctorReport(of: context.folders)
        if arguments.flag(json) {
            try Output.write(report.serialized(pretty: true))
        } else {
            try Output.write(text(report, quiet: arguments.flag(quiet)))
        }
        return report.problems > 0 ? 1 : 0
    }

    static func text(_ report: DoctorReport, quiet: Bool) -> String {
        let shown = report.findings.filter { !quiet || $0.verdict == .warning || $0.verdict == .problem }
        let width = shown.map(\.check.count).max() ?? 0
        let indent = String(repeating: " ", count: width + 12)
        var text = ""
        for finding in shown {
            let verdict = finding.verdict.rawValue
            let space = String(repeating: " ", count: 10 - verdict.count)
            let rest = String(repeating: " ", count: width - finding.check.count + 2)
            text += "\(verdict)\(space)\(finding.check)\(rest)\(Output.printable(finding.found))\n"
            if let affects = finding.affects { text += "\(indent)affects: \(Output.printable(affects))\n" }
            if let fix = finding.fix { text += "\(indent)fix: \(Output.printable(fix))\n" }
        }
        if !quiet || !shown.isEmpty { text += "\n" }
        return text + "\(counted(report.problems, "problem")), \(counted(report.warnings, "warning"))\n"
    }

    private static func counted(_ count: Int64, _ word: String) -> String {
        "\(count == 0 ? "no" : String(count)) \(word)\(count == 1 ? "" : "s")"
    }
}
