// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A content address, OCI image specification "descriptor.md": only `sha256:` and 64 lower-case digits.
public struct Digest: JSONCodable, Hashable, Sendable, CustomStringConvertible {
    /// The 64 digits.
    public let hex: String

    /// Parses `sha256:…`; `nil` for anything else, so that a digest can always be used as a file name.
    public init?(_ text: String) {
        let prefix = "sha256:"
        guard text.hasPrefix(prefix) else { return nil }
        self.init(hex: String(text.dropFirst(prefix.count)))
    }

    /// Takes the 64 digits alone.
    public init?(hex: String) {
        // By bytes: comparing Characters takes microseconds for each digest, and a start reads several.
        let isDigit = { (byte: UInt8) in
            UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || UInt8(ascii: "a")...UInt8(ascii: "f") ~= byte
        }
        guard hex.utf8.count == 64, hex.utf8.allSatisfy(isDigit) else { return nil }
        self.hex = hex
    }

    public init(json: JSON) throws(JSONError) {
        let text = try String(json: json)
        guard let digest = Digest(text) else {
            throw JSONError(place: "", reason: "\"\(text)\" is not a sha256 digest")
        }
        self = digest
    }

    public func write(to writer: inout JSONWriter) { writer.string(description) }

    public var description: String { "sha256:\(hex)" }
}

/// Points at a blob, OCI image specification "descriptor.md".
public struct BlobDescriptor: JSONRecord, Sendable, Equatable {
    public var mediaType = ""
    public var digest = BlobDescriptor.noDigest
    /// Bytes.
    public var size: Int64 = 0
    public var platform: Platform?
    public var annotations: [String: String] = [:]

    private static let noDigest: Digest = {
        guard let digest = Digest(hex: String(repeating: "0", count: 64)) else { preconditionFailure("64 zeros") }
        return digest
    }()

    public init() {}

    public init(mediaType: String, digest: Digest, size: Int64) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("mediaType", &mediaType)
        try visitor.required("digest", &digest)
        try visitor.required("size", &size)
        try visitor.field("platform", &platform)
        try visitor.field("annotations", &annotations)
    }
}

/// The machine that an image is for.
public struct Platform: JSONRecord, Sendable, Equatable {
    public var architecture = ""
    public var os = ""
    public var variant: String?

    public init() {}

    public init(architecture: String, os: String) {
        self.architecture = architecture
        self.os = os
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("architecture", &architecture)
        try visitor.required("os", &os)
        try visitor.field("variant", &variant)
    }
}

/// An image: its configuration and its layers, OCI image specification "manifest.md".
public struct ImageManifest: JSONRecord, Sendable, Equatable {
    public var schemaVersion = 2
    public var mediaType: String? = MediaType.manifest
    public var config = BlobDescriptor()
    /// Base first.
    public var layers: [BlobDescriptor] = []
    public var annotations: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("schemaVersion", &schemaVersion)
        try visitor.field("mediaType", &mediaType)
        try visitor.required("config", &config)
        try visitor.required("layers", &layers)
        try visitor.field("annotations", &annotations)
    }
}

/// A list of manifests, OCI image specification "image-index.md"; also a layout's `index.json`.
public struct ImageIndex: JSONRecord, Sendable, Equatable {
    public var schemaVersion = 2
    public var mediaType: String? = MediaType.index
    public var manifests: [BlobDescriptor] = []
    public var annotations: [String: String] = [:]

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("schemaVersion", &schemaVersion)
        try visitor.field("mediaType", &mediaType)
        try visitor.required("manifests", &manifests)
        try visitor.field("annotations", &annotations)
    }
}

/// Media types and annotation keys of the OCI image specification, and docker's for the same things.
public enum MediaType {
    public static let index = "application/vnd.oci.image.index.v1+json"
    public static let manifest = "application/vnd.oci.image.manifest.v1+json"
    public static let config = "application/vnd.oci.image.config.v1+json"
    public static let layerTar = "application/vnd.oci.image.layer.v1.tar"
    public static let layerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
    public static let layerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
    public static let dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"
    public static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    /// The annotation in a layout's index that names an image.
    public static let referenceName = "org.opencontainers.image.ref.name"
}
