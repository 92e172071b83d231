// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a zone, or a snapshot of one, has changed, as a layer: where overlayfs works that is there as `upper`, and of a root
/// that is a copy it is found out when it is wanted.
struct ZoneChangesLayer {
    /// Of the layer; there may be none yet, or none at all, of a zone that has never run.
    let path: String
    /// The folder that it is in.
    let folder: String
    private let own: String
    let isWhole: Bool

    /// `own`: the folder that holds the zone's files, see ``OwnTree``.
    init(at own: String) {
        self.own = own
        isWhole = OwnTree(at: own) == .whole
        folder = isWhole ? "\(own)/\(PlainRoot.changesFolder)" : own
        path = "\(folder)/upper"
    }

    /// Whether there is one, or will be.
    var isThere: Bool { isWhole || (try? FileStatus.of(path, followLinks: false))?.kind == .directory }

    /// Makes sure that it is there, as far as it can be; the zone must stand still until ``end()``. `layers`: what it lies
    /// upon.
    func find(upon layers: [String], _ marks: LayerMarks) throws(ZoneError) {
        guard isWhole else { return }
        try attempting("find what has changed") { () throws(SystemError) in
            let files = try Descriptor.open(own, [.readOnly, .directory])
            try PlainRoot.writeChanges(in: files, upon: try LayerTree(layers, marks), marks)
        }
    }

    func end() {
        guard isWhole, let files = try? Descriptor.open(own, [.readOnly, .directory]) else { return }
        PlainRoot.removeChanges(in: files)
    }
}
