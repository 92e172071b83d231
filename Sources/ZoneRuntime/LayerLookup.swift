// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Looks paths up in an image's layers, as they will be in the zone, without mounting them.
struct LayerLookup {
    private let tree: LayerTree?

    /// `layers`: their directories, topmost first.
    init(_ layers: [String], _ marks: LayerMarks) {
        tree = try? LayerTree(layers, marks)
    }

    /// As many links as the kernel follows, path_resolution(7).
    private static let mostLinks = 40

    /// The path without links; `nil` where the image has nothing there.
    func resolve(_ path: String) -> String? {
        var rest = path.pathComponents
        var done: [String] = []
        var links = 0
        while !rest.isEmpty {
            let part = rest.removeFirst()
            if part == "." { continue }
            if part == ".." {
                _ = done.popLast()
                continue
            }
            switch find((done + [part]).joined(separator: "/")) {
            case .nothing: return nil
            case .file: done.append(part)
            case .link(let text):
                links += 1
                if links > LayerLookup.mostLinks { return nil }
                if text.isAbsolutePath { done = [] }
                rest = text.pathComponents + rest
            }
        }
        return done.absolutePath
    }

    private enum Found {
        case nothing, file
        case link(String)
    }

    private func find(_ path: String) -> Found {
        // What cannot be looked up is not there.
        guard let tree, let file = try? tree.entry(path.utf8CString.map { $0 }), let kind = try? file.kind() else {
            return .nothing
        }
        guard kind == .symlink else { return .file }
        return (try? file.file.readLink("")).map { .link($0) } ?? .nothing
    }
}
