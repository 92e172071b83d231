// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem
import OCI

/// The store, locked for a change; other processes wait.
///
/// What is not finished lies in `.staging` folders, which go when this value does, or with the next transaction where
/// this process is killed. Blobs and layers get their names only when complete; the index is replaced last, so that it
/// never names what is not there. Whatever the index does not reach is removed by ``sweep()``.
struct StoreTransaction: ~Copyable {
    static let staging = ".staging"

    let store: ImageStore
    /// STORE/images
    let images: Descriptor
    /// STORE/layers
    let layers: Descriptor
    /// How layers say what is gone.
    let marks: LayerMarks
    private(set) var index: ImageIndex
    private let lock: Descriptor

    init(_ store: ImageStore) throws(ImageError) {
        let path = store.path
        let attempt = "open the store \(path) for changes"
        // Layers hold set-user-id programs and device nodes: nobody but root may reach them (CVE-2021-41103).
        let images = try attempting(attempt) { () throws(SystemError) in try StoreTransaction.folder(path, "images") }
        let layers = try attempting(attempt) { () throws(SystemError) in try StoreTransaction.folder(path, "layers") }
        let lock = try attempting(attempt) { () throws(SystemError) in try StoreTransaction.lock(images, layers) }
        let known = try store.readIndex()
        let index = known ?? ImageIndex()
        let marks = try attempting(attempt) { () throws(SystemError) in
            try images.ensureDirectory("blobs")
            try images.ensureDirectory("blobs/sha256")
            if known == nil {
                // Without an index everything would be swept: an empty one is made only where there is nothing yet.
                let blobs = try images.open("blobs/sha256", [.path, .directory], resolve: .beneath)
                guard try blobs.rawEntries().isEmpty else {
                    throw SystemError("open", "\(path)/images/index.json", .noEntry)
                }
                try images.replaceFile("oci-layout", Array("{\"imageLayoutVersion\":\"1.0.0\"}\n".utf8))
                try images.replaceFile("index.json", index.serialized())
            }
            // Last, as this value's end removes them, and a value that was not made has none.
            try images.makeDirectory(StoreTransaction.staging, mode: 0o700)
            do throws(SystemError) {
                try layers.makeDirectory(StoreTransaction.staging, mode: 0o700)
                return try store.settleMarks(layers)
            } catch {
                try? layers.removeTree(StoreTransaction.staging)
                try? images.remove(StoreTransaction.staging, directory: true)
                throw error
            }
        }
        self.store = store
        self.images = images
        self.layers = layers
        self.lock = lock
        self.marks = marks
        self.index = index
    }

    deinit {
        // What cannot be removed now, the next transaction removes.
        try? images.removeTree(StoreTransaction.staging)
        try? layers.removeTree(StoreTransaction.staging)
    }

    private static func folder(_ store: String, _ name: String) throws(SystemError) -> Descriptor {
        let parent = try Descriptor.makePath(store)
        try parent.ensureDirectory(name, mode: 0o700)
        return try parent.open(name, [.readOnly, .directory], resolve: .beneath)
    }

    /// Waits for the lock, and then removes what killed processes left unfinished.
    private static func lock(
        _ images: borrowing Descriptor,
        _ layers: borrowing Descriptor
    ) throws(SystemError) -> Descriptor {
        let lock = try images.open(".lock", [.readWrite, .create, .noFollow], mode: 0o600, resolve: .beneath)
        _ = try lock.lock()
        try images.removeTree(staging)
        try layers.removeTree(staging)
        return lock
    }

    // MARK: Blobs

    func hasBlob(_ blob: BlobDescriptor) -> Bool {
        (try? FileStatus.of(store.blobPath(blob.digest), followLinks: false))?.size == blob.size
    }

    /// Opens a new file that has no name outside the staging folder.
    func stage(_ name: String) throws(ImageError) -> Descriptor {
        try attempting("write to the store") { () throws(SystemError) in
            try images.open(
                "\(StoreTransaction.staging)/\(name)", [.readWrite, .create, .truncate, .noFollow], mode: 0o600,
                resolve: [.beneath, .noSymlinks])
        }
    }

    /// Opens a folder below the staging folder; makes it first where it is missing.
    func stageFolder(_ name: String) throws(ImageError) -> Descriptor {
        try attempting("write to the store") { () throws(SystemError) in
            let path = "\(StoreTransaction.staging)/\(name)"
            try images.ensureDirectory(path, mode: 0o700)
            return try images.open(path, [.readOnly, .directory], resolve: [.beneath, .noSymlinks])
        }
    }

    /// Gives a staged file its place among the blobs.
    func adopt(_ name: String, as digest: Digest) throws(ImageError) {
        try attempting("write to the store") { () throws(SystemError) in
            try images.rename("\(StoreTransaction.staging)/\(name)", to: "blobs/sha256/\(digest.hex)")
        }
    }

    /// Stores a small blob of our own making.
    func add(_ bytes: [UInt8], mediaType: String) throws(ImageError) -> BlobDescriptor {
        let digest = SHA256.digest(of: bytes)
        let file = try stage("small")
        try attempting("write to the store") { () throws(SystemError) in try file.writeAll(bytes) }
        try adopt("small", as: digest)
        return BlobDescriptor(mediaType: mediaType, digest: digest, size: Int64(bytes.count))
    }

    // MARK: The index

    /// Adds an image, or gives it one more name. An image that had this name before keeps its digest only. `source` is the
    /// digest that it was pulled by; without a name it is found by digests alone.
    mutating func record(
        _ descriptor: BlobDescriptor, name: String?, platform: Platform = Image.machine, source: Digest? = nil
    ) throws(ImageError) {
        let key = MediaType.referenceName
        var index = index
        var added = descriptor
        added.annotations = [:]
        added.annotations[key] = name
        if let source, source != descriptor.digest { added.annotations[MediaType.sourceDigest] = source.description }
        added.platform = platform
        for position in index.manifests.indices where name != nil && index.manifests[position].annotations[key] == name
        {
            index.manifests[position].annotations[key] = nil
        }
        index.manifests.removeAll { $0.digest == added.digest && $0.annotations[key] == nil }
        if name == nil, let same = index.manifests.firstIndex(where: { $0.digest == added.digest }) {
            let noted = added.annotations[MediaType.sourceDigest]
            if let noted { index.manifests[same].annotations[MediaType.sourceDigest] = noted }
        } else {
            index.manifests.append(added)
        }
        try replaceIndex(index)
    }

    /// Replaces the index, once the blobs that it names are on the disk.
    mutating func replaceIndex(_ index: ImageIndex) throws(ImageError) {
        do throws(SystemError) {
            try check(zn_syncfs(images.raw), "syncfs", store.path)
            try images.replaceFile("index.json", index.serialized(pretty: true), durable: true)
        } catch {
            throw ImageError("write the list of images", error)
        }
        self.index = index
    }

    /// Removes blobs and layers that no image in the index needs: of a removed image, or of an import that failed or
    /// was killed. Where an image cannot be read, everything stays, as its needs are not known.
    func sweep() {
        guard let (blobs, chains) = try? reachable(),
            let folder = try? images.open("blobs/sha256", [.readOnly, .directory], resolve: [.beneath, .noSymlinks])
        else { return }
        // What cannot be removed now, the next sweep removes.
        for name in (try? folder.entries()) ?? [] where !blobs.contains(name) { try? folder.remove(name) }
        for name in (try? layers.entries()) ?? [] where !chains.contains(name) && name != StoreTransaction.staging {
            // Its name goes first: half a layer must not be taken for one when this process is killed.
            let gone = "\(StoreTransaction.staging)/\(name)"
            try? layers.rename(name, to: gone)
            try? layers.removeTree(gone)
        }
        try? images.removeTree(ResolvedImage.folder)
    }

    private func reachable() throws(ImageError) -> (blobs: Set<String>, chains: Set<String>) {
        var blobs: Set<String> = []
        var chains: Set<String> = []
        var waiting = index.manifests.map { (descriptor: $0, mayBeMissing: false) }
        while let (descriptor, mayBeMissing) = waiting.popLast() {
            guard blobs.insert(descriptor.digest.hex).inserted else { continue }
            // An index for several machines may have been stored with one machine's image only.
            if mayBeMissing, !hasBlob(descriptor) { continue }
            if MediaType.isIndex(descriptor.mediaType) {
                let inner: ImageIndex = try store.read(descriptor.digest)
                waiting += inner.manifests.map { ($0, true) }
                continue
            }
            let image = try store.load(descriptor)
            blobs.insert(image.manifest.config.digest.hex)
            blobs.formUnion(image.manifest.layers.map(\.digest.hex))
            chains.formUnion(image.chainIDs.map(\.hex))
        }
        return (blobs, chains)
    }
}
