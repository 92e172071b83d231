// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// An OCI image layout that images are imported from. Nothing in it is trusted: every blob is checked against the digest
/// and the size that name it.
struct LayoutSource: ~Copyable {
    private let folder: Descriptor
    /// What the user gave, for names and errors.
    private let place: String
    /// Manifests and configurations are small; a bigger one is not read.
    private static let documentLimit = 16 << 20

    init(_ folder: consuming Descriptor, place: String) throws(ImageError) {
        self.folder = folder
        self.place = place
        let layout: Layout = try document("oci-layout", try bytes("oci-layout"))
        guard layout.imageLayoutVersion.hasPrefix("1.") else {
            throw ImageError(.unsupported, "\(place): image layout version \"\(layout.imageLayoutVersion)\"")
        }
    }

    private struct Layout: JSONRecord {
        var imageLayoutVersion = ""

        mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("imageLayoutVersion", &imageLayoutVersion)
        }
    }

    /// An image of the layout.
    struct Choice {
        let descriptor: BlobDescriptor
        let image: Image
    }

    /// Chooses the image called `name`, or the only one; `fallback` names one that has no name of its own. `orAny`: where there
    /// is none for the platform, the first one is taken.
    func choose(
        _ name: String?, fallback: String, for platform: Platform = Image.machine, orAny: Bool = false
    ) throws(ImageError) -> Choice {
        let index: ImageIndex = try document("index.json", try bytes("index.json"))
        var byName: [String?: [BlobDescriptor]] = [:]
        for descriptor in index.manifests {
            byName[LayoutSource.name(of: descriptor, fallback: fallback), default: []].append(descriptor)
        }
        let names = byName.keys.compactMap { $0 }.sorted()
        var chosen = names.first
        if names.count > 1 {
            guard let name, byName[name] != nil else {
                let list = names.joined(separator: ", ")
                throw ImageError(.ambiguous, "\(place) holds \(names.count) images: \(list): choose one with --name")
            }
            chosen = name
        }
        guard let candidates = byName[chosen] else { throw ImageError(.invalid, "\(place): the layout holds no image") }
        let final: String
        if let given = name ?? chosen { final = given } else { final = try ImageReference.normalized(fallback) }
        var others: [String] = []
        if let choice = try resolve(candidates, as: final, for: platform, depth: 0, &others) { return choice }
        if orAny, let choice = try resolve(candidates, as: final, for: nil, depth: 0, &others) { return choice }
        let machine = "\(platform.os)/\(platform.architecture)"
        let found = others.isEmpty ? "" : ", only for \(others.joined(separator: ", "))"
        let other = others.first.flatMap { $0.halves("/").1 }
        throw ImageError(
            .unsupported, "\(place): no image for \(machine)\(found)",
            hint: other.map { "--arch \($0) takes one that is emulated here" })
    }

    /// The image of this digest, whatever it is for.
    func choose(_ digest: Digest) throws(ImageError) -> Choice {
        let index: ImageIndex = try document("index.json", try bytes("index.json"))
        let candidates = index.manifests.filter { $0.digest == digest }
        guard let first = candidates.first else {
            throw ImageError(.invalid, "\(place): there is no image \(digest)")
        }
        let name = LayoutSource.name(of: first, fallback: "image") ?? digest.description
        var others: [String] = []
        if let choice = try resolve([first], as: name, for: Image.machine, depth: 0, &others) { return choice }
        if let choice = try resolve([first], as: name, for: nil, depth: 0, &others) { return choice }
        throw ImageError(.unsupported, "\(place): made for \(others.joined(separator: ", ")), not for linux")
    }

    /// The manifest that has this annotation in the index; `nil` where none has.
    func manifest(annotated key: String) throws(ImageError) -> ImageManifest? {
        let index: ImageIndex = try document("index.json", try bytes("index.json"))
        guard let descriptor = index.manifests.first(where: { $0.annotations[key] != nil }) else { return nil }
        return try read(descriptor)
    }

    /// The names of all images; one that has none stands as `nil`.
    func names(fallback: String) throws(ImageError) -> [String?] {
        let index: ImageIndex = try document("index.json", try bytes("index.json"))
        var names: [String?] = []
        for descriptor in index.manifests {
            let name = LayoutSource.name(of: descriptor, fallback: fallback)
            if !names.contains(name) { names.append(name) }
        }
        if names.isEmpty { throw ImageError(.invalid, "\(place): the layout holds no image") }
        // An image without a name beside others that have one is a part of them, such as a signature.
        return names.count > 1 ? names.filter { $0 != nil } : names
    }

    /// The name that a layout gives an image; `nil` where it gives none that could be one.
    private static func name(of descriptor: BlobDescriptor, fallback: String) -> String? {
        // docker's builder puts the whole name there and only the tag into the standard's annotation.
        if let full = descriptor.annotations["io.containerd.image.name"],
            let name = try? ImageReference.normalized(full)
        {
            return name
        }
        guard let reference = descriptor.annotations[MediaType.referenceName] else { return nil }
        // skopeo and umoci write the tag alone: `latest`, `3.19`, `v2`.
        let second = reference.dropFirst().first
        let isTag =
            reference == "latest" || reference.first?.isNumber == true
            || reference.first == "v" && second?.isNumber == true
        if isTag, !reference.contains("/"), !reference.contains(":") {
            return try? ImageReference.normalized("\(fallback):\(reference)")
        }
        return try? ImageReference.normalized(reference)
    }

    /// Looks for a manifest for a platform, also in nested indexes; `nil` for any of Linux.
    private func resolve(
        _ candidates: [BlobDescriptor],
        as name: String,
        for platform: Platform?,
        depth: Int,
        _ others: inout [String]
    ) throws(ImageError) -> Choice? {
        guard depth < 4 else { throw ImageError(.invalid, "\(place): indexes are nested more than 4 deep") }
        for descriptor in candidates {
            let isOther = platform.map { !descriptor.isFor($0) } ?? descriptor.isForAnotherSystem
            if isOther {
                if let other = descriptor.platform { others.append("\(other.os)/\(other.architecture)") }
                continue
            }
            if MediaType.isIndex(descriptor.mediaType) {
                let index: ImageIndex = try read(descriptor)
                if let choice = try resolve(index.manifests, as: name, for: platform, depth: depth + 1, &others) {
                    return choice
                }
                continue
            }
            guard MediaType.isManifest(descriptor.mediaType) else {
                throw ImageError(.unsupported, "\(place): media type \(descriptor.mediaType) is no image")
            }
            let image = try image(descriptor, name)
            let configuration = image.configuration
            let (os, architecture) = (platform?.os ?? Image.machine.os, platform?.architecture)
            guard configuration.os == os, architecture == nil || configuration.architecture == architecture else {
                others.append("\(configuration.os)/\(configuration.architecture)")
                continue
            }
            return Choice(descriptor: descriptor, image: image)
        }
        return nil
    }

    private func image(_ descriptor: BlobDescriptor, _ name: String) throws(ImageError) -> Image {
        let manifest: ImageManifest = try read(descriptor)
        if let type = manifest.mediaType, !MediaType.isManifest(type) {
            // A document that is one thing by its descriptor and another by itself, CVE-2021-41190.
            throw ImageError(.invalid, "\(place): manifest \(descriptor.digest) calls itself \(type)")
        }
        let kinds = [MediaType.config, "application/vnd.docker.container.image.v1+json"]
        guard kinds.contains(manifest.config.mediaType) else {
            throw ImageError(.unsupported, "\(place): no image but \(manifest.config.mediaType)")
        }
        for layer in manifest.layers {
            // Such as application/vnd.oci.image.layer.v1.tar+gzip.
            let words = layer.mediaType.split { $0 == "." || $0 == "+" }
            if words.contains("tar"), !words.contains("encrypted") { continue }
            throw ImageError(.unsupported, "\(place): layers of type \(layer.mediaType)")
        }
        let configuration: ImageConfiguration = try read(manifest.config)
        do throws(ImageError) {
            return try Image(name: name, digest: descriptor.digest, manifest: manifest, configuration: configuration)
        } catch {
            throw error.inside("\(place): manifest \(descriptor.digest)")
        }
    }

    // MARK: Blobs

    /// Opens a blob after a look at its size.
    func open(_ blob: BlobDescriptor) throws(ImageError) -> Descriptor {
        let file = try open("blobs/sha256/\(blob.digest.hex)")
        let status = try attempting(place) { () throws(SystemError) in try file.stat() }
        guard status.size == blob.size else {
            throw ImageError(.invalid, "\(place): blob \(blob.digest) has \(status.size) bytes instead of \(blob.size)")
        }
        return file
    }

    /// Reads a small blob and verifies it.
    func bytes(_ blob: BlobDescriptor) throws(ImageError) -> [UInt8] {
        guard blob.size <= LayoutSource.documentLimit else {
            throw ImageError(.invalid, "\(place): blob \(blob.digest) of \(blob.size) bytes is too big for a document")
        }
        let file = try open(blob)
        let bytes = try attempting(place) { () throws(SystemError) in
            try file.readAll(limit: LayoutSource.documentLimit, blob.digest.hex)
        }
        let digest = SHA256.digest(of: bytes)
        guard digest == blob.digest else {
            throw ImageError(.invalid, "\(place): blob \(blob.digest) is damaged: its content has digest \(digest)")
        }
        return bytes
    }

    private func read<Record: JSONRecord>(_ blob: BlobDescriptor) throws(ImageError) -> Record {
        try document("blob \(blob.digest)", try bytes(blob))
    }

    private func bytes(_ name: String) throws(ImageError) -> [UInt8] {
        let file = try open(name)
        return try attempting(place) { () throws(SystemError) in
            try file.readAll(limit: LayoutSource.documentLimit, name)
        }
    }

    private func document<Record: JSONRecord>(_ name: String, _ bytes: [UInt8]) throws(ImageError) -> Record {
        do throws(JSONError) {
            let json = try JSON(parsing: bytes)
            // The same CVE: readers disagree about a document that is both a manifest and an index.
            if json["manifests"] != nil, json["layers"] != nil {
                throw JSONError(place: "", reason: "has both manifests and layers")
            }
            return try Record(json: json)
        } catch {
            throw ImageError(.invalid, "\(place): \(name): \(error)")
        }
    }

    private func open(_ name: String) throws(ImageError) -> Descriptor {
        // Not blocking: a layout may hold a fifo. Links inside the layout are fine, links out of it are not.
        let flags = OpenFlags([.readOnly, .nonBlocking, .noControllingTerminal])
        let raw = folder.openRaw(name, flags, resolve: [.beneath, .noMagicLinks])
        switch -raw {
        case ENOENT, ENOTDIR: throw ImageError(.invalid, "\(place): no image layout: \(name) is missing")
        case EXDEV: throw ImageError(.invalid, "\(place): \(name) leads out of the layout")
        default: break
        }
        let file = Descriptor(
            owning: try attempting(place) { () throws(SystemError) in try check(raw, "open", name) })
        let kind = try attempting(place) { () throws(SystemError) in try file.stat().kind }
        guard kind == .regular else { throw ImageError(.invalid, "\(place): \(name) is no regular file") }
        return file
    }
}
