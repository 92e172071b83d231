// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// A path of a zone's that is no longer as the zone began.
public struct ZoneChange: JSONRecord, Sendable, Equatable {
    public enum Kind: String, JSONCodable, CaseIterable, Sendable {
        case added, changed, deleted

        /// As docker writes it.
        public var letter: String {
            switch self {
            case .added: "A"
            case .changed: "C"
            case .deleted: "D"
            }
        }
    }

    /// Absolute, in the zone.
    public var path = ""
    public var change = Kind.changed

    public init() {}

    init(_ path: String, _ change: Kind) {
        self.path = path
        self.change = change
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("path", &path)
        try visitor.required("change", &change)
    }
}

/// Finds what a zone has changed, from the overlay's upper layer, which holds that and nothing else.
public struct ZoneDiff: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Returns the changes, sorted by path. A directory in which something changed counts as changed.
    public func changes(of name: String) throws(ZoneError) -> [ZoneChange] {
        let entry = try store.find(name)
        // Not of what has nothing to lock.
        _ = try store.definition(of: entry.name, for: "diff")
        // No layer is frozen or folded meanwhile.
        let claim = try store.lock(entry.name)
        defer { claim.unlock() }
        let definition = try store.definition(of: entry.name, for: "diff")
        let own = try store.ownFiles(definition, claim)
        // A linked clone began as what it stands on.
        let bases = try store.bases(of: definition)
        let overlay = try store.overlay(of: definition)
        let lower = OverlayRoot(
            layers: Array(overlay.layers.dropFirst(bases.own.count)), store: overlay.store, zone: overlay.zone)
        do throws(SystemError) {
            let layers = try LayerFolder.open(["\(own.path)/upper"] + bases.own)
            if layers.isEmpty { return [] }
            var comparison = LayerComparison(lower: try lower.mountForReading(own: false))
            try comparison.add(layers)
            return comparison.changes.sorted { $0.path < $1.path }
        } catch {
            throw ZoneError("look at the changes of zone \(entry.name)", error)
        }
    }
}

/// Compares upper layers, taken as one, with what lies below them.
struct LayerComparison: ~Copyable {
    private static let maximumDepth = 400

    private let lower: Descriptor
    private(set) var changes: [ZoneChange] = []

    /// `lower`: a directory that shows everything below the upper layer.
    init(lower: consuming Descriptor) {
        self.lower = lower
    }

    /// `layers`: topmost first.
    mutating func add(_ layers: [LayerFolder]) throws(SystemError) {
        let root = try LayerFolder.Merged(layers)
        try add(root, [], hidesLower: root.isOpaque, depth: 0)
    }

    /// `path`: of the directory, with a slash at its end unless empty. `hidesLower`: nothing below shows through.
    private mutating func add(
        _ directory: LayerFolder.Merged, _ path: [CChar], hidesLower: Bool, depth: Int
    ) throws(SystemError) {
        guard depth < LayerComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        let names = try directory.forEach { (entry, name, rest) throws(SystemError) in
            let whole = path + name
            let shown = "/" + whole.shown
            let status = try entry.stat()
            let before = below(whole)
            if OverlayMarks.isWhiteout(status) {
                if before != nil { changes.append(ZoneChange(shown, .deleted)) }
                return
            }
            changes.append(ZoneChange(shown, before == nil ? .added : .changed))
            guard status.kind == .directory else { return }
            let inner = try LayerFolder.Merged(entry, name, over: rest)
            // What was a file, or a directory of another name, has nothing of this name below.
            let isOpaque = hidesLower || before != .directory || inner.isOpaque
            try add(inner, path + name.dropLast() + [slash], hidesLower: isOpaque, depth: depth + 1)
        }
        if hidesLower { try addHidden(in: path, names) }
    }

    /// What lay in a directory that was removed and made again.
    private mutating func addHidden(in path: [CChar], _ names: Set<[CChar]>) throws(SystemError) {
        guard below(path + [0]) == .directory else { return }
        let folder = try lower.open((path + [0]).shown, [.path, .directory, .noFollow], resolve: .beneath)
        for name in try folder.rawEntries() where !names.contains(name) {
            changes.append(ZoneChange("/" + (path + name).shown, .deleted))
        }
    }

    /// What lies below at a path, `nil` for nothing.
    private func below(_ path: [CChar]) -> FileStatus.Kind? {
        if path == [0] { return .directory }
        // What cannot be looked up because a part of the path is a file there, is not there.
        guard let entry = try? lower.openEntry(path) else { return nil }
        return try? entry.stat().kind
    }

    private let slash = CChar(bitPattern: UInt8(ascii: "/"))
}

/// How overlayfs marks in an upper layer what is gone from the lower ones.
enum OverlayMarks {
    /// A name that is gone.
    static func isWhiteout(_ status: FileStatus) -> Bool {
        status.kind == .characterDevice && status.major == 0 && status.minor == 0
    }

    /// A directory through which nothing below shows. An ordinary user's marks are in user.*.
    static func isOpaque(_ attributes: [ExtendedAttribute]) -> Bool {
        value("opaque", in: attributes) == Array("y".utf8)
    }

    static func isMark(_ name: String) -> Bool {
        name.hasPrefix("trusted.overlay.") || name.hasPrefix("user.overlay.")
    }

    /// A mark as this user's overlays have it.
    static func mark(_ name: String) -> ExtendedAttribute {
        ExtendedAttribute(name: "\(Rootless.isInside ? "user" : "trusted").overlay.\(name)", value: Array("y".utf8))
    }

    static func value(_ name: String, in attributes: [ExtendedAttribute]) -> [UInt8]? {
        attributes.first { $0.name == "trusted.overlay.\(name)" || $0.name == "user.overlay.\(name)" }?.value
    }
}
