// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// A directory of a layer's, open for its path at least.
final class LayerFolder {
    let folder: Descriptor

    init(_ folder: consuming Descriptor) {
        self.folder = folder
    }

    /// The upper layers at these paths; those that are not there, as a zone that has never run has none, are left out.
    static func open(_ paths: [String]) throws(SystemError) -> [LayerFolder] {
        var layers: [LayerFolder] = []
        for path in paths {
            do throws(SystemError) {
                layers.append(LayerFolder(try Descriptor.open(path, [.path, .directory, .noFollow])))
            } catch {
                if error.errno != .noEntry { throw error }
            }
        }
        return layers
    }

    /// A directory as several layers show it, topmost first, down to the one through which nothing below shows.
    struct Merged {
        var folders: [LayerFolder]
        var isOpaque: Bool

        /// Layers' roots.
        init(_ layers: [LayerFolder]) throws(SystemError) {
            folders = []
            isOpaque = false
            for layer in layers where !isOpaque {
                folders.append(layer)
                isOpaque = OverlayMarks.isOpaque(try layer.folder.extendedAttributes())
            }
        }

        /// What the layers show under a name where the topmost that has it has a directory, `entry`. `rest`: those below.
        init(
            _ entry: consuming Descriptor, _ name: [CChar], over rest: ArraySlice<LayerFolder>
        ) throws(SystemError) {
            isOpaque = OverlayMarks.isOpaque(try entry.extendedAttributes())
            folders = [LayerFolder(entry)]
            for layer in rest where !isOpaque {
                guard let below = try layer.folder.openEntry(name) else { continue }
                // What was a file there, or removed, hides what is further below.
                guard try below.stat().kind == .directory else {
                    isOpaque = true
                    return
                }
                isOpaque = OverlayMarks.isOpaque(try below.extendedAttributes())
                folders.append(LayerFolder(below))
            }
        }

        /// Calls `body` with what each name is in the topmost layer that has it, and the layers below that. Returns the
        /// names.
        func forEach(
            _ body: (consuming Descriptor, [CChar], ArraySlice<LayerFolder>) throws(SystemError) -> Void
        ) throws(SystemError) -> Set<[CChar]> {
            var names: Set<[CChar]> = []
            for (number, layer) in folders.enumerated() {
                for name in try layer.folder.rawEntries() where !names.contains(name) {
                    // A zone that runs may remove it meanwhile.
                    guard let entry = try layer.folder.openEntry(name) else { continue }
                    names.insert(name)
                    try body(entry, name, folders[(number + 1)...])
                }
            }
            return names
        }
    }
}
