// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import ZoneRuntime

@Suite struct DiffTests {
    private func whiteout(_ path: String) -> Bool { mknod(path, S_IFCHR | 0o600, 0) == 0 }

    private func mark(_ path: String) throws {
        let folder = try Descriptor.open(path, [.path, .directory])
        var attributes = try FileAttributes(of: folder, try folder.stat())
        attributes.extended = [.init(name: "user.overlay.opaque", value: Array("y".utf8))]
        try EntryMaker(.exact).set(attributes, of: folder, .directory, path.utf8CString.map { $0 })
    }

    /// Layers as overlayfs leaves them.
    private func layers() throws -> TemporaryFolder? {
        let folder = try TemporaryFolder()
        for name in ["a", "d/x", "d/y", "d/z/deep", "gone", "file", "same/old", "was"] {
            try folder.write("lower/\(name)", "l")
        }
        for name in ["a", "d/x", "new/inner", "file/z", "same/more"] { try folder.write("upper/\(name)", "u") }
        // Kernels before 5.8 let only root make them.
        guard whiteout("\(folder.path)/upper/gone"), whiteout("\(folder.path)/upper/never") else { return nil }
        try mark("\(folder.path)/upper/d")
        return folder
    }

    @Test func tellsWhatOverlayfsHasNoted() throws {
        guard let folder = try layers() else { return }
        var comparison = LayerComparison(lower: try LayerTree(["\(folder.path)/lower"], .overlay))
        try comparison.add(try LayerEntry.open(["\(folder.path)/upper"], .overlay))
        let lines = comparison.changes.map { "\($0.change.letter) \($0.path)" }.sorted {
            $0.dropFirst(2) < $1.dropFirst(2)
        }
        #expect(
            lines == [
                "C /a", "C /d", "C /d/x", "D /d/y", "D /d/z", "C /file", "A /file/z", "D /gone", "A /new",
                "A /new/inner",
                "C /same", "A /same/more",
            ])
    }

    @Test func oneLayerUponAnotherStandsForBoth() throws {
        guard let folder = try layers() else { return }
        var transfer = TreeTransfer(.exact)
        let name = "both".utf8CString.map { $0 }
        try transfer.copy(
            try Descriptor.open("\(folder.path)/lower", [.path, .directory]), to: folder.descriptor, as: name)
        var second = TreeTransfer(.layer(.overlay))
        try second.copy(
            try Descriptor.open("\(folder.path)/upper", [.path, .directory]), to: folder.descriptor, as: name)
        #expect(try folder.read("both/a") == "u" && folder.read("both/was") == "l" && folder.read("both/file/z") == "u")
        #expect(folder.has("both/same/old") && folder.has("both/same/more"))
        #expect(!folder.has("both/d/y") && !folder.has("both/d/z"))
        for gone in ["gone", "never"] {
            #expect(LayerMarks.isWhiteout(try FileStatus.of("\(folder.path)/both/\(gone)", followLinks: false)))
        }
        let marked = try Descriptor.open("\(folder.path)/both/d", [.path, .directory])
        #expect(LayerMarks.isOpaque(try marked.extendedAttributes()))
    }
}
