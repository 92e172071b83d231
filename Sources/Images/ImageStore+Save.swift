// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Forms of an archive of images.
public enum ArchiveFormat: String, Sendable, CaseIterable {
    /// An OCI image layout with docker's own list of what is in it besides, as docker itself writes it: for everybody.
    case docker = "docker-archive"
    /// An OCI image layout alone.
    case oci = "oci-archive"
}

extension ImageStore {
    /// Writes images as one archive. `output` is a descriptor that stays the caller's.
    public func save(_ references: [String], as format: ArchiveFormat, to output: CInt) throws(ImageError) {
        var index = ImageIndex()
        var list: [DockerArchiveEntry] = []
        var blobs: [BlobDescriptor] = []
        for reference in references {
            let image = try find(reference)
            let size = Int64(try manifestBytes(image.digest).count)
            var descriptor = BlobDescriptor(
                mediaType: image.manifest.mediaType ?? MediaType.manifest, digest: image.digest, size: size)
            for blob in image.manifest.layers + [image.manifest.config, descriptor]
            where !blobs.contains(where: { $0.digest == blob.digest }) {
                blobs.append(blob)
            }
            let isNamed = image.name != image.digest.description
            descriptor.platform = image.platform
            if isNamed {
                descriptor.annotations[MediaType.referenceName] = image.name
                descriptor.annotations[MediaType.containerdName] = try RegistryName(image.name).description
            }
            if index.manifests.contains(descriptor) { continue }
            index.manifests.append(descriptor)
            list.append(
                DockerArchiveEntry(
                    config: image.manifest.config.archivePath, tags: isNamed ? [image.name] : [],
                    layers: image.manifest.layers.map(\.archivePath)))
        }
        let archive = try TarWriter(to: output)
        try archive.add("oci-layout", Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8))
        for blob in blobs {
            let file = try attempting("read the image") { () throws(SystemError) in
                try Descriptor.open(blobPath(blob.digest), [.readOnly, .noFollow])
            }
            try archive.add(blob.archivePath, file, size: blob.size)
        }
        try archive.add("index.json", index.serialized())
        if format == .docker {
            var writer = JSONWriter(pretty: false)
            list.write(to: &writer)
            try archive.add("manifest.json", writer.bytes)
        }
        _ = try archive.finish()
    }
}

extension BlobDescriptor {
    fileprivate var archivePath: String { "blobs/sha256/\(digest.hex)" }
}

extension MediaType {
    /// The annotation by which docker and containerd find an image's whole name.
    static let containerdName = "io.containerd.image.name"
}

/// An image in the `manifest.json` of docker's archives.
struct DockerArchiveEntry: JSONRecord {
    var config = ""
    var tags: [String] = []
    var layers: [String] = []

    init() {}

    init(config: String, tags: [String], layers: [String]) {
        self.config = config
        self.tags = tags
        self.layers = layers
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("Config", &config)
        try visitor.field("RepoTags", &tags)
        try visitor.required("Layers", &layers)
    }
}

/// Members of an archive that is always the same for the same content: nobody's name, no time.
extension TarWriter {
    private static let plain = FileAttributes(mode: 0o644, uid: 0, gid: 0, seconds: 0, nanoseconds: 0, extended: [])

    func add(_ name: String, _ bytes: [UInt8]) throws(ImageError) {
        try begin(Array(name.utf8), .regular, TarWriter.plain, size: Int64(bytes.count))
        try add(bytes)
    }

    /// Adds what is in a file, which must be this long.
    func add(_ name: String, _ file: borrowing Descriptor, size: Int64) throws(ImageError) {
        try begin(Array(name.utf8), .regular, TarWriter.plain, size: size)
        var done: Int64 = 0
        while true {
            let bytes = try attempting("read \(name)") { () throws(SystemError) in try file.read(upTo: 1 << 20) }
            if bytes.isEmpty { break }
            done += Int64(bytes.count)
            if done <= size { try add(bytes) }
        }
        guard done == size else {
            throw ImageError(.invalid, "\(name) has \(done) bytes instead of \(size): it is damaged")
        }
    }

    private func add(_ bytes: [UInt8]) throws(ImageError) {
        // A throwing closure of the standard library's does not say what it throws.
        let failure = bytes.withUnsafeBytes { buffer -> ImageError? in
            do throws(ImageError) { try write(buffer) } catch { return error }
            return nil
        }
        if let failure { throw failure }
    }
}
