// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// The digests of images that something outside the store needs; `nil` where that cannot be known.
public typealias ImagesInUse = () -> Set<Digest>?

/// What a ``ImageStore/prune(all:inUse:)`` has removed.
public struct PrunedImages: Sendable {
    /// Names, or digests of those that had none.
    public let names: [String]
    /// Of blobs; what was unpacked from them was more.
    public let bytes: Int64
}

/// Changes of which images there are, and by which names.
extension ImageStore {
    /// Gives an image one more name; an image that has it already keeps its digest only.
    public func tag(_ reference: String, as name: String) throws(ImageError) -> Image {
        let wanted = try ImageReference(reference)
        guard case .name(let final) = try ImageReference(asName: name) else {
            throw ImageError(.invalid, "\"\(name)\" is a digest, and no name to give")
        }
        guard let known = try readIndex(), try known.first(wanted, reference) != nil else { throw absent(reference) }
        var transaction = try StoreTransaction(self)
        guard let found = try transaction.index.first(wanted, reference) else { throw absent(reference) }
        let image = try load(found)
        let source = found.annotations[MediaType.sourceDigest].flatMap { Digest($0) }
        try transaction.record(found, name: final, platform: image.platform, source: source)
        return try Image(
            name: final, digest: image.digest, manifest: image.manifest, configuration: image.configuration)
    }

    /// Removes an image's name, and with the last one what no other image needs. A digest removes all its names. Returns
    /// `false` and changes nothing where an image would go that is in use.
    @discardableResult
    public func remove(_ reference: String, inUse: ImagesInUse = { [] }) throws(ImageError) -> Bool {
        let wanted = try ImageReference(reference)
        guard let known = try readIndex(), try known.first(wanted, reference) != nil else { throw absent(reference) }
        var transaction = try StoreTransaction(self)
        let before = transaction.index
        guard let found = try before.first(wanted, reference) else {
            throw ImageError(.notFound, "image \(reference) was removed by another process")
        }
        let name = found.annotations[MediaType.referenceName]
        let byName = name.map(wanted.isName) == true
        var index = before
        index.manifests.removeAll {
            $0.digest == found.digest && (!byName || $0.annotations[MediaType.referenceName] == name)
        }
        return try transaction.replaceIndex(index, unlessItTakes: inUse, self)
    }

    /// Removes the images that have no name, or with `all` all of them, but none that is in use; and what pulls have left
    /// that were killed.
    public func prune(all: Bool, inUse: ImagesInUse) throws(ImageError) -> PrunedImages {
        guard try readIndex() != nil else { return PrunedImages(names: [], bytes: 0) }
        var transaction = try StoreTransaction(self)
        let before = transaction.index
        guard let used = inUse() else { return PrunedImages(names: [], bytes: 0) }
        var index = before
        var names: [String] = []
        index.manifests = []
        for descriptor in before.manifests {
            let name = descriptor.annotations[MediaType.referenceName]
            let isUsed =
                used.contains(descriptor.digest) || ((try? load(descriptor)).map { used.contains($0.digest) } ?? true)
            if isUsed || name != nil && !all {
                index.manifests.append(descriptor)
            } else {
                names.append(name ?? descriptor.digest.description)
            }
        }
        let bytes = transaction.blobBytes
        PullFolder.removeAbandoned(self)
        if names.isEmpty {
            transaction.sweep()
        } else if try !transaction.replaceIndex(index, unlessItTakes: inUse, self) {
            return PrunedImages(names: [], bytes: 0)
        }
        return PrunedImages(names: names, bytes: max(0, bytes - transaction.blobBytes))
    }

    /// Does something for which an image must be there, while nobody can remove any; throws where it is gone. `body` may not
    /// unpack layers, which takes the same lock.
    public func whileListed(_ image: Image, _ body: () -> Void) throws(ImageError) {
        let transaction = try StoreTransaction(self)
        guard try list().contains(where: { $0.digest == image.digest }) else {
            throw ImageError(.notFound, "image \(image.name) was removed by another process")
        }
        body()
        _ = consume transaction
    }

    func absent(_ reference: String) -> ImageError {
        ImageError(.notFound, "image \(reference) is not in the store \(path)")
    }
}

extension StoreTransaction {
    /// Replaces the index and removes what it does not need any more; takes that back and returns `false` where an image in
    /// use would go.
    ///
    /// Whoever makes a zone writes its definition first and looks then whether the image is still listed
    /// (``ImageStore/layers(of:)``); here the image leaves the list first, and then the definitions are looked at. So one of
    /// the two sees the other, whatever the order.
    fileprivate mutating func replaceIndex(
        _ wanted: ImageIndex, unlessItTakes inUse: ImagesInUse, _ store: ImageStore
    ) throws(ImageError) -> Bool {
        let before = index
        let kept = Set(wanted.manifests.map(\.digest))
        var taken: Set<Digest> = []
        for descriptor in before.manifests where !kept.contains(descriptor.digest) {
            taken.insert(descriptor.digest)
            // Of a list for several machines a zone knows its own manifest. A damaged one can be in nobody's use.
            if let image = try? store.load(descriptor) { taken.insert(image.digest) }
        }
        // A first look, so that nothing changes where the answer is known.
        guard let used = inUse(), used.isDisjoint(with: taken) else { return false }
        try replaceIndex(wanted)
        guard let used = inUse(), used.isDisjoint(with: taken) else {
            try replaceIndex(before)
            return false
        }
        sweep()
        return true
    }

    /// Bytes of all blobs.
    var blobBytes: Int64 {
        guard let folder = try? images.open("blobs/sha256", [.readOnly, .directory], resolve: .beneath),
            let names = try? folder.entries()
        else { return 0 }
        return names.reduce(0) { $0 &+ ((try? folder.status($1))?.size ?? 0) }
    }
}

extension PullFolder {
    /// Removes the folders that no process holds.
    static func removeAbandoned(_ store: ImageStore) {
        guard let folder = try? Descriptor.open("\(store.path)/\(parent)", [.readOnly, .directory]) else { return }
        for name in (try? folder.entries()) ?? [] {
            guard let pull = try? folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath),
                (try? pull.lock(wait: false)) == true
            else { continue }
            try? folder.removeTree(name)
        }
    }
}
