// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// How far a pull has come.
public enum PullProgress: Sendable, Equatable {
    /// Another process fetches the same image.
    case waiting
    /// How many of the layers are not here yet, and their bytes.
    case found(layers: Int, missing: Int, bytes: Int64)
    case fetched(layer: Digest, bytes: Int64)
    case unpacking(ImportProgress)
}

/// What is to be pulled beyond a name.
public struct PullSettings: Sendable {
    /// Of the images for several machines; this machine's if `nil`.
    public var platform: Platform?
    public var access = RegistryAccess()
    /// An open terminal on which a bar may be shown for each layer.
    public var terminal: Int32?

    public init() {}
}

extension ImageStore {
    /// Fetches an image from a registry. Blobs that are here are not fetched again; one that is pulled by a digest alone has
    /// no name but this. A pull that fails or is killed changes nothing, and the next one goes on where it was.
    public func pull(
        _ reference: String, _ request: PullSettings, progress: (PullProgress) -> Void
    ) throws(ImageError) -> Image {
        let name = try RegistryName(reference)
        let skopeo = try Skopeo(request.access)
        let platform = request.platform ?? Image.machine
        let key = "\(name) \(platform.os)/\(platform.architecture)/\(platform.variant ?? "")"
        let folder = try PullFolder(self, for: key) { progress(.waiting) }
        do throws(ImageError) {
            let image = try pull(name, platform, by: skopeo, into: folder, request.terminal, progress)
            folder.remove()
            return image
        } catch {
            // Blobs may be the fault, or what fills the disk; otherwise they are kept for the next try.
            if error.isOfBlobs || folder.isEmpty { folder.remove() }
            throw error
        }
    }

    private func pull(
        _ name: RegistryName, _ platform: Platform, by skopeo: Skopeo, into folder: PullFolder, _ terminal: Int32?,
        _ progress: (PullProgress) -> Void
    ) throws(ImageError) -> Image {
        let found = try RemoteManifest.find(name, platform, by: skopeo)
        let layers = found.layers
        for blob in layers + [found.manifest.config] { folder.link(blob, from: self) }
        let missing = layers.filter { !folder.has($0) }
        let total = missing.reduce(0) { $0 &+ $1.size }
        progress(.found(layers: layers.count, missing: missing.count, bytes: total))
        if !missing.isEmpty || !folder.has(found.manifest.config) {
            var reported: [Digest] = []
            func reportWhole() {
                for layer in missing where !reported.contains(layer.digest) && folder.has(layer) {
                    reported.append(layer.digest)
                    progress(.fetched(layer: layer.digest, bytes: layer.size))
                }
            }
            // What the registry has is kept as it is; what skopeo makes of its manifest is not used.
            try skopeo.copy(
                from: name.transport(found.descriptor.digest), to: "oci:\(folder.path):image", registry: "src",
                ["--dest-oci-accept-uncompressed-layers"], of: name, terminal: terminal,
                meanwhile: reportWhole)
            reportWhole()
        }
        try folder.describe(found.descriptor, manifest: found.bytes, name: name.listed)
        let layout = try folder.layout("\(name)")
        let choice = try layout.choose(name.listed, fallback: name.repository, for: platform)
        let source = found.source
        return try change { (transaction) throws(ImageError) in
            try transaction.take(choice, of: layout, linkable: folder.blobsPath) { progress(.unpacking($0)) }
            try transaction.record(
                choice.descriptor, name: name.listed, platform: choice.image.platform, source: source)
            if name.listed != nil { return choice.image }
            return try Image(
                name: nil, digest: choice.image.digest, manifest: choice.image.manifest,
                configuration: choice.image.configuration)
        }
    }
}

/// A manifest as a registry has it.
struct RemoteManifest {
    let descriptor: BlobDescriptor
    let bytes: [UInt8]
    let manifest: ImageManifest
    /// The digest of what the name means: the manifest, or the list that it is in.
    let source: Digest

    /// Each layer once.
    var layers: [BlobDescriptor] {
        var seen: Set<Digest> = []
        return manifest.layers.filter { seen.insert($0.digest).inserted }
    }

    /// Fetches what `name` means, and chooses from a list what is for `platform`.
    static func find(_ name: RegistryName, _ platform: Platform, by skopeo: Skopeo) throws(ImageError) -> RemoteManifest
    {
        var bytes = try skopeo.document(name)
        let source = SHA256.digest(of: bytes)
        var digest = source
        for _ in 0..<4 {
            let json = try parsing(bytes, digest, name) { (bytes) throws(JSONError) in try JSON(parsing: bytes) }
            if json["manifests"] == nil {
                let manifest = try parsing(json, digest, name) { (json) throws(JSONError) in
                    guard json["layers"] != nil else {
                        throw JSONError(place: "", reason: "is of an old form that has no layers by digest")
                    }
                    return try ImageManifest(json: json)
                }
                let type = manifest.mediaType ?? MediaType.manifest
                return RemoteManifest(
                    descriptor: BlobDescriptor(mediaType: type, digest: digest, size: Int64(bytes.count)), bytes: bytes,
                    manifest: manifest, source: source)
            }
            let index = try parsing(json, digest, name) { (json) throws(JSONError) in try ImageIndex(json: json) }
            guard let chosen = index.manifests.first(where: { $0.isFor(platform) }) else {
                let others = index.manifests.compactMap(\.platform).filter { $0.os != "unknown" }
                throw ImageError(
                    .unsupported,
                    "image \(name): there is none for \(platform.os)/\(platform.architecture), only for "
                        + others.map { "\($0.os)/\($0.architecture)" }.joined(separator: ", "))
            }
            digest = chosen.digest
            bytes = try skopeo.document(name, digest: digest)
        }
        throw ImageError(.invalid, "\(name): indexes are nested more than 4 deep")
    }

    private static func parsing<Text, Value>(
        _ text: Text, _ digest: Digest, _ name: RegistryName, _ parse: (Text) throws(JSONError) -> Value
    ) throws(ImageError) -> Value {
        do throws(JSONError) { return try parse(text) } catch {
            throw ImageError(.invalid, "\(name): manifest \(digest): \(error)")
        }
    }
}
