// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// Finds what a zone has changed in a root that is a copy, by comparing it with the layers that it was copied from.
///
/// What has the size and the time of the layer's file and has not been touched since the copy is taken for the same without a
/// look at its content.
struct PlainComparison: ~Copyable {
    struct Change {
        /// With a NUL at its end.
        let path: [CChar]
        let kind: ZoneChange.Kind
        let isDirectory: Bool
    }

    private static let maximumDepth = 400
    private static let slash = CChar(bitPattern: UInt8(ascii: "/"))

    private let root: Descriptor
    private let lower: LayerTree
    private let madeAt: Int64?
    /// A directory comes before what is in it.
    private(set) var changes: [Change] = []

    init(of own: borrowing Descriptor, with lower: LayerTree) throws(SystemError) {
        root = try own.open(PlainRoot.folder, [.readOnly, .directory, .noFollow], resolve: .beneath)
        self.lower = lower
        madeAt = PlainRoot.madeAt(own)
    }

    mutating func run() throws(SystemError) {
        let top = try root.reopen([.readOnly, .directory])
        _ = try compare(top, lower.root, [], depth: 0)
    }

    /// `path`: of the directory, with a slash at its end unless empty. `below`: what the layers have there, `nil` for nothing.
    /// Returns whether anything in it has changed.
    private mutating func compare(
        _ directory: borrowing Descriptor, _ below: MergedDirectory?, _ path: [CChar], depth: Int
    ) throws(SystemError) -> Bool {
        guard depth < PlainComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        let count = changes.count
        var names: Set<[CChar]> = []
        for name in try directory.entriesIfThere() {
            // A zone that runs may remove it meanwhile.
            guard let entry = try directory.openEntry(name) else { continue }
            names.insert(name)
            try compare(entry, name, in: below, path, depth)
        }
        for name in try below?.names() ?? [] where !names.contains(name) {
            changes.append(Change(path: path + name, kind: .deleted, isDirectory: false))
        }
        return changes.count > count
    }

    private mutating func compare(
        _ entry: borrowing Descriptor, _ name: [CChar], in below: MergedDirectory?, _ path: [CChar], _ depth: Int
    ) throws(SystemError) {
        let status = try entry.stat()
        let place = changes.count
        var inner: MergedDirectory?
        var kind: ZoneChange.Kind? = .added
        if let below, let found = try below.find(name), let before = found.entry {
            kind = try before.isSame(as: entry, status, madeAt) ? nil : .changed
            if status.kind == .directory { inner = try below.directory(name, found) }
        }
        if status.kind == .directory {
            let isChanged = try compare(
                entry, inner, path + name.dropLast() + [PlainComparison.slash], depth: depth + 1)
            if isChanged, kind == nil { kind = .changed }
        }
        guard let kind else { return }
        changes.insert(Change(path: path + name, kind: kind, isDirectory: status.kind == .directory), at: place)
    }

    // MARK: As a layer

    /// Writes the changes as a layer that lies upon what the root was copied from.
    consuming func write(
        to folder: borrowing Descriptor, as name: String, _ marks: LayerMarks
    ) throws(SystemError) {
        let maker = EntryMaker(.exact)
        try folder.makeDirectory(name, mode: 0o700)
        let layer = try folder.open(name, [.readOnly, .directory], resolve: .beneath)
        for change in changes {
            let (parent, last) = PlainComparison.split(change.path)
            if LayerMarks.isReserved(last) {
                throw SystemError(
                    "make a layer of", "/\(change.path.shown), whose name would mean that something is gone",
                    .notSupported)
            }
            let target = try PlainComparison.open(parent, in: layer)
            if change.kind == .deleted {
                try marks.hide(last, in: target)
                continue
            }
            let source = try PlainComparison.open(parent, in: root)
            guard let entry = try source.openEntry(last) else { continue }
            try PlainComparison.verify(entry, change.path)
            if change.isDirectory {
                try check(zn_mkdirat(target.raw, last, 0o700), "mkdir", change.path.shown)
            } else if zn_linkat(source.raw, last, target.raw, last, 0) < 0 {
                // As many names as a file may have, or a file system without hard links.
                var transfer = TreeTransfer(.exact)
                try transfer.copy(entry, to: target, as: last)
            }
        }
        // From the innermost on, as what is made in a directory changes its time.
        for change in changes.reversed() where change.kind != .deleted {
            try PlainComparison.settle(change.path, from: root, to: layer, maker)
        }
        let attributes = try FileAttributes(of: root, try root.stat())
        try maker.set(attributes, of: layer, .directory, name.utf8CString.map { $0 })
    }

    /// Refuses what would mean something else in a layer: zones with such a root may make it.
    private static func verify(_ entry: borrowing Descriptor, _ path: [CChar]) throws(SystemError) {
        let status = try entry.stat()
        var isMark = LayerMarks.isWhiteout(status)
        if status.kind == .directory { isMark = try entry.extendedAttributes().contains(where: LayerMarks.isOverlayfs) }
        guard isMark else { return }
        throw SystemError(
            "make a layer of", "/\(path.shown), which overlayfs would take for a mark of its own", .notSupported)
    }

    private static func settle(
        _ path: [CChar], from root: borrowing Descriptor, to layer: borrowing Descriptor, _ maker: EntryMaker
    ) throws(SystemError) {
        guard let made = try layer.openEntry(path), try made.stat().kind == .directory,
            let entry = try root.openEntry(path)
        else { return }
        try maker.set(try FileAttributes(of: entry, try entry.stat()), of: made, .directory, path)
    }

    /// A path's directory, empty for the root, and its last name; both end with a NUL.
    private static func split(_ path: [CChar]) -> ([CChar], [CChar]) {
        guard let end = path.lastIndex(of: slash) else { return ([], path) }
        return (path[..<end] + [0], Array(path[(end + 1)...]))
    }

    private static func open(_ path: [CChar], in root: borrowing Descriptor) throws(SystemError) -> Descriptor {
        if path.isEmpty { return try root.open(".", [.path, .directory], resolve: .beneath) }
        guard let found = try root.openEntry(path) else { throw SystemError("open", path.shown, .noEntry) }
        return found
    }
}

extension LayerEntry {
    /// Whether a copy is what it was copied from. `madeAt`: when the copy was made, where that is known.
    fileprivate func isSame(
        as copy: borrowing Descriptor, _ status: FileStatus, _ madeAt: Int64?
    ) throws(SystemError) -> Bool {
        let before = try file.stat()
        guard before.kind == status.kind, before.mode == status.mode, before.uid == status.uid,
            before.gid == status.gid, before.modified == status.modified
        else { return false }
        let isUntouched = madeAt.map { status.changed < $0 } ?? false
        switch status.kind {
        case .regular:
            if before.size != status.size { return false }
            if isUntouched { return true }
            guard try copy.hasAttributes(of: file) else { return false }
            return try copy.hasContent(of: file)
        case .symlink: return try file.linkText() == copy.linkText()
        case .characterDevice, .blockDevice: return before.major == status.major && before.minor == status.minor
        case .directory: return isUntouched ? true : try copy.hasAttributes(of: file)
        case .fifo, .socket: return true
        }
    }
}
