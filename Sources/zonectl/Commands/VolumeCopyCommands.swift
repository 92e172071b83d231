// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import ZoneRuntime

/// `zonectl volume clone VOLUME [NEW]`
enum VolumeCloneCommand {
    static let command = Command(
        names: ["volume clone"], group: .volumes, operands: "VOLUME [NEW]",
        summary: "Make a volume that begins as another one is",
        details: """
            Zones that run with it are frozen meanwhile: for a moment where the store's file system can share blocks (btrfs,
            xfs), else for as long as the copy takes. The new volume's name is printed; it is made up if not given.
            """,
        examples: """
            zonectl volume clone data data-test
            # What a snapshot has kept, to change
            zonectl volume clone data-snap1 data-restored
            """,
        options: [VolumeCreateCommand.label]
    ) { (arguments, context) throws(ZoneError) in
        let (name, new) = try words(arguments, "volume clone")
        let made = try VolumeCopies(context.folders).clone(name, to: new, labels: try RunCommand.labels(arguments))
        try Output.write(made + "\n")
        return 0
    }

    /// A volume, and the name of a new one if that is wanted.
    static func words(_ arguments: Arguments, _ verb: String) throws(ZoneError) -> (String, String?) {
        guard let name = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(
                .invalid, "\(verb) takes a volume, and the name of the new one if that is wanted",
                hint: "zonectl \(verb) data data-2")
        }
        return (name, arguments.operands.dropFirst().first)
    }
}

/// `zonectl volume snapshot VOLUME [NEW]`
enum VolumeSnapshotCommand {
    static let command = Command(
        names: ["volume snapshot"], group: .volumes, operands: "VOLUME [NEW]",
        summary: "Keep a volume's files as they are now",
        details: """
            A snapshot is a volume that zones can only read; 'zonectl volume clone' makes one of it that they can write to.
            It stays when the volume is removed. Zones that run with the volume are frozen meanwhile. The snapshot's name
            is printed; it is VOLUME-snap1 and so on if not given.
            """,
        examples: """
            zonectl volume snapshot data before-upgrade
            zonectl run --rm -v before-upgrade:/old:ro busybox ls /old
            """,
        options: []
    ) { (arguments, context) throws(ZoneError) in
        let (name, new) = try VolumeCloneCommand.words(arguments, "volume snapshot")
        try Output.write(try VolumeCopies(context.folders).snapshot(name, name: new) + "\n")
        return 0
    }
}

/// `zonectl volume export VOLUME`
enum VolumeExportCommand {
    static let output = Option.value("output", "o", "FILE", "Write to a file instead of stdout")
    static let quiet = Option.flag("quiet", "q", "Do not tell what was left out")

    static let command = Command(
        names: ["volume export"], group: .volumes, operands: "VOLUME", summary: "Write a volume as a tar archive",
        details: """
            Zones go on meanwhile: of a volume that they write to, export a snapshot. A FILE is there only when it is whole.
            """,
        examples: """
            zonectl volume export -o data.tar data
            zonectl volume export data | ssh host zonectl volume import - data
            """,
        options: [output, quiet]
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1 else {
            throw ZoneError(
                .invalid, "volume export takes the name of one volume", hint: "'zonectl volume ls' lists all volumes")
        }
        let isQuiet = arguments.flag(quiet)
        let report = { (line: String) in if !isQuiet { Output.report(line) } }
        let copies = VolumeCopies(context.folders)
        guard let path = arguments.value(output), path != "-" else {
            if Terminal.isTerminal(1) {
                throw ZoneError(
                    .invalid, "an archive is nothing for a terminal", hint: "give a file with -o, or pipe it on")
            }
            try copies.export(name, to: StandardStream.output.rawValue, report: report)
            return 0
        }
        // Before a file is made for it.
        _ = try VolumeStore(context.folders).find(name)
        try NewFile.writeForZones(path) { (file) throws(ZoneError) in
            try copies.export(name, to: file.raw, report: report)
        }
        return 0
    }
}

/// `zonectl volume import FILE [VOLUME]`
enum VolumeImportCommand {
    static let command = Command(
        names: ["volume import"], group: .volumes, operands: "FILE [VOLUME]",
        summary: "Make a volume of a tar archive",
        details: """
            FILE is an archive, plain or compressed with gzip, zstd, bzip2 or xz; a lone - stands for stdin. The volume is
            called like the file unless told otherwise. It is there only when the archive was read to its end.
            """,
        examples: "zonectl volume import data.tar data-2", options: [VolumeCreateCommand.label]
    ) { (arguments, context) throws(ZoneError) in
        guard let path = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(
                .invalid, "volume import takes a file, and the name of the new volume if that is wanted",
                hint: "zonectl volume import data.tar data")
        }
        guard let name = arguments.operands.dropFirst().first ?? called(path) else {
            throw ZoneError(
                .invalid, "volume import: \"\(path)\" says no name for the volume",
                hint: "give one: zonectl volume import \(path) data")
        }
        let labels = try RunCommand.labels(arguments)
        let copies = VolumeCopies(context.folders)
        if path == "-" {
            if Terminal.isTerminal(0) {
                throw ZoneError(.invalid, "volume import reads an archive from stdin, which is a terminal")
            }
            try Output.write(try copies.import(0, as: name, labels: labels) + "\n")
            return 0
        }
        let file = try open(path)
        try Output.write(try copies.import(file.raw, as: name, labels: labels) + "\n")
        return 0
    }

    private static func open(_ path: String) throws(ZoneError) -> Descriptor {
        do throws(SystemError) {
            let file = try Descriptor.open(path, [.readOnly, .noControllingTerminal])
            if try file.stat().kind == .directory { throw SystemError("read", path, .isDirectory) }
            return file
        } catch {
            throw ZoneError("volume import", error)
        }
    }

    /// A file's name without its folder and its endings.
    static func called(_ path: String) -> String? {
        guard path != "-", let last = path.pathComponents.last else { return nil }
        for end in [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"] {
            if last.hasSuffix(end) { return String(last.dropLast(end.utf8.count)) }
        }
        return last
    }
}

extension NewFile {
    /// The same for what fails with an error of zones.
    static func writeForZones(
        _ path: String, _ body: (borrowing Descriptor) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        var failure: ZoneError?
        do throws(ImageError) {
            try write(path) { (file) throws(ImageError) in
                do throws(ZoneError) { try body(file) } catch {
                    failure = error
                    throw ImageError(.system, error.detail)
                }
            }
        } catch {
            throw failure ?? ZoneError(error)
        }
    }
}
