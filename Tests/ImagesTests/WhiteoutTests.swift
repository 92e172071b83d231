// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("Whiteouts", .enabled(if: isRoot, "needs root"))
struct WhiteoutTests {
    private let fixture: StoreFixture
    private let base = TarFixture.make {
        $0.add("etc/", "5", mode: 0o750, uid: 3, gid: 4)
        $0.add("etc/a", "0", "a")
        $0.add("etc/b", "0", "b")
        $0.add("folder/", "5")
        $0.add("folder/old", "0", "old")
        $0.add("tmp/", "5", mode: 0o1777)
    }

    init() throws {
        fixture = try StoreFixture()
    }

    /// Stacks a layer on the base and returns its directory.
    private func stack(_ fill: (inout TarFixture) -> Void) throws -> String {
        let layout = try LayoutFixture()
        try layout.image("test", [base, TarFixture.make(fill)], gzip: true)
        return try fixture.layer(try fixture.importImage(layout.path))
    }

    private func isWhiteout(_ path: String) -> Bool {
        (try? FileStatus.of(path, followLinks: false)).map(LayerMarks.isWhiteout) == true
    }

    private func isOpaque(_ path: String) -> Bool {
        attribute("trusted.overlay.opaque", of: path) == Array("y".utf8)
    }

    @Test("A name that is gone, and a directory that hides")
    func both() throws {
        let layer = try stack {
            $0.add("etc/.wh.a", "0")
            $0.add("folder/", "5")
            $0.add("folder/.wh..wh..opq", "0")
            $0.add("folder/new", "0", "new")
            $0.add(".wh..wh.plnk/1.2", "0")
            $0.add(".wh..wh.aufs", "0")
        }
        #expect(isWhiteout("\(layer)/etc/a"))
        #expect(isOpaque("\(layer)/folder"))
        #expect(
            try FileManager.default.subpathsOfDirectory(atPath: layer).sorted() == [
                "etc", "etc/a", "folder", "folder/new",
            ])
    }

    @Test("The kernel shows what is meant")
    func overlay() throws {
        let layout = try LayoutFixture()
        let upper = TarFixture.make {
            $0.add("etc/.wh.a", "0")
            $0.add("folder/.wh..wh..opq", "0")
            $0.add("folder/new", "0", "new")
        }
        try layout.image("test", [base, upper])
        let layers = try fixture.store.layers(of: try fixture.importImage(layout.path))
        #expect(layers.count == 2)
        // Mounted in a namespace of its own: nothing is left when the shell ends.
        let target = try TemporaryFolder()
        let script =
            "mount -t overlay overlay -o lowerdir=\(layers.joined(separator: ":")) \(target.root) && cd \(target.root) && find . | sort | tr '\\n' ' '"
        let output = try TarFixture.filtered([], "unshare", ["-m", "sh", "-c", script])
        #expect(String(decoding: output, as: UTF8.self) == ". ./etc ./etc/b ./folder ./folder/new ./tmp ")
    }

    @Test("What the layer itself has stays, in either order")
    func sameLayer() throws {
        let layer = try stack {
            $0.add("etc/.wh.a", "0")
            $0.add("etc/a", "0", "mine")
            $0.add("etc/b", "0", "mine")
            $0.add("etc/.wh.b", "0")
            $0.add(".wh.folder", "0")
            $0.add("folder/", "5")
            $0.add("folder/mine", "0", "x")
        }
        #expect(try String(contentsOfFile: "\(layer)/etc/a", encoding: .utf8) == "mine")
        // A whiteout never removes what its own layer has.
        #expect(!isWhiteout("\(layer)/etc/b"))
        // A directory in place of one that is gone shows nothing of that.
        #expect(isOpaque("\(layer)/folder"))
        #expect(try FileStatus.of("\(layer)/folder/mine").size == 1)
    }

    @Test("A directory before its whiteout, and an unlisted directory after it")
    func directories() throws {
        let after = try stack {
            $0.add("folder/", "5")
            $0.add("folder/mine", "0", "x")
            $0.add(".wh.folder", "0")
        }
        #expect(isOpaque("\(after)/folder"))
        let unlisted = try stack {
            $0.add(".wh.folder", "0")
            $0.add("folder/mine", "0", "x")
        }
        #expect(isOpaque("\(unlisted)/folder"))
    }

    @Test("Whiteouts that hide nothing are not made")
    func needless() throws {
        let layer = try stack {
            $0.add("etc/.wh.never", "0")
            $0.add("new/", "5")
            $0.add("new/.wh.x", "0")
        }
        #expect(!FileManager.default.fileExists(atPath: "\(layer)/etc"))
        #expect(try FileManager.default.subpathsOfDirectory(atPath: layer) == ["new"])
        let image = try fixture.importRootfs(
            TarFixture.make {
                $0.add("a/.wh.b", "0")
                $0.add("a/.wh..wh..opq", "0")
                $0.add("c", "0")
            })
        let bottom = try fixture.layer(image)
        #expect(!isWhiteout("\(bottom)/a/b") && !isOpaque("\(bottom)/a"))
    }

    @Test("Directories that a layer does not list look as in the layer below")
    func implied() throws {
        let layer = try stack {
            $0.add("tmp/file", "0", "x")
            $0.add("etc/c", "0", "c")
        }
        #expect(try FileStatus.of("\(layer)/tmp").mode == 0o1777)
        let etc = try FileStatus.of("\(layer)/etc")
        #expect(etc.mode == 0o750 && etc.uid == 3 && etc.gid == 4)
        #expect(etc.modified == 1_000_000 * 1_000_000_000)
    }

    @Test("So does the root")
    func impliedRoot() throws {
        let layout = try LayoutFixture()
        let first = TarFixture.make { $0.add("./", "5", mode: 0o711, uid: 5, gid: 6, time: 7) }
        try layout.image("test", [first, TarFixture.make { $0.add("file", "0", "x") }])
        let root = try FileStatus.of(try fixture.layer(try fixture.importImage(layout.path)))
        #expect(root.mode == 0o711 && root.uid == 5 && root.gid == 6 && root.modified == 7_000_000_000)
    }

    @Test("A whiteout through a link stays in the layer")
    func throughLink() throws {
        let folder = try TemporaryFolder()
        try folder.write("victim", [])
        let layout = try LayoutFixture()
        let hostile = TarFixture.make {
            $0.add("etc", "2", link: folder.root)
            $0.add("etc/.wh.a", "0")
        }
        try layout.image("test", [base, hostile])
        let error = try #require(fixture.refusal(of: layout.path))
        #expect(error.code == .invalid)
        #expect(folder.tree() == ["victim"])
    }
}
