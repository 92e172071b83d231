// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem
import Namespaces

/// The directory that a zone's `upper` and `work`, or a volume's `data`, are in: that of the zone or volume itself, a
/// folder of it that has a project quota, or the root of the file system in its image file, which is mounted for as long as
/// this value, or a zone, has it. Nobody sees that mount, and it goes with the last who has it, however that ends.
///
/// Whoever reads or writes these files on the host's side comes here, holding the lock of the zone or volume.
struct OwnFiles: ~Copyable {
    /// In a zone's or volume's folder: the image file, and the folder with a project quota.
    static let image = "storage.img"
    static let projectFolder = "storage"
    /// What overlayfs takes as `upperdir` when it is not mounted anywhere that has a path: clone_private_mount().
    private static let detachedUpper = KernelVersion(6, 15)

    let folder: Descriptor
    /// The directory's path, for as long as this value lives.
    let path: String
    private let place: String
    private let isImage: Bool

    /// `folder`: the zone's or volume's, which is at the path `place`.
    init(_ limit: StorageLimit?, in folder: borrowing Descriptor, at place: String) throws(SystemError) {
        self.place = place
        isImage = limit?.kind == .image
        self.folder = try OwnFiles.open(limit?.kind, in: folder, at: place)
        path =
            switch limit?.kind {
            case nil: place
            case .project: "\(place)/\(OwnFiles.projectFolder)"
            case .image: "/proc/self/fd/\(self.folder.raw)"
            }
    }

    private static func open(
        _ kind: StorageKind?, in folder: borrowing Descriptor, at place: String
    ) throws(SystemError) -> Descriptor {
        switch kind {
        case nil: try folder.open(".", [.path, .directory], resolve: .beneath)
        case .project: try folder.open(projectFolder, [.path, .directory, .noFollow], resolve: .beneath)
        case .image: try StorageImage.mount(in: folder, at: place)
        }
    }

    /// Gives up the directory's descriptor: the caller closes it.
    consuming func release() -> Descriptor { folder }

    /// The path of files that there may not be.
    static func path(of files: borrowing OwnFiles?) -> String? {
        switch files {
        case .some(let files): files.path
        case .none: nil
        }
    }

    /// Makes sure that all of it is on the disk.
    func sync() throws(SystemError) {
        // A descriptor of a mount is for its path only.
        try folder.open(".", [.readOnly, .directory], resolve: .beneath).sync()
    }

    /// Calls `body`, once, with a path by which overlayfs takes these files.
    func forOverlay<Result: ~Copyable>(
        _ body: (String) throws(ZoneError) -> Result
    ) throws(ZoneError) -> Result {
        guard isImage, KernelVersion.running < OwnFiles.detachedUpper else { return try body(path) }
        // In a namespace that nobody else is in; what is mounted there outlives it by who has it open.
        let copy = try attempting("mount \(place)/\(OwnFiles.image)") { () throws(SystemError) in
            let copy = try MountCopy.enter()
            let target = try Descriptor.open(place, [.path, .directory])
            try check(zn_move_mount(folder.raw, target.raw), "move_mount")
            return copy
        }
        let result = try body(place)
        copy.leave()
        return result
    }
}

extension ZoneStore {
    /// The files of a zone that is locked.
    func ownFiles(_ definition: ZoneDefinition, _ claim: borrowing Claim) throws(ZoneError) -> OwnFiles {
        try attempting("open the files of zone \(claim.name)") { () throws(SystemError) in
            try OwnFiles(definition.storageLimit, in: claim.persistent, at: folders.persistent(claim.name))
        }
    }

    /// The same of a zone that is not locked yet; the lock is held until the files are open. `nil` for one without a limit, whose
    /// files are in its folder.
    func limitedFiles(_ definition: ZoneDefinition) throws(ZoneError) -> OwnFiles? {
        if definition.storage == nil { return nil }
        let claim = try lock(definition.name)
        // It may have been changed before we had the lock.
        return try ownFiles(try self.definition(of: claim.name) ?? definition, claim)
    }
}
