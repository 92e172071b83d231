// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// An image's manifest and configuration in one small file, kept by name.
///
/// With it a start reads one file instead of three and does not parse the list of all images, which grows with their
/// number. It is a cache: valid only as long as the list is the very file it was made from, and written again when not.
struct ResolvedImage: JSONRecord {
    /// What the list of images looked like.
    private var list = ""
    private var digest: Digest?
    private var manifest = ImageManifest()
    private var configuration = ImageConfiguration()

    init() {}

    private init(list: String, _ image: Image) {
        self.list = list
        digest = image.digest
        manifest = image.manifest
        configuration = image.configuration
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("list", &list)
        try visitor.field("digest", &digest)
        try visitor.required("manifest", &manifest)
        try visitor.required("configuration", &configuration)
    }

    static let folder = ".resolved"

    /// Returns the image of this normalised name, `nil` where nothing valid is kept.
    static func load(_ name: String, list: FileStatus, in store: ImageStore) -> Image? {
        // Whatever is wrong with the file, the slow way finds out what is right.
        guard let bytes = try? readHostFile("\(store.path)/images/\(folder)/\(fileName(name))"),
            let known = try? ResolvedImage(parsing: bytes), known.list == stamp(list), let digest = known.digest
        else { return nil }
        return try? Image(name: name, digest: digest, manifest: known.manifest, configuration: known.configuration)
    }

    /// Keeps an image that was found while the list looked like this. Fails silently: who may not write loses only time.
    static func save(_ image: Image, list: FileStatus, in store: ImageStore) {
        let name = fileName(image.name)
        // Times go by the clock's tick: a list that changed just now may change again without showing it.
        guard name.utf8.count < 240, FileStatus.now - list.changed > 100_000_000 else { return }
        let record = ResolvedImage(list: stamp(list), image).serialized()
        let temporary = ".\(getProcessID())"
        do throws(SystemError) {
            let images = try Descriptor.open("\(store.path)/images", [.path, .directory])
            try images.ensureDirectory(folder, mode: 0o700)
            let folder = try images.open(folder, [.path, .directory], resolve: .beneath)
            let file = try folder.open(
                temporary, [.writeOnly, .create, .truncate, .noFollow], mode: 0o600, resolve: .beneath)
            try file.writeAll(record)
            try folder.rename(temporary, to: name)
        } catch {}
    }

    private static func stamp(_ list: FileStatus) -> String {
        "\(list.device) \(list.inode) \(list.size) \(list.changed)"
    }

    /// A name may hold slashes, and never a comma.
    private static func fileName(_ name: String) -> String {
        String(decoding: name.utf8.map { $0 == UInt8(ascii: "/") ? UInt8(ascii: ",") : $0 }, as: UTF8.self)
    }
}
