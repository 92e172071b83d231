// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a folder of a zone's, or of a snapshot's, holds of the zone's files.
enum OwnTree: String, CaseIterable {
    /// All of them: see ``PlainRoot``.
    case whole = "root"
    /// What differs from the image: an overlay's upper layer.
    case changes = "upper"

    /// `nil` where there is nothing, as of a zone that has never run.
    init?(in folder: borrowing Descriptor) {
        for tree in OwnTree.allCases where (try? folder.status(tree.rawValue))?.kind == .directory {
            self = tree
            return
        }
        return nil
    }

    /// The same of a folder at a path of the host's.
    init?(at path: String) {
        guard let folder = try? Descriptor.open(path, [.path, .directory]) else { return nil }
        self.init(in: folder)
    }

    /// Copies a zone's files from one folder to another, where they are called the same. Of a zone that has never run an
    /// `upper` without anything in it is made.
    static func copy(
        from source: borrowing Descriptor, to target: borrowing Descriptor, _ policy: CopyPolicy
    ) throws(SystemError) {
        guard let tree = OwnTree(in: source) else {
            return try target.ensureDirectory(OwnTree.changes.rawValue, mode: 0o755)
        }
        let files = try source.open(tree.rawValue, [.path, .directory, .noFollow], resolve: .beneath)
        var transfer = TreeTransfer(tree == .whole ? .exact : policy)
        try transfer.copy(files, to: target, as: tree.rawValue.utf8CString.map { $0 })
    }
}

extension ZoneStore {
    /// `overlay`, or `copy` for a root that is a copy of the image's files; `nil` where it would take a mount to find out.
    public func rootKind(of definition: ZoneDefinition) -> String? {
        let place = folders.persistent(definition.name)
        switch definition.storageLimit?.kind {
        case nil: return OwnTree(at: place) == .whole ? "copy" : "overlay"
        case .project: return OwnTree(at: "\(place)/\(OwnFiles.projectFolder)") == .whole ? "copy" : "overlay"
        case .image: return nil
        }
    }
}
