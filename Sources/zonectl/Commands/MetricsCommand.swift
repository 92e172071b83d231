// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl metrics`
enum MetricsCommand {
    static let output = Option.value("output", "o", "FILE", "Replace a file, for node_exporter's textfile collector")

    static let command = Command(
        names: ["metrics"], group: .look, operands: "", summary: "Print what zones use for Prometheus",
        details: "The format is Prometheus' text format, version 0.0.4. FILE is replaced in one step.",
        options: [output], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let text = try ZoneMetrics(context.folders).text()
        guard let path = arguments.value(output) else {
            try Output.write(text)
            return 0
        }
        do throws(SystemError) { try replace(path, text) } catch {
            throw ZoneError("write the metrics to \(path)", error)
        }
        return 0
    }

    private static func replace(_ path: String, _ text: String) throws(SystemError) {
        let bytes = Array(path.utf8)
        let slash = bytes.lastIndex(of: UInt8(ascii: "/"))
        let name = String(decoding: slash.map { bytes[($0 + 1)...] } ?? bytes[...], as: UTF8.self)
        let folder = slash.map { String(decoding: bytes[...$0], as: UTF8.self) } ?? "."
        if name.isEmpty || name == "." || name == ".." { throw SystemError("write", path, .isDirectory) }
        // Readable for all, as node_exporter has a user of its own.
        try Descriptor.open(folder, [.path, .directory]).replaceFile(name, Array(text.utf8), mode: 0o644)
    }
}
