// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation

@testable import Images
@testable import OCI

/// Writes OCI image layouts, good and bad ones.
final class LayoutFixture {
    let folder: TemporaryFolder
    let path: String
    private var manifests: [BlobDescriptor] = []

    init(_ name: String = "layout") throws {
        folder = try TemporaryFolder()
        path = folder.path(name)
        try put("oci-layout", Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8))
    }

    func put(_ name: String, _ bytes: [UInt8]) throws {
        try FileManager.default.createDirectory(atPath: path + "/blobs/sha256", withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    func blob(_ bytes: [UInt8], _ mediaType: String) throws -> BlobDescriptor {
        let digest = SHA256.digest(of: bytes)
        try put("blobs/sha256/\(digest.hex)", bytes)
        return BlobDescriptor(mediaType: mediaType, digest: digest, size: Int64(bytes.count))
    }

    func blobPath(_ digest: Digest) -> String { "\(path)/blobs/sha256/\(digest.hex)" }

    /// Adds an image; `layers` are tar archives, base first.
    @discardableResult
    func image(
        _ name: String?,
        _ layers: [[UInt8]],
        gzip: Bool = false,
        diffIDs: [Digest]? = nil,
        architecture: String = Image.machine.architecture,
        change: (inout ImageManifest, inout ImageConfiguration) throws -> Void = { _, _ in }
    ) throws -> BlobDescriptor {
        var manifest = ImageManifest()
        var configuration = ImageConfiguration()
        configuration.architecture = architecture
        configuration.os = "linux"
        configuration.config = .init()
        configuration.config?.cmd = ["sh"]
        for layer in layers {
            let bytes = gzip ? try TarFixture.filtered(layer, "gzip") : layer
            manifest.layers.append(try blob(bytes, gzip ? MediaType.layerGzip : MediaType.layerTar))
        }
        configuration.rootfs.diffIDs = diffIDs ?? layers.map { SHA256.digest(of: $0) }
        manifest.config = BlobDescriptor(mediaType: MediaType.config, digest: SHA256.digest(of: []), size: 0)
        try change(&manifest, &configuration)
        if manifest.config.size == 0 { manifest.config = try blob(configuration.serialized(), MediaType.config) }
        var descriptor = try blob(manifest.serialized(), MediaType.manifest)
        descriptor.platform = Platform(architecture: architecture, os: "linux")
        if let name { descriptor.annotations[MediaType.referenceName] = name }
        manifests.append(descriptor)
        try writeIndex(manifests)
        return descriptor
    }

    func writeIndex(_ manifests: [BlobDescriptor]) throws {
        var index = ImageIndex()
        index.manifests = manifests
        try put("index.json", index.serialized())
    }

    /// Packs the layout as other tools do.
    func archive() throws -> String {
        let target = folder.path("archive.tar")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["tar", "-C", path, "-cf", target, "."]
        try process.run()
        process.waitUntilExit()
        return target
    }
}

/// A store in a folder of the test's own.
struct StoreFixture {
    let folder: TemporaryFolder
    var store: ImageStore

    init(folder: TemporaryFolder) {
        self.folder = folder
        store = ImageStore(path: folder.path("store"))
    }

    init() throws {
        folder = try TemporaryFolder()
        store = ImageStore(path: folder.path("store"))
    }

    func importImage(_ path: String, name: String? = nil, command: [String]? = nil) throws(ImageError) -> Image {
        try store.importImage(from: path, name: name, command: command) { _ in }
    }

    /// Imports the archive of a root file system.
    func importRootfs(_ tar: [UInt8], name: String = "test") throws -> Image {
        try folder.write("rootfs.tar", tar)
        return try importImage(folder.path("rootfs.tar"), name: name)
    }

    /// Why an import fails; `nil` where it does not.
    func refusal(_ tar: [UInt8]) throws -> ImageError? {
        try folder.write("rootfs.tar", tar)
        return refusal(of: folder.path("rootfs.tar"))
    }

    func refusal(of path: String, name: String? = "test") -> ImageError? {
        do throws(ImageError) {
            _ = try importImage(path, name: name)
            return nil
        } catch {
            return error
        }
    }

    /// The unpacked layer's directory, topmost layer unless another is asked for.
    func layer(_ image: Image, _ number: Int = 0) throws -> String { try store.layers(of: image)[number] }

    /// Whether the store holds nothing: neither blobs nor layers nor anything unfinished.
    var isEmpty: Bool {
        let left = folder.tree("store").filter {
            ![
                "images", "layers", "images/.lock", "images/oci-layout", "images/index.json", "images/blobs",
                "images/blobs/sha256",
            ].contains($0)
        }
        return left.isEmpty
    }
}

let isRoot = getuid() == 0
