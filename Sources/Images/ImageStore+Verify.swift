// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// Something of an image's that is not as it should be.
public struct ImageFault: Sendable, Equatable {
    /// The image's name.
    public let image: String
    /// Such as `blob sha256:… is missing`.
    public let detail: String
}

extension ImageStore {
    /// Reads every blob of every image and compares it with its digest, and looks whether every layer is unpacked. `look` is
    /// called with each image's name before that. Changes nothing, and keeps nobody from changing the store meanwhile.
    public func verify(_ look: (String) -> Void = { _ in }) throws(ImageError) -> [ImageFault] {
        var faults: [ImageFault] = []
        var known: [Digest: String?] = [:]
        for descriptor in try readIndex()?.manifests ?? [] {
            let name = descriptor.annotations[MediaType.referenceName] ?? descriptor.digest.description
            look(name)
            var details: [String] = []
            var documents = [descriptor]
            var layers: [Digest] = []
            do throws(ImageError) {
                let image = try load(descriptor)
                layers = image.chainIDs
                if image.digest != descriptor.digest {
                    documents.append(BlobDescriptor(mediaType: "", digest: image.digest, size: -1))
                }
                documents += [image.manifest.config] + image.manifest.layers
            } catch {
                details.append("\(error)")
            }
            for blob in documents {
                let fault = known[blob.digest] ?? fault(of: blob)
                known[blob.digest] = .some(fault)
                if let fault { details.append(fault) }
            }
            for layer in layers where (try? FileStatus.of("\(path)/layers/\(layer.hex)"))?.kind != .directory {
                details.append("layer \(layer.hex) is not unpacked")
            }
            // Somebody may have removed it meanwhile, and its blobs with it.
            let isListed = try readIndex()?.manifests.contains { $0.digest == descriptor.digest } ?? false
            if isListed { faults += details.map { ImageFault(image: name, detail: $0) } }
        }
        return faults
    }

    /// What is wrong with a blob; `nil` where nothing is. A negative size is not compared.
    private func fault(of blob: BlobDescriptor) -> String? {
        do throws(SystemError) {
            let file = try Descriptor.open(blobPath(blob.digest), [.readOnly, .noFollow])
            let size = try file.stat().size
            if blob.size >= 0, size != blob.size {
                return "blob \(blob.digest) has \(size) bytes instead of \(blob.size)"
            }
            var hash = SHA256()
            while true {
                let bytes = try file.read(upTo: 1 << 20)
                if bytes.isEmpty { break }
                bytes.withUnsafeBytes { hash.update($0) }
            }
            let digest = hash.finish()
            return digest == blob.digest ? nil : "blob \(blob.digest) is damaged: its content has digest \(digest)"
        } catch {
            return error.errno == .noEntry ? "blob \(blob.digest) is missing" : "blob \(blob.digest): \(error)"
        }
    }
}
