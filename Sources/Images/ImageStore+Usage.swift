// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
public import OCI

/// What one kind of things in the store takes of the disk.
public struct StoreUsage: JSONRecord, Sendable, Equatable {
    /// `images`, `layers`, `pulls`.
    public var type = ""
    /// How many there are, and how many of them zones are made from.
    public var total: Int64 = 0
    public var active: Int64 = 0
    /// Bytes of all, and of those that nobody needs.
    public var bytes: Int64 = 0
    public var reclaimable: Int64 = 0

    public init() {}

    init(_ type: String) {
        self.type = type
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("type", &type)
        try visitor.required("total", &total)
        try visitor.required("active", &active)
        try visitor.required("bytes", &bytes)
        try visitor.required("reclaimable", &reclaimable)
    }

    mutating func add(_ size: Int64, isUsed: Bool) {
        bytes = bytes &+ size
        if !isUsed { reclaimable = reclaimable &+ size }
    }
}

extension ImageStore {
    /// Sums up images (their blobs as they came), unpacked layers, and what pulls have left that were killed.
    public func usage(inUse: Set<Digest>) throws(ImageError) -> [StoreUsage] {
        var images = StoreUsage("images")
        var layers = StoreUsage("layers")
        // Whether somebody needs it.
        var blobs: [Digest: (size: Int64, isUsed: Bool)] = [:]
        var chains: [Digest: Bool] = [:]
        var seen: Set<Digest> = []
        for image in try list() where seen.insert(image.digest).inserted {
            let isUsed = inUse.contains(image.digest)
            images.total += 1
            if isUsed { images.active += 1 }
            for blob in image.manifest.layers + [image.manifest.config] {
                blobs[blob.digest] = (blob.size, isUsed || blobs[blob.digest]?.isUsed ?? false)
            }
            for chain in image.chainIDs { chains[chain] = isUsed || chains[chain] ?? false }
        }
        for blob in blobs.values { images.add(blob.size, isUsed: blob.isUsed) }
        for (chain, isUsed) in chains {
            layers.total += 1
            if isUsed { layers.active += 1 }
            layers.add(treeSize("\(path)/layers/\(chain.hex)"), isUsed: isUsed)
        }
        var pulls = StoreUsage(PullFolder.parent)
        let folder = try? Descriptor.open("\(path)/\(PullFolder.parent)", [.readOnly, .directory])
        if let folder {
            for name in (try? folder.entries()) ?? [] {
                pulls.total += 1
                let isActive =
                    (try? folder.open(name, [.readOnly, .directory], resolve: .beneath).lock(wait: false)) == false
                if isActive { pulls.active += 1 }
                pulls.add(treeSize("\(path)/\(PullFolder.parent)/\(name)"), isUsed: isActive)
            }
        }
        return [images, layers, pulls]
    }

    /// Bytes of the files below a folder; a file of several names counts once all of them are counted.
    private func treeSize(_ path: String) -> Int64 {
        // What cannot be looked at, or goes meanwhile, counts nothing.
        guard let folder = try? Descriptor.open(path, [.readOnly, .directory, .noFollow]) else { return 0 }
        return ImageStore.size(of: folder)
    }

    private static func size(of folder: borrowing Descriptor) -> Int64 {
        var sum: Int64 = 0
        for name in (try? folder.rawEntries()) ?? [] {
            guard let status = try? folder.status(rawName: name) else { continue }
            switch status.kind {
            case .regular: sum = sum &+ status.size / Int64(clamping: max(status.links, 1))
            case .directory:
                let flags = OpenFlags([.readOnly, .directory, .noFollow, .closeOnExec])
                let raw = zn_openat(folder.raw, name, flags.rawValue, 0)
                if raw >= 0 { sum = sum &+ size(of: Descriptor(owning: raw)) }
            default: continue
            }
        }
        return sum
    }
}
