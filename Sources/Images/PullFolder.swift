// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Where an image is put together before it comes into the store: STORE/pulls/KEY, an OCI layout of its own.
///
/// Its lock is held while the network is waited for, so that two processes that want the same image fetch it once; the
/// store's lock is not. What is left of a process that was killed is whole blobs, which the next one need not fetch.
final class PullFolder {
    static let parent = "pulls"

    let path: String
    /// Locked as long as this value lives.
    private let folder: Descriptor
    private let blobs: Descriptor
    private let parent: Descriptor
    private let key: String

    /// Opens the folder of `subject`, and waits for another process that has it; `waiting` is called before that.
    init(_ store: ImageStore, for subject: String, waiting: () -> Void) throws(ImageError) {
        let key = String(SHA256.digest(of: Array(subject.utf8)).hex.prefix(32))
        let path = "\(store.path)/\(PullFolder.parent)/\(key)"
        let attempt = "open the folder \(path)"
        let parent = try attempting(attempt) { () throws(SystemError) in
            try Descriptor.makePath("\(store.path)/\(PullFolder.parent)", mode: 0o700)
        }
        let folder = try attempting(attempt) { () throws(SystemError) in
            try PullFolder.lock(key, in: parent, waiting)
        }
        let blobs = try attempting(attempt) { () throws(SystemError) in
            // Of a process that was killed: only whole blobs have their names.
            for name in try folder.entries() where name != "blobs" { try folder.removeTree(name) }
            try folder.ensureDirectory("blobs", mode: 0o700)
            try folder.ensureDirectory("blobs/sha256", mode: 0o700)
            return try folder.open("blobs/sha256", [.readOnly, .directory], resolve: .beneath)
        }
        self.key = key
        self.path = path
        self.parent = parent
        self.folder = folder
        self.blobs = blobs
    }

    private static func lock(
        _ key: String, in parent: borrowing Descriptor, _ waiting: () -> Void
    ) throws(SystemError) -> Descriptor {
        while true {
            try parent.ensureDirectory(key, mode: 0o700)
            let folder: Descriptor
            do throws(SystemError) {
                folder = try parent.open(key, [.readOnly, .directory, .noFollow], resolve: .beneath)
            } catch {
                if error.errno == .noEntry { continue }
                throw error
            }
            if try !folder.lock(wait: false) {
                waiting()
                _ = try folder.lock()
            }
            // Who had it has removed it, when all went well.
            if let named = try? parent.status(key), try folder.stat().inode == named.inode { return folder }
        }
    }

    var blobsPath: String { "\(path)/blobs/sha256" }

    /// Gives a blob of the store's a second name here.
    func link(_ blob: BlobDescriptor, from store: ImageStore) {
        if has(blob) { return }
        guard (try? FileStatus.of(store.blobPath(blob.digest), followLinks: false))?.size == blob.size else { return }
        // One that cannot be linked is fetched.
        _ = zn_linkat(AT_FDCWD, store.blobPath(blob.digest), blobs.raw, blob.digest.hex, 0)
    }

    func has(_ blob: BlobDescriptor) -> Bool {
        (try? blobs.status(blob.digest.hex))?.size == blob.size
    }

    /// Makes it the layout of one image, which is all there of it.
    func describe(_ image: BlobDescriptor, manifest: [UInt8], name: String?) throws(ImageError) {
        var index = ImageIndex()
        var described = image
        described.annotations = [:]
        described.annotations[MediaType.referenceName] = name
        described.platform = nil
        index.manifests = [described]
        try attempting("write to \(path)") { () throws(SystemError) in
            try blobs.replaceFile(image.digest.hex, manifest)
            try folder.replaceFile("oci-layout", Array("{\"imageLayoutVersion\":\"1.0.0\"}\n".utf8))
            try folder.replaceFile("index.json", index.serialized())
        }
    }

    /// Opens it for reading.
    func layout(_ place: String) throws(ImageError) -> LayoutSource {
        let copy = try attempting("open \(path)") { () throws(SystemError) in
            try folder.open(".", [.readOnly, .directory], resolve: .beneath)
        }
        return try LayoutSource(copy, place: place)
    }

    /// Whether nothing was fetched into it.
    var isEmpty: Bool { (try? blobs.rawEntries().isEmpty) ?? false }

    /// Removes it, while the lock is still held.
    func remove() {
        // What cannot be removed now, `image prune` removes.
        try? parent.removeTree(key)
    }
}
