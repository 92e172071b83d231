// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl image ls`
enum ImageListCommand {
    static let quiet = Option.flag("quiet", "q", "Print names only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["image ls", "image list", "images"], group: .images, operands: "", summary: "List images",
        options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let images = try asZoneError { () throws(ImageError) in try context.folders.images.list() }
        if arguments.flag(json) {
            try Output.json(images.map(ImageView.init))
        } else if arguments.flag(quiet) {
            try Output.write(images.map { $0.name + "\n" }.joined())
        } else {
            // A column that says the same of all images is none.
            let own = images.first.map(\.platform.architecture)
            let hasForeign = images.contains { $0.platform.architecture != own }
            try Output.table(
                ["NAME", "DIGEST", "SIZE"] + (hasForeign ? ["ARCH"] : []) + ["COMMAND"],
                images.map { image in
                    let config = image.configuration.config
                    let command = (config?.entrypoint ?? []) + (config?.cmd ?? [])
                    return [image.name, String(image.digest.hex.prefix(12)), ByteSize.text(image.size)]
                        + (hasForeign ? [image.platform.architecture] : []) + [command.joined(separator: " ")]
                })
        }
        return 0
    }
}

/// `zonectl image import PATH`
enum ImageImportCommand {
    static let name = Option.value("name", nil, "NAME", "Name of the image (default: the layout's, or the file's)")

    static let command = Command(
        names: ["image import"], group: .images, operands: "PATH [COMMAND [ARGUMENT…]]",
        summary: "Take an image from an OCI layout or a root file system's tar",
        details: """
            PATH is a folder or tar in the OCI image layout, or a tar of a root file system, plain or compressed with
            gzip, zstd, bzip2 or xz. COMMAND is what zones of it run unless told otherwise: for a tar of a root file
            system /bin/sh if not given, for a layout what it says itself. --arch says for which machine, where it is
            not this one.
            """,
        examples: """
            zonectl image import --name=debian debian-rootfs.tar.zst /bin/bash
            # From a registry, by way of skopeo
            skopeo copy docker://docker.io/library/busybox oci:busybox:latest
            zonectl image import --name=busybox busybox
            """,
        options: [name, MachineOptions.architecture],
        endsOptionsAtOperand: true
    ) { (arguments, context) throws(ZoneError) in
        guard let path = arguments.operands.first else { throw ZoneError(.invalid, "image import needs a path") }
        let words = Array(arguments.operands.dropFirst())
        // No program's name begins so: it is an option in the wrong place, which would become the image's command.
        if let word = words.first, word.hasPrefix("-") {
            throw ZoneError(
                .invalid, "option \(word) stands behind the path",
                hint: "options come first: zonectl image import \(word) … \(path)")
        }
        let platform = try PullOptions.wantedPlatform(arguments)
        let progress = ImportProgressLine()
        let image = try asZoneError { () throws(ImageError) in
            try context.folders.images.importImage(
                from: path, name: arguments.value(name), command: words.isEmpty ? nil : words, platform: platform,
                progress: progress.show)
        }
        progress.end()
        try Output.write("\(image.name) \(image.digest)\n")
        return 0
    }
}

/// `zonectl image rm NAME…`
enum ImageRemoveCommand {
    static let command = Command(
        names: ["image rm", "rmi"], group: .images, operands: "NAME…", summary: "Remove images", options: []
    ) { (arguments, context) throws(ZoneError) in
        try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try ImageRemoval(context.folders).remove(name)
            try Output.write(name + "\n")
        }.exitCode
    }
}

/// An image as `image ls --json` shows it.
struct ImageView: JSONRecord {
    var name = ""
    var digest = ""
    var size: Int64 = 0
    var created: String?
    var architecture = ""

    init() {}

    init(_ image: Image) {
        name = image.name
        digest = "\(image.digest)"
        size = image.size
        created = image.configuration.created
        architecture = image.configuration.architecture
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("digest", &digest)
        try visitor.required("size", &size)
        try visitor.field("created", &created)
        try visitor.required("architecture", &architecture)
    }
}

/// Runs `body` and turns an error about images into one of ours.
func asZoneError<R>(_ body: () throws(ImageError) -> R) throws(ZoneError) -> R {
    do throws(ImageError) { return try body() } catch { throw ZoneError(error) }
}
