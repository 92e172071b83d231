// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

extension ImageStore {
    /// Puts an image into a registry, under its own name or another one. Returns the digest that it has there. `terminal`:
    /// an open one, on which a bar may be shown for each layer.
    public func push(
        _ reference: String, to destination: String?, _ access: RegistryAccess, terminal: Int32? = nil
    ) throws(ImageError) -> (name: RegistryName, digest: Digest) {
        let image = try find(reference)
        let name = try RegistryName(destination ?? image.name)
        if name.digest != nil {
            throw ImageError(
                .invalid, "\(name) is a digest, which the registry finds out itself",
                hint: "zonectl image push \(reference) HOST/REPOSITORY:TAG")
        }
        let skopeo = try Skopeo(access)
        // The image as it is now: it may be removed meanwhile.
        let folder = try PullFolder(self, for: "push \(name) \(getProcessID())") {}
        defer { folder.remove() }
        for blob in image.manifest.layers + [image.manifest.config] {
            folder.link(blob, from: self)
            guard folder.has(blob) else {
                throw ImageError(.invalid, "image \(image.name): blob \(blob.digest) is missing")
            }
        }
        let bytes = try manifestBytes(image.digest)
        let type = image.manifest.mediaType ?? MediaType.manifest
        let descriptor = BlobDescriptor(mediaType: type, digest: image.digest, size: Int64(bytes.count))
        try folder.describe(descriptor, manifest: bytes, name: "image")
        let digestFile = "\(folder.path)/digest"
        try skopeo.copy(
            from: "oci:\(folder.path):image", to: name.transport(nil), registry: "dest",
            ["--digestfile", digestFile], of: name, terminal: terminal
        ) {}
        let text = try attempting("read what skopeo says") { () throws(SystemError) in try readHostFile(digestFile) }
        guard let digest = Digest(String(String(decoding: text, as: UTF8.self).prefix { !$0.isNewline })) else {
            throw ImageError(.invalid, "\(name): skopeo did not say the digest that it has now")
        }
        return (name, digest)
    }

    func manifestBytes(_ digest: Digest) throws(ImageError) -> [UInt8] {
        let file = blobPath(digest)
        return try attempting("read the image") { () throws(SystemError) in try readHostFile(file) }
    }
}
