// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// What is told about an image that is made from another one, beside its layers.
public struct CommitNote: Sendable {
    /// RFC 3339.
    public var created = ""
    public var comment: String?
    public var author: String?

    public init() {}
}

extension ImageStore {
    /// Makes an image out of another one and changes to its files, each as the upper layer of an overlay, the lowest first.
    /// `whileStill` calls what it is given while nothing changes the topmost of them.
    ///
    /// The new layers are not compressed: they are unpacked at once and seldom leave the machine, and who pushes them
    /// compresses them then.
    public func commit(
        on image: Image, changes: [String], name: String, note: CommitNote,
        whileStill: (() throws(ImageError) -> Void) throws(ImageError) -> Void
    ) throws(ImageError) -> Image {
        let name = try ImageReference.normalized(name)
        return try change { (transaction) throws(ImageError) in
            var blobs: [BlobDescriptor] = []
            for folder in changes.dropLast() { blobs.append(try transaction.addLayer(folder)) }
            if let last = changes.last {
                var top: BlobDescriptor?
                try whileStill { () throws(ImageError) in top = try transaction.addLayer(last) }
                if let top { blobs.append(top) }
            }
            let document = try ImageStore.configuration(
                try bytes(of: image.manifest.config.digest), adding: blobs.map(\.digest), note)
            var manifest = image.manifest
            manifest.config = try transaction.add(document, mediaType: MediaType.config)
            manifest.layers += blobs
            let descriptor = try transaction.add(manifest.serialized(), mediaType: MediaType.manifest)
            let configuration: ImageConfiguration = try read(manifest.config.digest)
            let made = try Image(
                name: name, digest: descriptor.digest, manifest: manifest, configuration: configuration)
            try transaction.unpackLayers(of: made) { _ in }
            try transaction.record(descriptor, name: name)
            return made
        }
    }

    private func bytes(of digest: Digest) throws(ImageError) -> [UInt8] {
        let file = blobPath(digest)
        return try attempting("read the image") { () throws(SystemError) in try readHostFile(file) }
    }

    /// The configuration with more layers. What we do not know of it stays as it is.
    static func configuration(
        _ bytes: [UInt8], adding layers: [Digest], _ note: CommitNote
    ) throws(ImageError) -> [UInt8] {
        do throws(JSONError) {
            guard case .object(var members) = try JSON(parsing: bytes) else {
                throw JSONError(place: "", reason: "is no object")
            }
            func set(_ name: String, _ value: JSON) {
                members.removeAll { $0.name == name }
                members.append(.init(name, value))
            }
            let document = JSON.object(members)
            var ids: [JSON] = []
            if case .array(let known)? = document["rootfs"]?["diff_ids"] { ids = known }
            var history: [JSON] = []
            if case .array(let known)? = document["history"] { history = known }
            for layer in layers {
                ids.append(.string("\(layer)"))
                var entry: [JSON.Member] = [
                    .init("created", .string(note.created)), .init("created_by", .string("zonectl commit")),
                ]
                if let author = note.author { entry.append(.init("author", .string(author))) }
                if let comment = note.comment { entry.append(.init("comment", .string(comment))) }
                history.append(.object(entry))
            }
            set("rootfs", .object([.init("type", .string("layers")), .init("diff_ids", .array(ids))]))
            set("history", .array(history))
            set("created", .string(note.created))
            if let author = note.author { set("author", .string(author)) }
            var writer = JSONWriter()
            JSON.object(members).write(to: &writer)
            writer.endText()
            return writer.bytes
        } catch {
            throw ImageError(.invalid, "the image's configuration: \(error)")
        }
    }
}

extension StoreTransaction {
    /// Makes a layer of an overlay's upper directory.
    fileprivate func addLayer(_ folder: String) throws(ImageError) -> BlobDescriptor {
        let upper = try attempting("read the changes") { () throws(SystemError) in
            try Descriptor.open(folder, [.path, .directory, .noFollow])
        }
        let file = try stage("layer")
        var archiver = try TreeArchiver(layerTo: file.raw, marks)
        try archiver.add(upper, as: ".")
        let (digest, size) = try archiver.finishLayer()
        try adopt("layer", as: digest)
        return BlobDescriptor(mediaType: MediaType.layerTar, digest: digest, size: size)
    }
}
