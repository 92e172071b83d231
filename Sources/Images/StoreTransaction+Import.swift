// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

extension StoreTransaction {
    /// Imports an image of a layout. `staged` is the staging folder that holds it already, verified, if one does.
    mutating func importImage(
        _ choice: LayoutSource.Choice,
        of layout: borrowing LayoutSource,
        staged: String? = nil,
        _ progress: (ImportProgress) -> Void
    ) throws(ImageError) -> Image {
        try take(choice, of: layout, staged: staged, progress)
        try record(choice.descriptor, name: choice.image.name, platform: choice.image.platform)
        return choice.image
    }

    /// Takes over what an image is made of. `linkable` is a folder of the layout's blobs on the same file system that nobody
    /// else writes to any more: they need not be copied.
    func take(
        _ choice: LayoutSource.Choice,
        of layout: borrowing LayoutSource,
        staged: String? = nil,
        linkable: String? = nil,
        _ progress: (ImportProgress) -> Void
    ) throws(ImageError) {
        let manifest = choice.image.manifest
        let chain = choice.image.chainIDs
        let count = manifest.layers.count
        for (number, layer) in manifest.layers.enumerated() where !hasBlob(layer) {
            // A layer that is yet to be unpacked is verified then.
            if let linkable, !hasLayer(chain[number]), link("\(linkable)/\(layer.digest.hex)", as: layer.digest) {
                continue
            }
            try copy(layer, from: layout, staged: staged) { done in
                progress(.init(step: .copying, layer: number + 1, layers: count, bytes: done, total: layer.size))
            }
        }
        for document in [manifest.config, choice.descriptor] {
            _ = try add(try layout.bytes(document), mediaType: document.mediaType)
        }
        try unpackLayers(of: choice.image, progress: progress)
    }

    /// Gives a blob of a layout a name among ours; `false` where that takes a copy.
    private func link(_ file: String, as digest: Digest) -> Bool {
        let target = "blobs/sha256/\(digest.hex)"
        return zn_linkat(AT_FDCWD, file, images.raw, target, 0) >= 0
    }

    private func copy(
        _ blob: BlobDescriptor,
        from layout: borrowing LayoutSource,
        staged: String?,
        _ progress: (Int64) -> Void
    ) throws(ImageError) {
        let source = try layout.open(blob)
        if let staged {
            return try adopt("\(staged)/blobs/sha256/\(blob.digest.hex)", as: blob.digest)
        }
        let target = try stage("blob")
        var hash = SHA256()
        let size = try StoreTransaction.copy(source, to: target, progress) { hash.update($0) }
        let digest = hash.finish()
        guard digest == blob.digest, size == blob.size else {
            throw ImageError(.invalid, "blob \(blob.digest) is damaged: its \(size) bytes have digest \(digest)")
        }
        try adopt("blob", as: digest)
    }

    /// Makes an image of one layer out of a root file system's archive.
    mutating func importRootfs(
        _ source: consuming Descriptor,
        _ compression: BlobStream.Compression,
        name: String,
        command: [String],
        platform: Platform,
        _ progress: (ImportProgress) -> Void
    ) throws(ImageError) -> Image {
        let total = try attempting("read") { () throws(SystemError) in try source.stat().size }
        func report(_ step: ImportProgress.Step, _ done: Int64) {
            progress(.init(step: step, layer: 1, layers: 1, bytes: done, total: total))
        }
        let mediaType =
            switch compression {
            case .gzip: MediaType.layerGzip
            case .zstd: MediaType.layerZstd
            case .none, .other: MediaType.layerTar
            }
        let target = try stage("rootfs")
        if compression == .other {
            // The image specification knows no bzip2 and no xz.
            let stream = try BlobStream(source, limits: store.limits)
            while let bytes = try stream.next() {
                try attempting("write to the store") { () throws(SystemError) in try target.writeAll(bytes, "blob") }
                report(.copying, stream.blobSize)
            }
        } else {
            _ = try StoreTransaction.copy(source, to: target, { report(.copying, $0) }, { _ in })
        }

        let staged = "\(store.path)/images/\(StoreTransaction.staging)/rootfs"
        let totals = try unpack(staged, as: "rootfs", isLowest: true, below: { LowerLayers([]) }) {
            report(.unpacking, $0)
        }
        if !hasLayer(totals.content) { try publish([("rootfs", totals.content)]) }
        try adopt("rootfs", as: totals.blob)

        var configuration = ImageConfiguration()
        configuration.architecture = platform.architecture
        configuration.os = platform.os
        configuration.variant = platform.variant
        configuration.config = ImageConfiguration.Execution()
        configuration.config?.cmd = command
        configuration.rootfs.diffIDs = [totals.content]
        var manifest = ImageManifest()
        manifest.config = try add(configuration.serialized(), mediaType: MediaType.config)
        manifest.layers = [BlobDescriptor(mediaType: mediaType, digest: totals.blob, size: totals.blobSize)]
        let descriptor = try add(manifest.serialized(), mediaType: MediaType.manifest)
        let image = try Image(name: name, digest: descriptor.digest, manifest: manifest, configuration: configuration)
        try record(descriptor, name: name, platform: platform)
        return image
    }

    private static func copy(
        _ source: borrowing Descriptor,
        to target: borrowing Descriptor,
        _ progress: (Int64) -> Void,
        _ look: (UnsafeRawBufferPointer) -> Void
    ) throws(ImageError) -> Int64 {
        var size: Int64 = 0
        while true {
            let bytes = try attempting("read") { () throws(SystemError) in try source.read(upTo: 1 << 20) }
            if bytes.isEmpty { return size }
            bytes.withUnsafeBytes(look)
            try attempting("write to the store") { () throws(SystemError) in try target.writeAll(bytes, "blob") }
            size += Int64(bytes.count)
            progress(size)
        }
    }
}
