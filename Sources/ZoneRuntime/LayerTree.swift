// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Something in a layer, its root or what has a name there, open for its path at least.
final class LayerEntry {
    let file: Descriptor
    let marks: LayerMarks

    init(_ file: consuming Descriptor, _ marks: LayerMarks) {
        self.file = file
        self.marks = marks
    }

    /// The layers at these paths; those that are not there, as a zone that has never run has no changes, are left out.
    static func open(_ paths: [String], _ marks: LayerMarks) throws(SystemError) -> [LayerEntry] {
        var layers: [LayerEntry] = []
        for path in paths {
            do throws(SystemError) {
                layers.append(LayerEntry(try Descriptor.open(path, [.path, .directory, .noFollow]), marks))
            } catch {
                if error.errno != .noEntry { throw error }
            }
        }
        return layers
    }

    func kind() throws(SystemError) -> FileStatus.Kind { try file.stat().kind }

    /// Whether nothing of the layers below shows through this directory.
    func isOpaque() throws(SystemError) -> Bool { try marks.isOpaque(file) }

    /// Whether overlayfs has left the content further below (metacopy).
    func isReference() throws(SystemError) -> Bool {
        OverlayMarks.value("metacopy", in: try file.extendedAttributes()) != nil
    }

    /// What a layer says about a name.
    enum Word {
        case nothing, gone
        case entry(LayerEntry)
    }

    func word(on name: [CChar]) throws(SystemError) -> Word {
        if let entry = try file.openEntry(name) {
            return LayerMarks.isWhiteout(try entry.stat()) ? .gone : .entry(LayerEntry(entry, marks))
        }
        guard case .names = marks else { return .nothing }
        do throws(SystemError) {
            return try file.openEntry(LayerMarks.file(hiding: name)) == nil ? .nothing : .gone
        } catch {
            // Nothing can have hidden a name to which no more letters can be added.
            guard error.errno == .nameTooLong else { throw error }
            return .nothing
        }
    }

    /// The names that this directory says anything about.
    fileprivate func names() throws(SystemError) -> [[CChar]] {
        var names: [[CChar]] = []
        for name in try file.entriesIfThere() {
            switch marks.meaning(of: name) {
            case .itself: names.append(name)
            case .hides(let hidden): names.append(hidden)
            case .opaque: break
            }
        }
        return names
    }
}

/// A directory as several layers show it.
struct MergedDirectory {
    /// Topmost first, down to the one through which nothing below shows.
    private(set) var folders: [LayerEntry] = []
    private(set) var isOpaque = false

    /// Layers' roots.
    init(_ layers: [LayerEntry]) throws(SystemError) {
        for layer in layers where !isOpaque {
            folders.append(layer)
            isOpaque = try layer.isOpaque()
        }
    }

    /// What the layers show under a name.
    struct Found {
        /// `nil` for what is gone.
        let entry: LayerEntry?
        fileprivate let below: ArraySlice<LayerEntry>
    }

    /// `nil` where no layer says anything about the name.
    func find(_ name: [CChar]) throws(SystemError) -> Found? {
        for (number, layer) in folders.enumerated() {
            switch try layer.word(on: name) {
            case .nothing: continue
            case .gone: return Found(entry: nil, below: [])
            case .entry(let entry): return Found(entry: entry, below: folders[(number + 1)...])
            }
        }
        return nil
    }

    /// The directory that was found under a name.
    func directory(_ name: [CChar], _ found: Found) throws(SystemError) -> MergedDirectory? {
        guard let top = found.entry, try top.kind() == .directory else { return nil }
        var merged = try MergedDirectory([top])
        for layer in found.below where !merged.isOpaque { try merged.add(try layer.word(on: name)) }
        return merged
    }

    private mutating func add(_ word: LayerEntry.Word) throws(SystemError) {
        switch word {
        case .nothing: break
        case .gone: isOpaque = true
        case .entry(let entry):
            // What was a file there hides what is further below.
            guard try entry.kind() == .directory else { return isOpaque = true }
            folders.append(entry)
            isOpaque = try entry.isOpaque()
        }
    }

    /// Calls `body` with each name that a layer says anything about, and returns those names.
    func forEach(_ body: ([CChar], Found) throws(SystemError) -> Void) throws(SystemError) -> Set<[CChar]> {
        var names: Set<[CChar]> = []
        for layer in folders {
            for name in try layer.names() where names.insert(name).inserted {
                // A zone that runs may remove it meanwhile.
                if let found = try find(name) { try body(name, found) }
            }
        }
        return names
    }

    /// The names that are there.
    func names() throws(SystemError) -> [[CChar]] {
        var names: [[CChar]] = []
        _ = try forEach { (name, found) throws(SystemError) in if found.entry != nil { names.append(name) } }
        return names
    }
}

/// Layers looked at together, without mounting them: what a zone's root is, or would be.
struct LayerTree {
    let root: MergedDirectory
    private static let slash = CChar(bitPattern: UInt8(ascii: "/"))

    /// Topmost first; those that are not there are left out.
    init(_ layers: [String], _ marks: LayerMarks) throws(SystemError) {
        root = try MergedDirectory(try LayerEntry.open(layers, marks))
    }

    /// What is at a path that ends with a NUL, without following links; `nil` also where a part of it is no directory.
    func entry(_ path: [CChar]) throws(SystemError) -> LayerEntry? {
        var parts = LayerTree.parts(path)
        guard let last = parts.popLast() else { return root.folders.first }
        return try directory(parts)?.find(last)?.entry
    }

    /// The directory at a path, `nil` where there is none.
    func directory(_ path: [CChar]) throws(SystemError) -> MergedDirectory? { try directory(LayerTree.parts(path)) }

    private func directory(_ parts: [[CChar]]) throws(SystemError) -> MergedDirectory? {
        var folder = root
        for part in parts {
            guard let found = try folder.find(part), let next = try folder.directory(part, found) else { return nil }
            folder = next
        }
        return folder
    }

    private static func parts(_ path: [CChar]) -> [[CChar]] {
        path.dropLast().split(separator: slash).map { Array($0) + [0] }
    }
}
