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
        let archive = TarWriter(output)
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
        try archive.end()
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

/// Writes a tar archive of regular files, see tar(5), "POSIX ustar Archives".
struct TarWriter {
    private let output: CInt

    init(_ output: CInt) {
        self.output = output
    }

    func add(_ name: String, _ bytes: [UInt8]) throws(ImageError) {
        try write(header(name, Int64(bytes.count)))
        try write(bytes + padding(Int64(bytes.count)))
    }

    /// Adds what is in a file, which must be this long.
    func add(_ name: String, _ file: borrowing Descriptor, size: Int64) throws(ImageError) {
        try write(header(name, size))
        var done: Int64 = 0
        while true {
            let bytes = try attempting("read \(name)") { () throws(SystemError) in try file.read(upTo: 1 << 20) }
            if bytes.isEmpty { break }
            done += Int64(bytes.count)
            try write(bytes)
        }
        guard done == size else {
            throw ImageError(.invalid, "\(name) has \(done) bytes instead of \(size): it is damaged")
        }
        try write(padding(size))
    }

    /// Two blocks of zeros end an archive.
    func end() throws(ImageError) { try write([UInt8](repeating: 0, count: 1024)) }

    private func padding(_ size: Int64) -> [UInt8] { [UInt8](repeating: 0, count: Int((512 - size % 512) % 512)) }

    /// Always the same for the same content: nobody's name, no time.
    private func header(_ name: String, _ size: Int64) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            for (index, byte) in text.utf8.enumerated() { block[offset + index] = byte }
        }
        put(name, at: 0)
        put("0000644", at: 100)
        put("0000000", at: 108)
        put("0000000", at: 116)
        if size < 1 << 33 {
            put(TarWriter.octal(size, 11), at: 124)
        } else {
            // GNU tar's form for more than 8 GiB: the first bit, then the number.
            block[124] = 0x80
            for index in 0..<8 { block[128 + index] = UInt8(truncatingIfNeeded: size >> Int64(56 - 8 * index)) }
        }
        put("00000000000", at: 136)
        put("        ", at: 148)
        put("0", at: 156)
        put("ustar", at: 257)
        put("00", at: 263)
        put(TarWriter.octal(block.reduce(0) { $0 + Int64($1) }, 6) + "\0 ", at: 148)
        return block
    }

    private static func octal(_ number: Int64, _ digits: Int) -> String {
        let text = String(number, radix: 8)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }

    private func write(_ bytes: [UInt8]) throws(ImageError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                buffer.baseAddress.map { zn_write(output, $0 + done, buffer.count - done) } ?? 0
            }
            if count < 0 {
                throw ImageError("write the archive", SystemError("write", "", Errno(rawValue: CInt(-count))))
            }
            done += count
        }
    }
}
