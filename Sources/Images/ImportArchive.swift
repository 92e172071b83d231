// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// A tar archive that an image is imported from: a root file system, or an OCI image layout.
struct ImportArchive: ~Copyable {
    private let file: Descriptor
    let place: String
    let limits: UnpackLimits

    enum Content {
        case rootfs(BlobStream.Compression)
        case layout
        /// As docker wrote archives before version 25.
        case docker
    }

    /// Takes an open regular file.
    init(_ file: consuming Descriptor, place: String, limits: UnpackLimits) {
        self.file = file
        self.place = place
        self.limits = limits
    }

    /// Returns the file, to be read from its beginning.
    func rewound() throws(ImageError) -> Descriptor {
        // A regular file can always be rewound.
        _ = lseek(file.raw, 0, SEEK_SET)
        return try attempting(place) { () throws(SystemError) in try file.duplicate() }
    }

    /// Finds out which it is: by the first members of a root file system, by `oci-layout` for a layout.
    func content() throws(ImageError) -> Content {
        do throws(ImageError) {
            let stream = try BlobStream(try rewound(), limits: limits)
            let archive = try TarReader(stream, limits: limits)
            var members = 0
            var isDockerArchive = false
            while let entry = try archive.next() {
                members += 1
                guard members <= limits.entries else {
                    throw ImageError(.invalid, "more than \(limits.entries) members")
                }
                let path = try LayerPath(entry.path)
                if path.isRoot { continue }
                if path.shown == "oci-layout" { return .layout }
                if path.shown == "manifest.json" { isDockerArchive = true }
                let first = path.shown.prefix { $0 != "/" }
                let isLayoutMember = ["blobs", "index.json", "manifest.json", "repositories"].contains(first)
                // HEX.json, HEX.tar, HEX/layer.tar
                let isOldMember = Digest(hex: String(first.prefix(64))) != nil
                if !isLayoutMember, !isOldMember { return .rootfs(stream.compression) }
            }
            if isDockerArchive { return .docker }
            guard members > 0 else { throw ImageError(.invalid, "an archive without members") }
            return .rootfs(stream.compression)
        } catch {
            throw error.inside(place)
        }
    }

    /// Writes the layout's files below `folder`, each blob verified against its name.
    func extractLayout(into folder: borrowing Descriptor) throws(ImageError) {
        do throws(ImageError) {
            try attempting("write to the store") { () throws(SystemError) in
                try folder.ensureDirectory("blobs")
                try folder.ensureDirectory("blobs/sha256")
            }
            let archive = try TarReader(try BlobStream(try rewound(), limits: limits), limits: limits)
            while let entry = try archive.next() {
                let name = try LayerPath(entry.path).shown
                let prefix = "blobs/sha256/"
                let digest = name.hasPrefix(prefix) ? Digest(hex: String(name.dropFirst(prefix.count))) : nil
                guard digest != nil || name == "oci-layout" || name == "index.json" else { continue }
                guard entry.kind == .regular else { throw ImageError(.invalid, "\(name) is no regular file") }
                try extract(archive, name, digest, folder)
            }
        } catch {
            throw error.inside(place)
        }
    }

    private func extract(
        _ archive: TarReader,
        _ name: String,
        _ digest: Digest?,
        _ folder: borrowing Descriptor
    ) throws(ImageError) {
        let file = try attempting("write to the store") { () throws(SystemError) in
            try folder.open(
                name, [.writeOnly, .create, .truncate, .noFollow], mode: 0o600, resolve: [.beneath, .noSymlinks])
        }
        var hash = SHA256()
        while let (_, bytes) = try archive.nextData() {
            hash.update(bytes)
            try attempting("write to the store") { () throws(SystemError) in try file.writeAll(bytes, name) }
        }
        let found = hash.finish()
        if let digest, found != digest {
            throw ImageError(.invalid, "blob \(digest) is damaged: its content has digest \(found)")
        }
    }
}

extension Descriptor {
    /// Writes all of `bytes` at the current position.
    func writeAll(_ bytes: UnsafeRawBufferPointer, _ subject: @autoclosure () -> String) throws(SystemError) {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = try check(zn_write(raw, base, rest.count), "write", subject())
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}
