// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import ZoneRuntime

/// `zonectl image load`
enum ImageLoadCommand {
    static let input = Option.value("input", "i", "FILE", "Read a file instead of stdin")

    static let command = Command(
        names: ["image load", "load"], group: .images, operands: "", summary: "Take in all images of an archive",
        details: """
            The archive is one of 'zonectl image save', 'docker save', 'podman save' or an OCI image layout, plain or
            compressed. Each image gets the names that it has there.
            """,
        examples: """
            zonectl image load -i images.tar
            docker save alpine | zonectl image load
            """,
        options: [input]
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        var path = arguments.value(input)
        if path == "-" { path = nil }
        if path == nil, Terminal.isTerminal(0) {
            throw ZoneError(
                .invalid, "image load reads an archive from stdin, which is a terminal", hint: "give a file with -i")
        }
        let progress = ImportProgressLine()
        defer { progress.end() }
        let images = try asZoneError { () throws(ImageError) in
            try context.folders.images.load(from: path, progress: progress.show)
        }
        progress.end()
        try Output.write(images.map { "\($0.name) \($0.digest)\n" }.joined())
        return 0
    }
}
