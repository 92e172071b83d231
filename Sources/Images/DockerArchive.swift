// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// An archive as `docker save` wrote it before docker 25, and podman and skopeo do: `manifest.json`, and layers wherever that
/// says. It becomes an OCI image layout here, by which it goes the same way as all others.
extension ImportArchive {
    /// Makes the layout of an archive that is one, or docker's.
    func stageLayout(_ content: Content, into folder: borrowing Descriptor) throws(ImageError) {
        guard case .docker = content else { return try extractLayout(into: folder) }
        do throws(ImageError) {
            let (list, links) = try dockerList()
            let wanted = Set(list.flatMap { [$0.config] + $0.layers }.map { ImportArchive.resolve($0, links) })
            let blobs = try extractFiles(wanted, into: folder)
            try describe(list, links, blobs, in: folder)
        } catch {
            throw error.inside(place)
        }
    }

    /// Reads `manifest.json`, and the links: a layer that occurs twice is one.
    private func dockerList() throws(ImageError) -> ([DockerArchiveEntry], [String: String]) {
        let archive = try TarReader(try BlobStream(try rewound(), limits: limits), limits: limits)
        var list: [DockerArchiveEntry]?
        var links: [String: String] = [:]
        while let entry = try archive.next() {
            let name = try LayerPath(entry.path).shown
            switch entry.kind {
            case .symlink:
                let folder = name.split(separator: "/").dropLast().joined(separator: "/")
                links[name] = ImportArchive.joined(folder, String(decoding: entry.link, as: UTF8.self))
            case .hardLink: links[name] = ImportArchive.joined("", String(decoding: entry.link, as: UTF8.self))
            case .regular where name == "manifest.json":
                var bytes: [UInt8] = []
                while let (_, part) = try archive.nextData() {
                    bytes += part
                    guard bytes.count <= 16 << 20 else { throw ImageError(.invalid, "manifest.json is too long") }
                }
                do throws(JSONError) { list = try [DockerArchiveEntry](json: try JSON(parsing: bytes)) } catch {
                    throw ImageError(.invalid, "manifest.json: \(error)")
                }
            default: continue
            }
        }
        guard let list, !list.isEmpty else { throw ImageError(.invalid, "manifest.json names no image") }
        guard list.allSatisfy({ $0.layers.count <= limits.layers }) else {
            throw ImageError(.unsupported, "more than \(limits.layers) layers: overlayfs cannot stack so many")
        }
        return (list, links)
    }

    /// Writes the files that are wanted as blobs.
    private func extractFiles(
        _ wanted: Set<String>, into folder: borrowing Descriptor
    ) throws(ImageError) -> [String: BlobDescriptor] {
        try attempting("write to the store") { () throws(SystemError) in
            try folder.ensureDirectory("blobs")
            try folder.ensureDirectory("blobs/sha256")
        }
        var blobs: [String: BlobDescriptor] = [:]
        let archive = try TarReader(try BlobStream(try rewound(), limits: limits), limits: limits)
        while let entry = try archive.next() {
            let name = try LayerPath(entry.path).shown
            guard entry.kind == .regular, wanted.contains(name) else { continue }
            let file = try attempting("write to the store") { () throws(SystemError) in
                try folder.open(
                    "member", [.writeOnly, .create, .truncate, .noFollow], mode: 0o600,
                    resolve: [.beneath, .noSymlinks])
            }
            var hash = SHA256()
            var size: Int64 = 0
            var magic: [UInt8] = []
            while let (_, bytes) = try archive.nextData() {
                hash.update(bytes)
                size += Int64(bytes.count)
                if magic.count < 4 { magic += bytes.prefix(4 - magic.count) }
                try attempting("write to the store") { () throws(SystemError) in try file.writeAll(bytes, name) }
            }
            let digest = hash.finish()
            try attempting("write to the store") { () throws(SystemError) in
                try folder.rename("member", to: "blobs/sha256/\(digest.hex)")
            }
            let type =
                magic.starts(with: [0x1F, 0x8B])
                ? MediaType.layerGzip : magic == [0x28, 0xB5, 0x2F, 0xFD] ? MediaType.layerZstd : MediaType.layerTar
            blobs[name] = BlobDescriptor(mediaType: type, digest: digest, size: size)
        }
        return blobs
    }

    private func describe(
        _ list: [DockerArchiveEntry], _ links: [String: String], _ blobs: [String: BlobDescriptor],
        in folder: borrowing Descriptor
    ) throws(ImageError) {
        func blob(_ path: String) throws(ImageError) -> BlobDescriptor {
            guard let blob = blobs[ImportArchive.resolve(path, links)] else {
                throw ImageError(.invalid, "\(TarEntry.shown(Array(path.utf8))), which manifest.json names, is missing")
            }
            return blob
        }
        var index = ImageIndex()
        for entry in list {
            var manifest = ImageManifest()
            manifest.config = try blob(entry.config)
            manifest.config.mediaType = MediaType.config
            for layer in entry.layers { manifest.layers.append(try blob(layer)) }
            let bytes = manifest.serialized()
            var descriptor = BlobDescriptor(
                mediaType: MediaType.manifest, digest: SHA256.digest(of: bytes), size: Int64(bytes.count))
            try write(bytes, "blobs/sha256/\(descriptor.digest.hex)", in: folder)
            if entry.tags.isEmpty { index.manifests.append(descriptor) }
            for tag in entry.tags {
                descriptor.annotations[MediaType.referenceName] = try ImageReference.normalized(tag)
                index.manifests.append(descriptor)
            }
        }
        try write(index.serialized(), "index.json", in: folder)
        try write(Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8), "oci-layout", in: folder)
    }

    private func write(_ bytes: [UInt8], _ name: String, in folder: borrowing Descriptor) throws(ImageError) {
        try attempting("write to the store") { () throws(SystemError) in
            let file = try folder.open(
                name, [.writeOnly, .create, .truncate, .noFollow], mode: 0o600, resolve: [.beneath, .noSymlinks])
            try file.writeAll(bytes, name)
        }
    }

    /// Follows links inside the archive; what leads nowhere stays as it is, and is missing then.
    private static func resolve(_ path: String, _ links: [String: String]) -> String {
        var path = joined("", path)
        for _ in 0..<8 {
            guard let next = links[path] else { break }
            path = next
        }
        return path
    }

    /// A path without `.` and `..`.
    private static func joined(_ folder: String, _ path: String) -> String {
        var parts = folder.split(separator: "/")
        for part in path.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return parts.joined(separator: "/")
    }
}
