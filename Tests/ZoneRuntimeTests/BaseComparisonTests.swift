// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import ZoneRuntime

@Suite struct BaseComparisonTests {
    /// Two images and what a zone has changed.
    private func folders() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        for name in [
            "same", "differs", "unseen", "d/same", "d/differs", "gone", "hidden/a", "hidden/b/c", "fixed/a", "type",
        ] {
            try folder.write("old/\(name)", "old")
            if name != "gone", name != "type" {
                try folder.write("new/\(name)", ["same", "d/same", "fixed/a"].contains(name) ? "old" : "new")
            }
        }
        try folder.write("new/added", "new")
        try folder.write("new/type/now", "a folder")
        for name in ["same", "differs", "d/same", "d/differs", "gone", "added", "own", "type", "d/own"] {
            try folder.write("upper/\(name)", "zone")
        }
        return folder
    }

    private func compare(_ folder: TemporaryFolder, _ layers: [String] = ["upper"]) throws -> [KeptPath] {
        var comparison = BaseComparison(
            old: try LayerTree(["\(folder.path)/old"], .overlay), new: try LayerTree(["\(folder.path)/new"], .overlay))
        try comparison.add(try LayerEntry.open(layers.map { "\(folder.path)/\($0)" }, .overlay))
        return comparison.kept
    }

    @Test func tellsWhatTheTwoImagesHaveOtherwise() throws {
        let kept = try compare(try folders())
        #expect(kept.map(\.path) == ["/added", "/d/differs", "/differs", "/gone", "/type"])
        #expect(kept.map(\.image) == [.added, .changed, .changed, .deleted, .changed])
        #expect(kept.allSatisfy { $0.zone == .changed })
    }

    @Test func whatAZoneHasRemovedIsToldOnce() throws {
        let folder = try folders()
        for name in ["hidden", "fixed", "same", "unseen", "gone"] {
            _ = unlink("\(folder.path)/upper/\(name)")
            // Kernels before 5.8 let only root make them.
            guard mknod("\(folder.path)/upper/\(name)", S_IFCHR | 0o600, 0) == 0 else { return }
        }
        let deleted = try compare(folder).filter { $0.zone == .deleted }
        #expect(deleted.map(\.path) == ["/hidden", "/unseen"] && deleted.allSatisfy { $0.image == .changed })
    }

    @Test func modeAndLinkCount() throws {
        let folder = try folders()
        #expect(chmod("\(folder.path)/new/same", 0o700) == 0 && chmod("\(folder.path)/old/same", 0o600) == 0)
        for side in ["old", "new"] { #expect(symlink(side, "\(folder.path)/\(side)/link") == 0) }
        try folder.write("upper/link", "zone")
        #expect(try compare(folder).map(\.path).filter { ["/same", "/link"].contains($0) } == ["/link", "/same"])
    }

    @Test func aFolderOverWhatIsNoneAnyMore() throws {
        let folder = try folders()
        try folder.write("old/way/file", "old")
        #expect(symlink("d", "\(folder.path)/new/way") == 0)
        try folder.write("upper/way/file", "zone")
        #expect(try compare(folder).contains(KeptPath("/way", zone: .changed, image: .changed)))
    }

    @Test func theTopmostLayerCounts() throws {
        let folder = try folders()
        guard mknod("\(folder.path)/upper/hidden", S_IFCHR | 0o600, 0) == 0 else { return }
        try folder.write("base/hidden/a", "base")
        try folder.write("base/unseen", "base")
        let kept = try compare(folder, ["upper", "base"])
        #expect(kept.contains(KeptPath("/hidden", zone: .deleted, image: .changed)))
        #expect(kept.contains(KeptPath("/unseen", zone: .changed, image: .changed)))
    }
}
