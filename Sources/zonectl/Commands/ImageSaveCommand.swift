// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import ZoneRuntime

/// `zonectl image save NAME…`
enum ImageSaveCommand {
    static let output = Option.value("output", "o", "FILE", "Write to a file instead of stdout")
    static let format = Option.value(
        "format", nil, "docker-archive|oci-archive", "Form of the archive (default: docker-archive, which holds both)")

    static let command = Command(
        names: ["image save", "save"], group: .images, operands: "NAME…", summary: "Write images as one archive",
        details: """
            The archive is an OCI image layout with docker's list of images besides: 'zonectl image load', docker, podman
            and skopeo read it. An oci-archive is the layout alone.
            """,
        examples: """
            zonectl image save -o busybox.tar busybox
            zonectl image save busybox | ssh host zonectl image load
            """,
        options: [output, format], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ImageNames.require(arguments.operands, for: "image save")
        let text = arguments.value(format) ?? "docker-archive"
        guard let format = ArchiveFormat(rawValue: text) else {
            throw ZoneError(.invalid, "--format takes docker-archive or oci-archive, not \"\(text)\"")
        }
        let images = context.folders.images
        guard let path = arguments.value(output), path != "-" else {
            if Terminal.isTerminal(1) {
                throw ZoneError(
                    .invalid, "an archive is nothing for a terminal", hint: "give a file with -o, or pipe it on")
            }
            try asZoneError { () throws(ImageError) in
                try images.save(arguments.operands, as: format, to: StandardStream.output.rawValue)
            }
            return 0
        }
        try asZoneError { () throws(ImageError) in
            // Before a file is made for it.
            for name in arguments.operands { _ = try images.find(name) }
            try NewFile.write(path) { (file) throws(ImageError) in
                try images.save(arguments.operands, as: format, to: file.raw)
            }
        }
        return 0
    }
}

/// A file that is there only when it is whole.
enum NewFile {
    /// Writes beside `path` and renames then; what is no regular file, such as a pipe, is written to as it is.
    static func write(_ path: String, _ body: (borrowing Descriptor) throws(ImageError) -> Void) throws(ImageError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let name = String(parts.last ?? "")
        let folderPath = parts.count > 1 ? parts.dropLast().joined(separator: "/") + "/" : "."
        func attempting<R: ~Copyable>(_ body: () throws(SystemError) -> R) throws(ImageError) -> R {
            do throws(SystemError) { return try body() } catch {
                throw ImageError(.system, "write \(path)", cause: error)
            }
        }
        if let kind = (try? FileStatus.of(path))?.kind, kind != .regular {
            let file = try attempting { () throws(SystemError) in
                try Descriptor.open(path, [.writeOnly, .noControllingTerminal])
            }
            return try body(file)
        }
        let folder = try attempting { () throws(SystemError) in try Descriptor.open(folderPath, [.path, .directory]) }
        let temporary = ".\(name).\(getProcessID())"
        let file = try attempting { () throws(SystemError) in
            try folder.open(temporary, [.writeOnly, .create, .truncate, .noFollow], mode: 0o644, resolve: .beneath)
        }
        do throws(ImageError) {
            try body(file)
            try attempting { () throws(SystemError) in try folder.rename(temporary, to: name) }
        } catch {
            // The first error is the one to tell.
            try? folder.remove(temporary)
            throw error
        }
    }
}
