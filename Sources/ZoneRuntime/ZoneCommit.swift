// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import Images
import LinuxSystem

/// Makes an image of what a zone has become.
public struct ZoneCommit: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// The new image is the zone's image with the zone's changes as one more layer, and those that a linked clone stands on
    /// as others. A zone that runs is frozen while they are read.
    public func commit(
        _ name: String, as image: String, comment: String?, author: String?
    ) throws(ZoneError) -> Image {
        let claim = try store.lock(try store.find(name).name)
        let definition = try store.definition(of: claim.name, for: "commit")
        let base = try ZoneLifecycle(store).image(of: definition)
        var folders = try store.bases(of: definition).all.reversed() as [String]
        let own = try store.ownFiles(definition, claim)
        let layer = ZoneChangesLayer(at: own.path)
        defer {
            layer.end()
            claim.unlock()
        }
        if layer.isThere { folders.append(layer.path) }
        let below = try store.layers(of: definition)
        let marks = store.folders.marks
        var note = CommitNote()
        note.created = PointInTime.rfc3339(FileStatus.now / 1_000_000_000)
        note.comment = comment
        note.author = author
        var refusal: ZoneError?
        do throws(ImageError) {
            let changes = ZoneChanges(store)
            return try store.folders.images.commit(on: base, changes: folders, name: image, note: note) {
                (body) throws(ImageError) in
                var failure: ImageError?
                do throws(ZoneError) {
                    try changes.whileFrozen(claim, for: "commit") { () throws(ZoneError) in
                        try layer.find(upon: below, marks)
                        do throws(ImageError) { try body() } catch { failure = error }
                    }
                } catch {
                    refusal = error
                    throw ImageError(.system, error.detail)
                }
                if let failure { throw failure }
            }
        } catch {
            throw refusal ?? ZoneError(error).inside("commit zone \(claim.name)")
        }
    }
}
