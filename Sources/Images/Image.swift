// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// An image in the store.
public struct Image: Sendable {
    /// As listed: `busybox:latest`; the digest, where another image has taken the name over.
    public let name: String
    /// The manifest's digest.
    public let digest: Digest
    public let configuration: ImageConfiguration
    /// Bytes of all blobs together, compressed as they came.
    public let size: Int64
    /// RFC 3339, where the image says it.
    public var created: String? { configuration.created }

    /// Stands for no image: of a zone that boots what is on its own disk.
    public static func none(_ name: String) -> Image { Image(none: name) }

    private init(none name: String) {
        self.name = name
        digest = SHA256.digest(of: [])
        manifest = ImageManifest()
        configuration = ImageConfiguration()
        size = 0
    }

    /// What machine it is for.
    public var platform: Platform {
        var platform = Platform(architecture: configuration.architecture, os: configuration.os)
        platform.variant = configuration.variant
        return platform
    }

    /// What the list of images looked like when it was found there.
    var listed: FileStatus?

    /// A layer: its blob, and its digest when decompressed.
    public var layers: [(blob: BlobDescriptor, content: Digest)] {
        Array(zip(manifest.layers, configuration.rootfs.diffIDs)).map { (blob: $0, content: $1) }
    }

    let manifest: ImageManifest

    init(name: String?, digest: Digest, manifest: ImageManifest, configuration: ImageConfiguration) throws(ImageError) {
        guard manifest.layers.count == configuration.rootfs.diffIDs.count else {
            throw ImageError(
                .invalid,
                "\(manifest.layers.count) layers, but \(configuration.rootfs.diffIDs.count) diff ids in the configuration"
            )
        }
        guard !manifest.layers.isEmpty else { throw ImageError(.invalid, "an image without layers cannot be run") }
        var size = manifest.config.size
        guard size >= 0 else { throw ImageError(.invalid, "configuration \(manifest.config.digest) has size \(size)") }
        for layer in manifest.layers {
            let (sum, overflow) = size.addingReportingOverflow(layer.size)
            guard layer.size >= 0, !overflow else {
                throw ImageError(.invalid, "layer \(layer.digest) has size \(layer.size)")
            }
            size = sum
        }
        self.name = name ?? digest.description
        self.digest = digest
        self.manifest = manifest
        self.configuration = configuration
        self.size = size
    }

    /// The names of the unpacked layers' directories, base first: each layer's id together with all below it, OCI image
    /// specification "config.md", "Layer ChainID".
    var chainIDs: [Digest] {
        var chain: [Digest] = []
        for layer in configuration.rootfs.diffIDs {
            guard let below = chain.last else {
                chain.append(layer)
                continue
            }
            chain.append(SHA256.digest(of: Array("\(below) \(layer)".utf8)))
        }
        return chain
    }

    /// The platform that images must be for.
    public static let machine: Platform = {
        #if arch(x86_64)
        Platform(architecture: "amd64", os: "linux")
        #elseif arch(arm64)
        Platform(architecture: "arm64", os: "linux")
        #elseif arch(riscv64)
        Platform(architecture: "riscv64", os: "linux")
        #else
        #error("name this architecture as GOARCH does")
        #endif
    }()
}

/// How far an import has come.
public struct ImportProgress: Sendable, Equatable {
    public enum Step: Sendable {
        case copying
        case unpacking
    }

    public let step: Step
    /// Which layer, from 1, of how many; of those that are unpacked at a time, the topmost.
    public let layer: Int
    public let layers: Int
    /// Bytes of blobs that are done, and all: of this layer's when copying, of all missing ones when unpacking.
    public let bytes: Int64
    public let total: Int64
}

/// What one layer may make of this machine. A compressed layer of a few kilobytes could otherwise fill any disk, and a
/// tar header any memory.
struct UnpackLimits: Sendable {
    /// Files, directories, links and nodes.
    var entries = 4_000_000
    /// Uncompressed bytes of a layer, whatever its size.
    var bytes: Int64 = 256 << 30
    /// Uncompressed bytes for each compressed one, beyond `slack`. Layers of text reach 10, gzip's limit is 1032.
    var ratio: Int64 = 256
    var slack: Int64 = 4 << 30
    /// Size of one file, holes included.
    var fileSize: Int64 = 1 << 40
    /// Bytes of tar headers for one entry.
    var header = 16 << 20
    /// Layers of an image; overlayfs takes 500.
    var layers = 400
}
