// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images

/// Removes images that no zone is made from.
public struct ImageRemoval: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Removes an image; one that a zone still needs is refused, as its layers are that zone's root.
    public func remove(_ reference: String) throws(ZoneError) {
        let image: Image
        do throws(ImageError) { image = try store.folders.images.find(reference) } catch { throw ZoneError(error) }
        for entry in try store.list() {
            // One that cannot be read may need any image.
            let definition = try store.definition(of: entry.name)
            guard let definition else { continue }
            var digests = [definition.imageDigest]
            for snapshot in try store.snapshots(of: entry.name) {
                digests.append(try store.definition(of: entry.name, at: snapshot.name).imageDigest)
            }
            guard digests.contains(image.digest) else { continue }
            throw ZoneError(
                .wrongState, "image \(image.name) is used by zone \(entry.name)",
                hint: "remove the zone first: zonectl rm \(entry.name)")
        }
        do throws(ImageError) { try store.folders.images.remove(reference) } catch { throw ZoneError(error) }
    }
}
