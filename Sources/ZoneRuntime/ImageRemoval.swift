// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import Images
import OCI

/// Removes images that no zone is made from.
public struct ImageRemoval: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Removes an image's name. With the last one goes the image; one that a zone still needs is refused, as its layers are
    /// that zone's root.
    public func remove(_ reference: String) throws(ZoneError) {
        let image: Image
        do throws(ImageError) { image = try store.folders.images.find(reference) } catch { throw ZoneError(error) }
        var failure: ZoneError?
        var users: [Digest: String] = [:]
        let isRemoved = try attemptingImage { () throws(ImageError) in
            try store.folders.images.remove(reference) { look(&users, &failure) }
        }
        if let failure { throw failure }
        if isRemoved { return GuestImages.tidy(store) }
        let zone = users[image.digest] ?? ""
        throw ZoneError(
            .wrongState, "image \(image.name) is used by zone \(zone)",
            hint: "remove the zone first: zonectl rm \(zone)")
    }

    /// Removes images without a name, or all, except those that zones are made from.
    public func prune(all: Bool) throws(ZoneError) -> PrunedImages {
        var failure: ZoneError?
        var users: [Digest: String] = [:]
        let pruned = try attemptingImage { () throws(ImageError) in
            try store.folders.images.prune(all: all) { look(&users, &failure) }
        }
        if let failure { throw failure }
        GuestImages.tidy(store)
        return pruned
    }

    /// What the store takes of the disk, and how much of it no zone needs.
    public func usage() throws(ZoneError) -> [StoreUsage] {
        let used = Set(try users().keys)
        return try attemptingImage { () throws(ImageError) in try store.folders.images.usage(inUse: used) }
    }

    private func look(_ users: inout [Digest: String], _ failure: inout ZoneError?) -> Set<Digest>? {
        do throws(ZoneError) {
            users = try self.users()
            return Set(users.keys)
        } catch {
            failure = error
            return nil
        }
    }

    /// The digests that zones are made from, each with a zone that is.
    private func users() throws(ZoneError) -> [Digest: String] {
        var users: [Digest: String] = [:]
        for name in try store.names() {
            // One that cannot be read may need any image.
            guard let definition = try store.definition(of: name) else { continue }
            if let digest = definition.imageDigest { users[digest] = name }
            for snapshot in try store.snapshots(of: name) {
                if let digest = try store.definition(of: name, at: snapshot.name).imageDigest { users[digest] = name }
            }
        }
        return users
    }
}
