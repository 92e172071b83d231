// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// A member's path as a place in the layer: relative, without `.`, `..` or doubled slashes.
///
/// Names are bytes, ended by a NUL for system calls: an archive may hold names that are not UTF-8.
struct LayerPath: Hashable {
    /// `a/b` of `a/b/c`; `.` for what lies in the layer's root.
    let parent: [CChar]
    /// The last part; `.` for the root itself.
    let name: [CChar]

    /// The deepest a member may lie.
    static let maximumDepth = 512

    /// Cleans an archive's path. Leading slashes go, as tar removes them; `..` is refused even where it would stay
    /// inside, because no tool writes it.
    init(_ path: [UInt8]) throws(ImageError) {
        guard !path.isEmpty else { throw ImageError(.invalid, "a member without a name") }
        guard path.count < PATH_MAX else {
            throw ImageError(.invalid, "\(TarEntry.shown(path))…: a name of \(path.count) bytes")
        }
        var parts: [ArraySlice<UInt8>] = []
        for part in path.split(separator: UInt8(ascii: "/")) where part != [UInt8(ascii: ".")] {
            if part == [UInt8(ascii: "."), UInt8(ascii: ".")] {
                throw ImageError(.invalid, "\(TarEntry.shown(path)): leads out of the layer with \"..\"")
            }
            guard part.count <= NAME_MAX else {
                throw ImageError(.invalid, "\(TarEntry.shown(path)): a part of the name has \(part.count) bytes")
            }
            parts.append(part)
        }
        guard parts.count <= LayerPath.maximumDepth else {
            throw ImageError(.invalid, "\(TarEntry.shown(path))…: lies \(parts.count) directories deep")
        }
        let last = parts.popLast()
        name = LayerPath.terminated(last.map { Array($0) } ?? [UInt8(ascii: ".")])
        parent = LayerPath.terminated(
            parts.isEmpty ? [UInt8(ascii: ".")] : Array(parts.joined(separator: [UInt8(ascii: "/")])))
    }

    private init(parent: [CChar], name: [CChar]) {
        self.parent = parent
        self.name = name
    }

    /// Whether this is the layer's root.
    var isRoot: Bool { name == LayerPath.root }

    /// `.`, for system calls.
    static let root: [CChar] = terminated([UInt8(ascii: ".")])

    /// The whole path, for system calls.
    var whole: [CChar] {
        if parent == LayerPath.root { return name }
        return parent.dropLast() + [CChar(bitPattern: UInt8(ascii: "/"))] + name
    }

    /// The parent's own place; `nil` for what lies in the root, and for the root.
    var up: LayerPath? {
        parent == LayerPath.root ? nil : LayerPath(splitting: parent)
    }

    /// Splits a path that was made by ``whole`` or is a ``parent``.
    init(splitting whole: [CChar]) {
        guard let slash = whole.lastIndex(of: CChar(bitPattern: UInt8(ascii: "/"))) else {
            self.init(parent: LayerPath.root, name: whole)
            return
        }
        self.init(parent: whole[..<slash] + [0], name: Array(whole[(slash + 1)...]))
    }

    /// The same parent with another last part.
    func sibling(_ name: some Collection<UInt8>) -> LayerPath {
        LayerPath(parent: parent, name: LayerPath.terminated(Array(name)))
    }

    /// The last part's bytes, without the NUL.
    var nameBytes: [UInt8] { name.dropLast().map { UInt8(bitPattern: $0) } }

    /// For people.
    var shown: String { TarEntry.shown(whole.dropLast().map { UInt8(bitPattern: $0) }) }

    static func terminated(_ bytes: [UInt8]) -> [CChar] {
        bytes.map { CChar(bitPattern: $0) } + [0]
    }
}

/// What an OCI layer says by a file's name, image specification "layer.md", "Whiteouts".
enum LayerMark: Equatable {
    /// An ordinary member.
    case none
    /// The directory hides everything below it in lower layers.
    case opaque
    /// This name of lower layers is gone.
    case whiteout([UInt8])
    /// A file of aufs's own.
    case ignored

    init(_ path: LayerPath) throws(ImageError) {
        let mark = Array(".wh.".utf8)
        let inner = Array(".wh..wh.".utf8)
        let parents = path.parent.dropLast().map { UInt8(bitPattern: $0) }.split(separator: UInt8(ascii: "/"))
        for parent in parents where parent.starts(with: mark) {
            guard parent.starts(with: inner) else {
                throw ImageError(.invalid, "\(path.shown): lies below a whiteout")
            }
            self = .ignored
            return
        }
        let name = path.nameBytes
        guard name.starts(with: mark) else {
            self = .none
            return
        }
        if name == Array(".wh..wh..opq".utf8) {
            self = .opaque
        } else if name.starts(with: inner) {
            self = .ignored
        } else {
            let target = Array(name.dropFirst(mark.count))
            guard !target.isEmpty, target != Array(".".utf8), target != Array("..".utf8) else {
                throw ImageError(.invalid, "\(path.shown): a whiteout that names nothing in its directory")
            }
            self = .whiteout(target)
        }
    }
}
