// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// A path that a zone has its own way, and that a new image has otherwise than the old one.
public struct KeptPath: JSONRecord, Sendable, Equatable {
    /// Absolute, in the zone.
    public var path = ""
    /// What the zone has done with it: `changed`, which stands for `added`, too, or `deleted`.
    public var zone = ZoneChange.Kind.changed
    /// What the new image has done with it since the old one.
    public var image = ZoneChange.Kind.changed

    public init() {}

    init(_ path: String, zone: ZoneChange.Kind, image: ZoneChange.Kind) {
        self.path = path
        self.zone = zone
        self.image = image
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("path", &path)
        try visitor.required("zone", &zone)
        try visitor.required("image", &image)
    }
}

/// Finds what of a new image stays hidden behind a zone's own changes. Only paths that the zone has changed are looked at,
/// so it takes as long as those are many, not as long as the images are large.
struct BaseComparison {
    private static let maximumDepth = 400

    private let old: LayerTree
    private let new: LayerTree
    private var found: [String: KeptPath] = [:]

    init(old: LayerTree, new: LayerTree) {
        self.old = old
        self.new = new
    }

    /// By path.
    var kept: [KeptPath] { found.values.sorted { $0.path < $1.path } }

    /// Looks at upper layers, topmost first, which are taken as one.
    mutating func add(_ layers: [LayerEntry]) throws(SystemError) {
        if layers.isEmpty { return }
        try add(try MergedDirectory(layers), [], depth: 0)
    }

    /// The same for what has changed in a root that is a copy.
    mutating func add(_ changes: [PlainComparison.Change]) {
        for change in changes where !change.isDirectory || !isDirectoryOrNothing(change.path) {
            note(change.path, zone: change.kind == .deleted ? .deleted : .changed)
        }
    }

    /// `path`: of the directory, with a slash at its end unless empty.
    private mutating func add(
        _ directory: MergedDirectory, _ path: [CChar], depth: Int
    ) throws(SystemError) {
        guard depth < BaseComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        _ = try directory.forEach { (name, found) throws(SystemError) in
            let whole = path + name
            guard let entry = found.entry else { return note(whole, zone: .deleted) }
            // Its data lie in the old image.
            if try entry.isReference() {
                throw SystemError("overlayfs has copied only the metadata of", "/" + whole.shown, .notSupported)
            }
            if let inner = try directory.directory(name, found), !inner.isOpaque, isDirectoryOrNothing(whole) {
                return try add(inner, path + name.dropLast() + [BaseComparison.slash], depth: depth + 1)
            }
            note(whole, zone: .changed)
        }
    }

    /// Whether what the new image has at a path is one with a directory of the zone's.
    private func isDirectoryOrNothing(_ path: [CChar]) -> Bool {
        guard let entry = BaseComparison.entry(path, in: new) else { return true }
        return (try? entry.kind()) == .directory
    }

    private mutating func note(_ path: [CChar], zone: ZoneChange.Kind) {
        guard let image = change(path, depth: 0) else { return }
        // What is gone from both is nobody's loss.
        if zone == .deleted, image == .deleted { return }
        let shown = "/" + path.shown
        found[shown] = KeptPath(shown, zone: zone, image: image)
    }

    /// How the new image differs from the old one at a path and below it; `nil` where it does not.
    private func change(_ path: [CChar], depth: Int) -> ZoneChange.Kind? {
        guard let before = BaseComparison.entry(path, in: old) else {
            return BaseComparison.entry(path, in: new) == nil ? nil : .added
        }
        guard let after = BaseComparison.entry(path, in: new) else { return .deleted }
        // What cannot be compared is told rather than passed over.
        return ((try? isSame(before.file, after.file, path, depth)) ?? false) ? nil : .changed
    }

    private func isSame(
        _ before: borrowing Descriptor, _ after: borrowing Descriptor, _ path: [CChar], _ depth: Int
    ) throws(SystemError) -> Bool {
        let first = try before.stat()
        let second = try after.stat()
        guard first.kind == second.kind, first.mode == second.mode, first.uid == second.uid, first.gid == second.gid
        else { return false }
        if first.kind != .directory, BaseComparison.isOneFile(first, second) { return true }
        guard try before.hasAttributes(of: after) else { return false }
        switch first.kind {
        case .regular:
            if first.size != second.size { return false }
            return try before.hasContent(of: after)
        case .symlink: return try before.readLink("") == after.readLink("")
        case .characterDevice, .blockDevice: return first.major == second.major && first.minor == second.minor
        case .fifo, .socket: return true
        case .directory:
            guard depth < BaseComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
            let names = Set(try old.directory(path)?.names() ?? [])
            guard names == Set(try new.directory(path)?.names() ?? []) else { return false }
            return names.allSatisfy { change(path.dropLast() + [BaseComparison.slash] + $0, depth: depth + 1) == nil }
        }
    }

    /// A layer that both images have.
    private static func isOneFile(_ first: FileStatus, _ second: FileStatus) -> Bool {
        first.inode == second.inode && first.device == second.device
    }

    /// What a path that ends with a NUL is; `nil` also where a part of it is a file or a link there.
    private static func entry(_ path: [CChar], in tree: LayerTree) -> LayerEntry? {
        (try? tree.entry(path)) ?? nil
    }

    private static let slash = CChar(bitPattern: UInt8(ascii: "/"))
}
