// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl export ZONE`
enum ExportCommand {
    static let output = Option.value("output", "o", "FILE", "Write to a file instead of stdout")
    static let quiet = Option.flag("quiet", "q", "Do not tell what is not in the archive")

    static let command = Command(
        names: ["export"], group: .keep, operands: "ZONE",
        summary: "Write a zone with its settings and snapshots as one archive",
        details: """
            The archive is an OCI image layout, in which the zone's image is as well: 'zonectl import' makes the zone of it, on
            any machine. A zone that runs is frozen while its own changes are read. Volumes and what else is mounted into the
            zone are not part of it. A FILE is there only when it is whole. For a zone's files alone:
            zonectl cp ZONE:/ - > files.tar
            """,
        examples: """
            zonectl export -o web.tar web
            zonectl export web | ssh host zonectl import -
            """,
        options: [output, quiet]
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "export takes the name of one zone", hint: "'zonectl ls' lists all zones")
        }
        let isQuiet = arguments.flag(quiet)
        let report = { (line: String) in if !isQuiet { Output.report(line) } }
        let archive = ZoneArchive(context.folders)
        guard let path = arguments.value(output), path != "-" else {
            if Terminal.isTerminal(1) {
                throw ZoneError(
                    .invalid, "an archive is nothing for a terminal", hint: "give a file with -o, or pipe it on")
            }
            try archive.export(name, to: StandardStream.output.rawValue, report: report)
            return 0
        }
        // Before a file is made for it.
        _ = try context.store.find(name)
        try NewFile.writeForZones(path) { (file) throws(ZoneError) in
            try archive.export(name, to: file.raw, report: report)
        }
        return 0
    }
}

/// `zonectl import FILE [NEW]`
enum ImportCommand {
    static let command = Command(
        names: ["import"], group: .keep, operands: "FILE [NEW]",
        summary: "Make a zone of an archive of 'zonectl export'",
        details: """
            A lone - stands for stdin. The zone has the name that it had unless NEW is given; it is stopped, and its settings
            are what they were: 'zonectl inspect' shows what it gets of the host's. Its image comes into the store if it is not
            there. An archive that was cut short or altered is refused, and leaves nothing. Archives of images are for
            'zonectl image load', root file systems for 'zonectl image import'.
            """,
        examples: "zonectl import web.tar web-2", options: []
    ) { (arguments, context) throws(ZoneError) in
        guard let path = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(
                .invalid, "import takes a file, and a name for the zone if another is wanted",
                hint: "zonectl import web.tar web-2")
        }
        if path == "-", Terminal.isTerminal(0) {
            throw ZoneError(.invalid, "import reads an archive from stdin, which is a terminal")
        }
        let progress = ImportProgressLine()
        defer { progress.end() }
        let name = try ZoneArchive(context.folders).import(
            from: path == "-" ? nil : path, as: arguments.operands.dropFirst().first, progress: progress.show)
        progress.end()
        try Output.write(name + "\n")
        return 0
    }
}
