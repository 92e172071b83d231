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
        guard let definition = try store.definition(of: entry.name) else {
            throw ZoneError(
                .unsupported, "diff: zone \(entry.name) is an engine's, or its making was interrupted",
                hint: "only zones made from images have their changes apart")
        }
        let own = try store.limitedFiles(definition)
        var overlay = try store.overlay(of: definition)
        if let path = OwnFiles.path(of: own) { overlay = overlay.with(own: path) }
        do throws(SystemError) {
            let upper: Descriptor
            do throws(SystemError) {
                upper = try Descriptor.open("\(overlay.zone)/upper", [.path, .directory, .noFollow])
            } catch {
                // It has never run.
                if error.errno == .noEntry { return [] }
                throw error
            }
            var comparison = LayerComparison(lower: try overlay.mountForReading(own: false))
            try comparison.add(upper)
            return comparison.changes.sorted { $0.path < $1.path }
        } catch {
            throw ZoneError("look at the changes of zone \(entry.name)", error)
        }
    }
}

/// Compares an upper layer with what lies below it.
struct LayerComparison: ~Copyable {
    private static let maximumDepth = 400

    private let lower: Descriptor
    private(set) var changes: [ZoneChange] = []

    /// `lower`: a directory that shows everything below the upper layer.
    init(lower: consuming Descriptor) {
        self.lower = lower
    }

    mutating func add(_ upper: borrowing Descriptor) throws(SystemError) {
        try add(upper, [], hidesLower: OverlayMarks.isOpaque(try upper.extendedAttributes()), depth: 0)
    }

    /// `path`: of the directory, with a slash at its end unless empty. `hidesLower`: nothing below shows through.
    private mutating func add(
        _ directory: borrowing Descriptor, _ path: [CChar], hidesLower: Bool, depth: Int
    ) throws(SystemError) {
        guard depth < LayerComparison.maximumDepth else { throw SystemError("compare", path.shown, .loop) }
        var names: Set<[CChar]> = []
        for name in try directory.rawEntries() {
            // A zone that runs may remove it meanwhile.
            guard let entry = try directory.openEntry(name) else { continue }
            names.insert(name)
            let whole = path + name
            let shown = "/" + whole.shown
            let status = try entry.stat()
            let before = below(whole)
            if OverlayMarks.isWhiteout(status) {
                if before != nil { changes.append(ZoneChange(shown, .deleted)) }
                continue
            }
            changes.append(ZoneChange(shown, before == nil ? .added : .changed))
            guard status.kind == .directory else { continue }
            let attributes = try entry.extendedAttributes()
            // What was a file, or a directory of another name, has nothing of this name below.
            let isOpaque = hidesLower || before != .directory || OverlayMarks.isOpaque(attributes)
            try add(entry, path + name.dropLast() + [slash], hidesLower: isOpaque, depth: depth + 1)
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

    static func value(_ name: String, in attributes: [ExtendedAttribute]) -> [UInt8]? {
        attributes.first { $0.name == "trusted.overlay.\(name)" || $0.name == "user.overlay.\(name)" }?.value
    }
}
