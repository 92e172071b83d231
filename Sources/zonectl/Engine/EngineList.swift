// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `list` and `ps`.
enum EngineList {
    private static let format = Option.value("format", "f", "table|json", "Form of the output")
    private static let quiet = Option.flag("quiet", "q", "Only ids")

    static let list = EngineVerb(
        name: "list", operands: "", summary: "List all containers", options: [format, quiet]
    ) { (arguments, context) throws(ZoneError) in
        let states = try context.runtime.list()
        if arguments.flag(quiet) {
            try Output.write(states.map { $0.id + "\n" }.joined())
        } else if try isJSON(arguments) {
            try Output.json(states)
        } else {
            try Output.table(
                ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
                states.map { [$0.id, String($0.pid), $0.status, $0.bundle, $0.createdText, $0.owner] })
        }
        return 0
    }

    static let ps = EngineVerb(
        name: "ps", operands: "ID [PS-OPTION…]", summary: "Show the processes of a container", options: [format],
        endsOptionsAtOperand: true
    ) { (arguments, context) throws(ZoneError) in
        guard let id = arguments.operands.first else { throw ZoneError(.invalid, "ps: a container ID is wanted") }
        let pids = try context.runtime.processes(id)
        if try isJSON(arguments) {
            try Output.write("[\(pids.map(String.init).joined(separator: ","))]\n")
            return 0
        }
        let words = Array(arguments.operands.dropFirst())
        try Output.write(try table(words.isEmpty ? ["-ef"] : words, Set(pids)))
        return 0
    }

    private static func isJSON(_ arguments: Arguments) throws(ZoneError) -> Bool {
        switch arguments.value(format) {
        case nil, "table": return false
        case "json": return true
        case .some(let other):
            throw ZoneError(.invalid, "--format \"\(other)\" is not a format", hint: "there is table and json")
        }
    }

    /// The lines of ps(1) that are about these processes, and its header.
    private static func table(_ words: [String], _ pids: Set<Int32>) throws(ZoneError) -> String {
        let outcome: HostProgram.Outcome
        do throws(SystemError) { outcome = try HostProgram("ps", words).run() } catch {
            throw ZoneError("ps", error)
        }
        guard outcome.status == .exited(0) else { throw ZoneError(.invalid, "ps: \(outcome.reason)") }
        let text = String(decoding: outcome.output, as: UTF8.self)
        let lines = text.split(separator: "\n")
        guard let header = lines.first,
            let column = header.split(separator: " ").firstIndex(where: { $0 == "PID" })
        else { throw ZoneError(.invalid, "ps: its output has no column PID", hint: "add pid to the columns") }
        var result = header + "\n"
        for line in lines.dropFirst() {
            let fields = line.split(separator: " ")
            guard fields.count > column, let pid = Int32(fields[column]), pids.contains(pid) else { continue }
            result += line + "\n"
        }
        return String(result)
    }
}
