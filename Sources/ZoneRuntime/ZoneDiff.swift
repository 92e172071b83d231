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
        let all = try store.layers(of: definition)
        do throws(SystemError) {
            let marks = store.folders.marks
            let lower = try LayerTree(Array(all.dropFirst(bases.own.count)), marks)
            let changes: [ZoneChange]
            if PlainRoot.exists(in: own.folder) {
                var comparison = try PlainComparison(of: own.folder, with: lower)
                try comparison.run()
                changes = comparison.changes.map { ZoneChange("/" + $0.path.shown, $0.kind) }
            } else {
                var comparison = LayerComparison(lower: lower)
                try comparison.add(try LayerEntry.open(["\(own.path)/upper"] + bases.own, marks))
                changes = comparison.changes
            }
            return changes.sorted { $0.path < $1.path }
        } catch {
            throw ZoneError("look at the changes of zone \(entry.name)", error)
        }
    }
}

/// Compares upper layers, taken as one, with what lies below them.
struct LayerComparison {
    private static let maximumDepth = 400

    private let lower: LayerTree
    private(set) var changes: [ZoneChange] = []

    /// `lower`: everything below the upper layers.
    init(lower: LayerTree) {
        self.lower = lower
    }

    /// `layers`: topmost first.
    mutating func add(_ layers: [LayerEntry]) throws(SystemError) {
        if layers.isEmpty { return }
        let root = try MergedDirectory(layers)
        try add(root, lower.root, [], hidesLower: root.isOpaque, depth: 0)
    }

    /// `lower`: what lies below the directory, `nil` for none. `path`: its, with a slash at its end unless empty. `hidesLower`:
    /// nothing of that shows through.
    private mutating func add(
        _ directory: MergedDirectory, _ lower: MergedDirectory?, _ path: [CChar], hidesLower: Bool, depth: Int
    ) throws(SystemError) {
        guard depth < LayerComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        let names = try directory.forEach { (name, found) throws(SystemError) in
            let whole = path + name
            let shown = "/" + whole.shown
            let below = try lower?.find(name)
            let before = try below?.entry?.kind()
            guard let kind = try found.entry?.kind() else {
                if before != nil { changes.append(ZoneChange(shown, .deleted)) }
                return
            }
            changes.append(ZoneChange(shown, before == nil ? .added : .changed))
            guard kind == .directory, let inner = try directory.directory(name, found) else { return }
            // What was a file, or a directory of another name, has nothing of this name below.
            let isOpaque = hidesLower || before != .directory || inner.isOpaque
            let next = if let lower, let below { try lower.directory(name, below) } else { nil as MergedDirectory? }
            try add(inner, next, path + name.dropLast() + [slash], hidesLower: isOpaque, depth: depth + 1)
        }
        guard hidesLower, let lower else { return }
        // What lay in a directory that was removed and made again.
        for name in try lower.names() where !names.contains(name) {
            changes.append(ZoneChange("/" + (path + name).shown, .deleted))
        }
    }

    private let slash = CChar(bitPattern: UInt8(ascii: "/"))
}

/// What overlayfs notes in an upper layer beside what is gone from the lower ones (``LayerMarks``).
enum OverlayMarks {
    /// A mark as this user's overlays have it.
    static func mark(_ name: String) -> ExtendedAttribute {
        ExtendedAttribute(name: "\(Rootless.isInside ? "user" : "trusted").overlay.\(name)", value: Array("y".utf8))
    }

    static func value(_ name: String, in attributes: [ExtendedAttribute]) -> [UInt8]? {
        attributes.first { $0.name == "trusted.overlay.\(name)" || $0.name == "user.overlay.\(name)" }?.value
    }
}
