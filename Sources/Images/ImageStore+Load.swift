// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

extension ImageStore {
    /// Takes in all images of an archive, with all their names: docker's own, an OCI image layout's, plain or compressed.
    /// `nil` reads stdin. A failed load leaves nothing.
    public func load(from path: String?, progress: (ImportProgress) -> Void) throws(ImageError) -> [Image] {
        let place = path ?? "stdin"
        let source = try openArchive(path)
        let kind = try attempting(place) { () throws(SystemError) in try source.stat().kind }
        guard kind == .regular else { throw ImageError(.invalid, "\(place): not a regular file") }
        let archive = ImportArchive(source, place: place, limits: limits)
        let content = try archive.content()
        if case .rootfs = content {
            throw ImageError(
                .invalid, "\(place): not an archive of images", hint: "a root file system's: zonectl image import FILE")
        }
        let fallback = ImageStore.baseName(path ?? "image")
        return try change { (transaction) throws(ImageError) in
            try archive.stageLayout(content, into: try transaction.stageFolder("layout"))
            let layout = try LayoutSource(try transaction.stageFolder("layout"), place: place)
            var images: [Image] = []
            for name in try layout.names(fallback: fallback) {
                let choice = try layout.choose(name, fallback: fallback, orAny: true)
                if name != nil {
                    images.append(try transaction.importImage(choice, of: layout, staged: "layout", progress))
                    continue
                }
                // As docker: what has no name in the archive gets none here.
                let image = choice.image
                try transaction.take(choice, of: layout, staged: "layout", progress)
                try transaction.record(choice.descriptor, name: nil, platform: image.platform)
                images.append(
                    try Image(
                        name: nil, digest: image.digest, manifest: image.manifest, configuration: image.configuration))
            }
            return images
        }
    }

    func openArchive(_ path: String?) throws(ImageError) -> Descriptor {
        guard let path else { return try spoolInput() }
        return try ImageStore.openSource(path)
    }

    /// Everything from stdin in a file without a name: an archive is read twice.
    private func spoolInput() throws(ImageError) -> Descriptor {
        let file = try spoolFile("stdin")
        try attempting("read stdin") { () throws(SystemError) in
            let input = Descriptor(owning: try check(zn_fcntl(0, F_DUPFD_CLOEXEC, 3), "duplicate descriptor", "0"))
            while true {
                let bytes = try input.read(upTo: 1 << 20)
                if bytes.isEmpty { break }
                try file.writeAll(bytes, "copy of stdin")
            }
        }
        file.rewind()
        return file
    }
}
