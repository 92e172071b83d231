// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
public import LinuxSystem
public import OCI

/// Writes an archive of images and of changes to them: an OCI image layout with one more manifest, whose configuration is a
/// document of the caller's and whose layers are the changes. Every tool that reads layouts reads the images.
public struct ChangesArchive: ~Copyable {
    /// The annotation in the layout's index that marks the manifest, with a name.
    static let annotation = "zoneruntime.changes.name"

    private let store: ImageStore
    private let writer: TarWriter
    private let spool: Descriptor
    private var index = ImageIndex()
    private var manifest = ImageManifest()
    private var written: [Digest] = []

    /// Writes to a descriptor that stays the caller's.
    public init(_ store: ImageStore, to raw: CInt) throws(ImageError) {
        let spool = try store.spoolFile("changes")
        let writer = try TarWriter(to: raw)
        // First: who gets the archive as a stream knows by it what this is.
        try writer.add("oci-layout", Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8))
        self.store = store
        self.spool = spool
        self.writer = writer
    }

    /// Adds an image with all its blobs, once.
    public mutating func add(_ image: Image) throws(ImageError) {
        if index.manifests.contains(where: { $0.digest == image.digest }) { return }
        let size = Int64(try store.manifestBytes(image.digest).count)
        var descriptor = BlobDescriptor(
            mediaType: image.manifest.mediaType ?? MediaType.manifest, digest: image.digest, size: size)
        for blob in image.manifest.layers + [image.manifest.config, descriptor] where !written.contains(blob.digest) {
            let file = try attempting("read the image") { () throws(SystemError) in
                try Descriptor.open(store.blobPath(blob.digest), [.readOnly, .noFollow])
            }
            try writer.add("blobs/sha256/\(blob.digest.hex)", file, size: blob.size)
            written.append(blob.digest)
        }
        descriptor.platform = image.platform
        if image.name != image.digest.description { descriptor.annotations[MediaType.referenceName] = image.name }
        index.manifests.append(descriptor)
    }

    /// Adds a layer of changes; `whileStill` calls what it is given while nothing changes that. Returns its digest.
    public mutating func add(
        changes folder: String, whileStill: (() throws(ImageError) -> Void) throws(ImageError) -> Void
    ) throws(ImageError) -> Digest {
        // A member's name is its digest, which is known at its end: it is written apart first.
        spool.rewind()
        try attempting("write to the store") { () throws(SystemError) in
            _ = try check(zn_ftruncate(spool.raw, 0), "truncate")
        }
        var made: (digest: Digest, size: Int64)?
        let raw = spool.raw
        try whileStill { () throws(ImageError) in
            let upper = try attempting("read the changes") { () throws(SystemError) in
                try Descriptor.open(folder, [.path, .directory, .noFollow])
            }
            var archiver = try TreeArchiver(layerTo: raw, store.marks)
            try archiver.add(upper, as: ".")
            made = try archiver.finishLayer()
        }
        guard let made else { throw ImageError(.system, "read the changes: nothing was read") }
        if !manifest.layers.contains(where: { $0.digest == made.digest }) {
            spool.rewind()
            if !written.contains(made.digest) {
                try writer.add("blobs/sha256/\(made.digest.hex)", spool, size: made.size)
                written.append(made.digest)
            }
            manifest.layers.append(
                BlobDescriptor(mediaType: MediaType.layerTar, digest: made.digest, size: made.size))
        }
        return made.digest
    }

    /// Ends the archive with the document that says what the changes are.
    public consuming func finish(document: [UInt8], mediaType: String, name: String) throws(ImageError) {
        manifest.config = try add(document, mediaType: mediaType)
        var descriptor = try add(manifest.serialized(), mediaType: MediaType.manifest)
        descriptor.annotations[ChangesArchive.annotation] = name
        index.manifests.append(descriptor)
        // Last: an archive that was cut short has none.
        try writer.add("index.json", index.serialized())
        _ = try writer.finish()
    }

    private func add(_ bytes: [UInt8], mediaType: String) throws(ImageError) -> BlobDescriptor {
        let digest = SHA256.digest(of: bytes)
        try writer.add("blobs/sha256/\(digest.hex)", bytes)
        return BlobDescriptor(mediaType: mediaType, digest: digest, size: Int64(bytes.count))
    }
}

extension ImageStore {
    /// A file in the store's file system that goes with its descriptor.
    func spoolFile(_ label: String) throws(ImageError) -> Descriptor {
        try attempting("write to the store") { () throws(SystemError) in
            let parent = try Descriptor.makePath("\(path)/\(PullFolder.parent)", mode: 0o700)
            let name = ".\(label).\(getProcessID())"
            let file = try parent.open(
                name, [.readWrite, .create, .truncate, .noFollow], mode: 0o600, resolve: .beneath)
            try parent.remove(name)
            return file
        }
    }

    /// Reads an archive that ``ChangesArchive`` has written; `nil` reads stdin. What `body` takes of it stays if it succeeds;
    /// otherwise nothing does.
    public func readChanges<Result>(
        from path: String?, mediaType: String, _ body: (inout ChangesReader) throws(ImageError) -> Result
    ) throws(ImageError) -> Result {
        let place = path ?? "stdin"
        let source = try openArchive(path)
        let kind = try attempting(place) { () throws(SystemError) in try source.stat().kind }
        guard kind == .regular else { throw ImageError(.invalid, "\(place): not a regular file") }
        let archive = ImportArchive(source, place: place, limits: limits)
        guard case .layout = try archive.content() else { throw ChangesReader.foreign(place) }
        var reader = try ChangesReader(self, archive, place, mediaType)
        do throws(ImageError) {
            let result = try body(&reader)
            reader.end()
            return result
        } catch {
            reader.end()
            throw error
        }
    }
}

/// What an archive of changes holds, verified, in a store that is locked for a change.
public struct ChangesReader: ~Copyable {
    private static let staged = "layout"

    private var transaction: StoreTransaction
    private let layout: LayoutSource
    private let layers: [BlobDescriptor]
    /// What says what the changes are.
    public let document: [UInt8]
    private var taken: [LayoutSource.Choice] = []

    fileprivate init(
        _ store: ImageStore, _ archive: borrowing ImportArchive, _ place: String, _ mediaType: String
    ) throws(ImageError) {
        let transaction = try StoreTransaction(store)
        try archive.stageLayout(.layout, into: try transaction.stageFolder(ChangesReader.staged))
        let layout = try LayoutSource(try transaction.stageFolder(ChangesReader.staged), place: place)
        guard let manifest = try layout.manifest(annotated: ChangesArchive.annotation),
            manifest.config.mediaType == mediaType
        else { throw ChangesReader.foreign(place) }
        let document = try layout.bytes(manifest.config)
        self.document = document
        layers = manifest.layers
        self.transaction = transaction
        self.layout = layout
    }

    fileprivate static func foreign(_ place: String) -> ImageError {
        ImageError(
            .invalid, "\(place): not an archive of a zone",
            hint: "an archive of images: zonectl image load -i FILE; a root file system's: zonectl image import FILE")
    }

    fileprivate func end() { transaction.sweep() }

    /// Takes over an image of the archive, under no name yet.
    public mutating func take(_ digest: Digest, _ progress: (ImportProgress) -> Void) throws(ImageError) {
        if taken.contains(where: { $0.image.digest == digest }) { return }
        let choice = try layout.choose(digest)
        try transaction.take(choice, of: layout, staged: ChangesReader.staged, progress)
        taken.append(choice)
    }

    /// Unpacks changes to an image that was taken, the lowest first, as one upper layer of an overlay: `upper` in a folder.
    public func unpack(
        _ changes: [Digest], on image: Digest, into folder: borrowing Descriptor
    ) throws(ImageError) {
        guard let choice = taken.first(where: { $0.image.digest == image }) else {
            throw ImageError(.invalid, "changes to an image that the archive does not hold: \(image)")
        }
        var below = transaction.layerHandles(of: choice.image)
        let name = "upper"
        let staged = "changes"
        for (number, digest) in changes.enumerated() {
            guard let blob = layers.first(where: { $0.digest == digest }) else {
                throw ImageError(.invalid, "changes that the archive does not hold: \(digest)")
            }
            let layout = "\(transaction.store.path)/images/\(StoreTransaction.staging)/\(ChangesReader.staged)"
            var file = "\(layout)/blobs/sha256/\(digest.hex)"
            // What was committed from the same changes is a layer of an image's, which was taken.
            if (try? FileStatus.of(file, followLinks: false)) == nil { file = transaction.store.blobPath(digest) }
            do throws(ImageError) {
                let totals = try transaction.unpack(file, as: staged, below: { LowerLayers(below) }) { _ in }
                guard totals.blob == digest, totals.blobSize == blob.size else {
                    throw ImageError(.invalid, "its \(totals.blobSize) bytes have digest \(totals.blob): it is damaged")
                }
            } catch {
                throw error.inside("changes \(digest)")
            }
            try attempting("unpack") { () throws(SystemError) in
                let place = "\(StoreTransaction.staging)/\(staged)"
                if number == 0 {
                    // The first is as good as it is; what lies upon it is put into it.
                    let moved = renameToNew(transaction.layers.raw, place, folder.raw, name)
                    if moved == -Errno.crossDevice.rawValue {
                        // A file system of the folder's own, or a quota.
                        try ChangesReader.copy(place, in: transaction.layers, to: folder, name, .exact)
                    } else {
                        try check(moved, "rename", name)
                    }
                } else {
                    try ChangesReader.copy(place, in: transaction.layers, to: folder, name, .layer(transaction.marks))
                }
                let made = try folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath)
                if number == 0 { below.insert(LayerDirectory.Handle(made), at: 0) }
            }
        }
    }

    private static func copy(
        _ place: String, in layers: borrowing Descriptor, to folder: borrowing Descriptor, _ name: String,
        _ policy: CopyPolicy
    ) throws(SystemError) {
        let layer = try layers.open(place, [.path, .directory, .noFollow], resolve: .beneath)
        var transfer = TreeTransfer(policy)
        try transfer.copy(layer, to: folder, as: name.utf8CString.map { $0 })
        try layers.removeTree(place)
    }

    /// Lists the images that were taken. One gets its name only if no other image has it.
    public mutating func record() throws(ImageError) {
        for choice in taken {
            let name = choice.image.name == choice.image.digest.description ? nil : choice.image.name
            let isTaken = transaction.index.manifests.contains {
                name != nil && $0.annotations[MediaType.referenceName] == name && $0.digest != choice.image.digest
            }
            // It keeps the names that it has.
            if transaction.index.manifests.contains(where: { $0.digest == choice.image.digest }), isTaken || name == nil
            {
                continue
            }
            try transaction.record(
                choice.descriptor, name: isTaken ? nil : name, platform: choice.image.platform)
        }
    }
}
