// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Looks paths up in an image's layers, as they will be in the zone, without mounting them.
struct LayerLookup {
    /// Their directories, topmost first.
    let layers: [String]

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
        for layer in layers {
            // What a layer has not, or has behind links, is another layer's to say.
            guard let folder = try? Descriptor.open(layer, [.path, .directory]),
                let file = try? folder.open(path, [.path, .noFollow], resolve: [.beneath, .noSymlinks]),
                let status = try? file.stat()
            else { continue }
            switch status.kind {
            case .symlink: return (try? file.readLink("")).map { .link($0) } ?? .nothing
            // A whiteout, which overlayfs makes of what an upper layer has removed.
            case .characterDevice where status.major == 0 && status.minor == 0: return .nothing
            default: return .file
            }
        }
        return .nothing
    }
}
