// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// Images on disk.
///
///     images/           an OCI image layout: oci-layout, index.json, blobs/sha256/…
///     layers/CHAIN/     one unpacked layer each, named by its chain id; there only when complete
///
/// Reading takes no lock: files are replaced by renaming. Changes are made by a ``StoreTransaction``.
public struct ImageStore: Sendable {
    let path: String
    var limits = UnpackLimits()

    /// Takes an absolute path; nothing need be there yet.
    public init(path: String) {
        self.path = path
    }

    /// Returns all images, sorted by name; none where the store does not exist.
    public func list() throws(ImageError) -> [Image] {
        var images: [Image] = []
        for descriptor in try readIndex()?.manifests ?? [] {
            do throws(ImageError) { images.append(try load(descriptor)) } catch {
                let name = descriptor.annotations[MediaType.referenceName] ?? descriptor.digest.description
                throw error.inside("image \(name)")
            }
        }
        return images.sorted { $0.name < $1.name }
    }

    /// Finds an image by name, digest, or a digest's beginning of at least four digits.
    public func find(_ reference: String) throws(ImageError) -> Image {
        let wanted = try ImageReference(reference)
        // Before the list is read, so that a change in between makes what is kept invalid at once.
        let list = try? FileStatus.of(indexPath)
        if case .name(let name) = wanted, let list, var image = ResolvedImage.load(name, list: list, in: self) {
            image.listed = list
            return image
        }
        guard let index = try readIndex(), let descriptor = try index.first(wanted, reference) else {
            throw ImageError(.notFound, "image \(reference) is not in the store \(path)")
        }
        do throws(ImageError) {
            var image = try load(descriptor)
            image.listed = list
            if let list, descriptor.annotations[MediaType.referenceName] != nil {
                ResolvedImage.save(image, list: list, in: self)
            }
            return image
        } catch {
            throw error.inside("image \(reference)")
        }
    }

    /// Whether what a user named an image by is a whole digest, with a name before it or without.
    public static func isPinned(_ reference: String) -> Bool {
        reference.utf8.contains(UInt8(ascii: "@")) || reference.hasPrefix("sha256:") && reference.utf8.count == 71
    }

    /// Throws where an image is not in the store any more that was found a moment ago.
    private func verifyListed(_ image: Image) throws(ImageError) {
        guard let listed = image.listed, (try? FileStatus.of(indexPath)) != listed else { return }
        for reference in [image.digest.description, image.name] {
            if let found = try? find(reference), found.digest == image.digest { return }
        }
        throw ImageError(.notFound, "image \(image.name) was removed by another process")
    }

    /// Returns the directories of an image's layers, topmost first as overlayfs wants them; unpacks what is missing.
    ///
    /// For a zone this is called once its definition is on the disk: see ``remove(_:inUse:)``.
    public func layers(of image: Image) throws(ImageError) -> [String] {
        try verifyListed(image)
        let directories = image.chainIDs.reversed().map { "\(path)/layers/\($0.hex)" }
        if directories.allSatisfy({ (try? FileStatus.of($0))?.kind == .directory }) { return directories }
        let transaction = try StoreTransaction(self)
        do throws(ImageError) { try transaction.unpackLayers(of: image) { _ in } } catch {
            throw error.inside("image \(image.name)")
        }
        return directories
    }

    // MARK: Reading

    func readIndex() throws(ImageError) -> ImageIndex? {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try readHostFile(indexPath) } catch {
            if error.errno == .noEntry { return nil }
            throw ImageError("read the list of images", error)
        }
        do throws(JSONError) { return try ImageIndex(parsing: bytes) } catch {
            throw ImageError(.invalid, "\(indexPath): \(error)")
        }
    }

    private var indexPath: String { "\(path)/images/index.json" }

    /// Reads an image's manifest and configuration. Digests were verified when they came into the store.
    func load(_ descriptor: BlobDescriptor) throws(ImageError) -> Image {
        let (digest, manifest) = try manifest(descriptor, depth: 0)
        let configuration: ImageConfiguration = try read(manifest.config.digest)
        return try Image(
            name: descriptor.annotations[MediaType.referenceName].map { (try? ImageReference.normalized($0)) ?? $0 },
            digest: digest, manifest: manifest, configuration: configuration)
    }

    private func manifest(_ descriptor: BlobDescriptor, depth: Int) throws(ImageError) -> (Digest, ImageManifest) {
        guard MediaType.isIndex(descriptor.mediaType) else {
            return (descriptor.digest, try read(descriptor.digest))
        }
        // Our own imports name manifests; other tools may have written an index for several machines.
        let index: ImageIndex = try read(descriptor.digest)
        for inner in index.manifests where depth < 4 && inner.isForThisMachine {
            return try manifest(inner, depth: depth + 1)
        }
        throw ImageError(.unsupported, "there is none for \(Image.machine.os)/\(Image.machine.architecture)")
    }

    func read<Record: JSONRecord>(_ digest: Digest) throws(ImageError) -> Record {
        let file = blobPath(digest)
        let bytes = try attempting("read the image") { () throws(SystemError) in try readHostFile(file) }
        do throws(JSONError) { return try Record(parsing: bytes) } catch {
            throw ImageError(.invalid, "\(file): \(error)")
        }
    }

    func blobPath(_ digest: Digest) -> String { "\(path)/images/blobs/sha256/\(digest.hex)" }
}

extension MediaType {
    /// The annotation that says by what digest an image was pulled, where that is a list's for several machines.
    static let sourceDigest = "zoneruntime.source.digest"

    static func isIndex(_ type: String) -> Bool { type == index || type == dockerIndex }
    static func isManifest(_ type: String) -> Bool { type == manifest || type == dockerManifest }
}

extension BlobDescriptor {
    /// Whether the descriptor's platform, where it names one, is this machine's.
    var isForThisMachine: Bool { isFor(Image.machine) }

    /// Whether the descriptor's platform, where it names one, is no Linux: also what is no image but belongs to one.
    var isForAnotherSystem: Bool { platform.map { $0.os != Image.machine.os } ?? false }

    /// Whether the descriptor's platform, where it names one, is this one; a variant counts only where one is wanted.
    func isFor(_ wanted: Platform) -> Bool {
        platform?.isFor(wanted) ?? true
    }
}

extension Platform {
    /// Whether what is for this platform will do for that one; a variant counts only where both have one.
    public func isFor(_ wanted: Platform) -> Bool {
        os == wanted.os && architecture == wanted.architecture
            && (wanted.variant == nil || variant == nil || variant == wanted.variant)
    }
}

extension ImageReference {
    /// Whether an image of this name is meant.
    func isName(_ name: String) -> Bool {
        switch self {
        case .name(let wanted), .prefix(_, name: .some(let wanted)):
            name == wanted || (try? ImageReference.normalized(name)) == wanted
        case .digest, .prefix: false
        }
    }
}

extension ImageIndex {
    /// Returns the image that is meant, `nil` where there is none.
    func first(_ wanted: ImageReference, _ text: String) throws(ImageError) -> BlobDescriptor? {
        let named = manifests.first { $0.annotations[MediaType.referenceName].map(wanted.isName) == true }
        if let named { return named }
        switch wanted {
        case .name: return nil
        case .digest(let digest):
            return manifests.first { $0.digest == digest }
                ?? manifests.first { $0.annotations[MediaType.sourceDigest] == digest.description }
        case .prefix(let digits, _):
            let matches = manifests.filter { $0.digest.hex.hasPrefix(digits) }
            guard Set(matches.map(\.digest)).count <= 1 else {
                throw ImageError(.ambiguous, "image \(text): more than one digest begins so: give more digits")
            }
            return matches.first
        }
    }
}
