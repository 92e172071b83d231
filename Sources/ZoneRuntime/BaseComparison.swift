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
struct BaseComparison: ~Copyable {
    private static let maximumDepth = 400

    private let old: Descriptor
    private let new: Descriptor
    private var found: [String: KeptPath] = [:]

    /// `old`, `new`: directories that show all of the two images.
    init(old: consuming Descriptor, new: consuming Descriptor) {
        self.old = old
        self.new = new
    }

    /// By path.
    var kept: [KeptPath] { found.values.sorted { $0.path < $1.path } }

    /// Looks at upper layers, topmost first, which are taken as one.
    mutating func add(_ layers: [LayerFolder]) throws(SystemError) {
        try add(try LayerFolder.Merged(layers), [], depth: 0)
    }

    /// `path`: of the directory, with a slash at its end unless empty.
    private mutating func add(
        _ directory: LayerFolder.Merged, _ path: [CChar], depth: Int
    ) throws(SystemError) {
        guard depth < BaseComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        _ = try directory.forEach { (entry, name, rest) throws(SystemError) in
            let whole = path + name
            let status = try entry.stat()
            if OverlayMarks.isWhiteout(status) {
                note(whole, zone: .deleted)
                return
            }
            // Its data lie in the old image.
            if OverlayMarks.value("metacopy", in: try entry.extendedAttributes()) != nil {
                throw SystemError("overlayfs has copied only the metadata of", "/" + whole.shown, .notSupported)
            }
            if status.kind == .directory {
                let inner = try LayerFolder.Merged(entry, name, over: rest)
                if !inner.isOpaque, isDirectoryOrNothing(whole) {
                    return try add(inner, path + name.dropLast() + [BaseComparison.slash], depth: depth + 1)
                }
            }
            note(whole, zone: .changed)
        }
    }

    /// Whether what the new image has at a path is one with a directory of the zone's.
    private func isDirectoryOrNothing(_ path: [CChar]) -> Bool {
        guard let entry = BaseComparison.entry(path, in: new) else { return true }
        return (try? entry.stat().kind) == .directory
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
        return ((try? isSame(before, after, path, depth)) ?? false) ? nil : .changed
    }

    private func isSame(
        _ before: borrowing Descriptor, _ after: borrowing Descriptor, _ path: [CChar], _ depth: Int
    ) throws(SystemError) -> Bool {
        let first = try before.stat()
        let second = try after.stat()
        guard first.kind == second.kind, first.mode == second.mode, first.uid == second.uid, first.gid == second.gid
        else { return false }
        if first.kind != .directory, BaseComparison.isOneFile(first, second) { return true }
        guard try attributes(before) == attributes(after) else { return false }
        switch first.kind {
        case .regular:
            if first.size != second.size { return false }
            return try hasSameContent(before, after)
        case .symlink: return try before.readLink("") == after.readLink("")
        case .characterDevice, .blockDevice: return first.major == second.major && first.minor == second.minor
        case .fifo, .socket: return true
        case .directory:
            guard depth < BaseComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
            let names = Set(try before.reopen([.readOnly, .directory]).rawEntries())
            guard names == Set(try after.reopen([.readOnly, .directory]).rawEntries()) else { return false }
            return names.allSatisfy { change(path.dropLast() + [BaseComparison.slash] + $0, depth: depth + 1) == nil }
        }
    }

    /// A layer that both images have shows its files' own inodes.
    private static func isOneFile(_ first: FileStatus, _ second: FileStatus) -> Bool {
        first.inode == second.inode && first.changed == second.changed && first.modified == second.modified
            && first.size == second.size
    }

    private func attributes(_ file: borrowing Descriptor) throws(SystemError) -> [String: [UInt8]] {
        var values: [String: [UInt8]] = [:]
        for attribute in try file.extendedAttributes() { values[attribute.name] = attribute.value }
        return values
    }

    private func hasSameContent(
        _ before: borrowing Descriptor, _ after: borrowing Descriptor
    ) throws(SystemError) -> Bool {
        let first = try before.reopen([.readOnly])
        let second = try after.reopen([.readOnly])
        while true {
            let bytes = try first.read(upTo: 1 << 17)
            if try bytes != second.read(upTo: 1 << 17) { return false }
            if bytes.isEmpty { return true }
        }
    }

    /// What a path that ends with a NUL is; `nil` also where a part of it is a file or a link there.
    private static func entry(_ path: [CChar], in root: borrowing Descriptor) -> Descriptor? {
        (try? root.openEntry(path)) ?? nil
    }

    private static let slash = CChar(bitPattern: UInt8(ascii: "/"))
}
