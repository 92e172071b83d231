// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import OCI
import ZoneRuntime

/// `zonectl image inspect NAME…`
enum ImageInspectCommand {
    static let command = Command(
        names: ["image inspect"], group: .images, operands: "NAME…",
        summary: "Show all that is known of images, as JSON",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ImageNames.require(arguments.operands, for: "image inspect")
        let store = context.folders.images
        let all = try asZoneError { () throws(ImageError) in try store.list() }
        let found = try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            let image = try asZoneError { () throws(ImageError) in try store.find(name) }
            return ImageDetail(image, names: all.filter { $0.digest == image.digest }.map(\.name))
        }
        try Output.json(found.results)
        return found.exitCode
    }
}

/// An image as `image inspect` shows it.
struct ImageDetail: JSONRecord {
    var name = ""
    var names: [String] = []
    var digest = ""
    var size: Int64 = 0
    var created: String?
    var os = ""
    var architecture = ""
    var variant: String?
    var layers: [Layer] = []
    var config = ImageConfiguration.Execution()

    init() {}

    init(_ image: Image, names: [String]) {
        name = image.name
        self.names = names
        digest = "\(image.digest)"
        size = image.size
        created = image.created
        os = image.platform.os
        architecture = image.platform.architecture
        variant = image.platform.variant
        layers = image.layers.map(Layer.init)
        config = image.configuration.config ?? .init()
    }

    struct Layer: JSONRecord {
        var digest = ""
        var size: Int64 = 0
        var mediaType = ""
        var diffID = ""

        init() {}

        init(blob: BlobDescriptor, content: Digest) {
            digest = "\(blob.digest)"
            size = blob.size
            mediaType = blob.mediaType
            diffID = "\(content)"
        }

        mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("digest", &digest)
            try visitor.required("size", &size)
            try visitor.required("mediaType", &mediaType)
            try visitor.required("diffID", &diffID)
        }
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("names", &names)
        try visitor.required("digest", &digest)
        try visitor.required("size", &size)
        try visitor.field("created", &created)
        try visitor.required("os", &os)
        try visitor.required("architecture", &architecture)
        try visitor.field("variant", &variant)
        try visitor.required("layers", &layers)
        try visitor.required("config", &config)
    }
}
