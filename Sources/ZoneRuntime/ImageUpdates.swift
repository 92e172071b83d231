// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import Images
public import OCI

/// What `image update` has found.
public struct ImageUpdate: JSONRecord, Sendable, Equatable {
    public var name = ""
    public var from = ""
    /// The same where the registry has nothing newer.
    public var to = ""
    /// The zones that stand on another image than the name means now.
    public var zones: [String] = []

    public init() {}

    public var isNew: Bool { from != to }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("from", &from)
        try visitor.required("to", &to)
        try visitor.required("zones", &zones)
    }
}

/// Fetches what the names of images mean in their registries now. Zones stay where they are: ``ZoneUpdates`` moves them.
public struct ImageUpdates: Sendable {
    private let folders: ZoneFolders

    public init(_ folders: ZoneFolders) {
        self.folders = folders
    }

    /// `request` without a platform: the one that the image in the store is for.
    public func update(
        _ reference: String, _ request: PullSettings, progress: (PullProgress) -> Void
    ) throws(ZoneError) -> ImageUpdate {
        var result = ImageUpdate()
        try attemptingImage { () throws(ImageError) in
            if try RegistryName(reference).digest != nil {
                throw ImageError(.invalid, "image \(reference): a digest always means the same image")
            }
            let before = try folders.images.find(reference)
            var request = request
            if request.platform == nil { request.platform = before.platform }
            let after = try folders.images.pull(before.name, request, progress: progress)
            result.name = after.name
            result.from = before.digest.description
            result.to = after.digest.description
        }
        let store = ZoneStore(folders)
        let updates = ZoneUpdates(folders)
        result.zones = try updates.zones().filter { zone in
            // Removed meanwhile.
            guard let definition = (try? store.definition(of: zone)) ?? nil else { return false }
            return definition.image == result.name && updates.available(for: definition) != nil
        }
        return result
    }
}
