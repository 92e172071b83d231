// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("Imports")
struct ImportTests {
    private let fixture: StoreFixture
    private let tar = TarFixture.make {
        $0.add("bin/", "5")
        $0.add("bin/sh", "0", "#!")
    }

    init() throws {
        fixture = try StoreFixture()
    }

    // MARK: Good ones

    @Test("A layout's folder, by its own name", arguments: [false, true])
    func layout(_ gzip: Bool) throws {
        let layout = try LayoutFixture()
        let descriptor = try layout.image("busybox:1.36", [tar], gzip: gzip)
        let image = try fixture.importImage(layout.path)
        #expect(image.name == "busybox:1.36")
        #expect(image.digest == descriptor.digest)
        #expect(try fixture.store.find("docker.io/library/busybox:1.36").digest == descriptor.digest)
        #expect(try fixture.store.layers(of: image).count == 1)
        #expect(try FileStatus.of("\(try fixture.layer(image))/bin/sh").size == 2)
        #expect(image.size == image.manifest.layers[0].size + image.manifest.config.size)
    }

    @Test("An archive of a layout, and --name")
    func layoutArchive() throws {
        let layout = try LayoutFixture()
        let descriptor = try layout.image("busybox", [tar, TarFixture.make { $0.add("top", "0") }], gzip: true)
        let image = try fixture.importImage(try layout.archive(), name: "quay.io/team/tool:v2")
        #expect(image.name == "quay.io/team/tool:v2" && image.digest == descriptor.digest)
        let layers = try fixture.store.layers(of: try fixture.store.find("quay.io/team/tool:v2"))
        #expect(layers.count == 2)
        // Topmost first.
        #expect(try FileStatus.of("\(layers[0])/top").kind == .regular)
        #expect(try FileStatus.of("\(layers[1])/bin/sh").kind == .regular)
    }

    @Test("A root file system becomes an image of one layer")
    func rootfs() throws {
        try fixture.folder.write("My Root.tar.gz", try TarFixture.filtered(tar, "gzip"))
        let image = try fixture.importImage(fixture.folder.path("My Root.tar.gz"), command: nil)
        #expect(image.name == "my-root:latest")
        #expect(image.configuration.config?.cmd == ["/bin/sh"])
        let other = try fixture.importImage(
            fixture.folder.path("My Root.tar.gz"), name: "other", command: ["/init", "x"])
        #expect(other.configuration.config?.cmd == ["/init", "x"])
        // Both share blob and layer.
        #expect(fixture.folder.tree("store/layers").filter { !$0.contains("/") }.count == 1)
        #expect(try fixture.store.list().map(\.name) == ["my-root:latest", "other:latest"])
    }

    @Test("Progress is told")
    func progress() throws {
        try fixture.folder.write("a.tar", tar)
        var steps: [ImportProgress] = []
        _ = try fixture.store.importImage(from: fixture.folder.path("a.tar"), name: nil, command: nil) {
            steps.append($0)
        }
        #expect(steps.map(\.step) == [.copying, .unpacking])
        #expect(steps.allSatisfy { $0.bytes == Int64(tar.count) && $0.total == Int64(tar.count) && $0.layer == 1 })
    }

    @Test("The manifest for this machine is chosen, also out of nested indexes")
    func platforms() throws {
        let layout = try LayoutFixture()
        let foreign = try layout.image(nil, [TarFixture.make { $0.add("foreign", "0") }], architecture: "s390x")
        let own = try layout.image(nil, [tar])
        var inner = ImageIndex()
        inner.manifests = [foreign, own]
        var middle = ImageIndex()
        middle.manifests = [try layout.blob(inner.serialized(), MediaType.index)]
        var top = try layout.blob(middle.serialized(), MediaType.dockerIndex)
        top.annotations[MediaType.referenceName] = "multi"
        try layout.writeIndex([top])
        #expect(try fixture.importImage(layout.path).digest == own.digest)
        try layout.writeIndex([foreign])
        let error = try #require(fixture.refusal(of: layout.path))
        #expect(error.code == .unsupported && error.description.contains("linux/s390x"))
    }

    @Test(
        "Names that other tools give",
        arguments: [
            ("latest", "layout:latest"), ("3.19", "layout:3.19"), ("v2", "layout:v2"), ("tool", "tool:latest"),
            ("Bad Name", "layout:latest"),
        ])
    func names(_ reference: String, _ expected: String) throws {
        let layout = try LayoutFixture()
        try layout.image(reference, [tar])
        #expect(try fixture.importImage(layout.path).name == expected)
    }

    @Test("Of several images one must be named")
    func several() throws {
        let layout = try LayoutFixture()
        try layout.image("one", [tar])
        let two = try layout.image("two", [TarFixture.make { $0.add("two", "0") }])
        let error = try #require(fixture.refusal(of: layout.path, name: nil))
        #expect(error.code == .ambiguous && error.description.contains("one:latest, two:latest"))
        #expect(try fixture.importImage(layout.path, name: "two").digest == two.digest)
    }

    // MARK: Bad ones

    private func refuse(_ reason: String, _ code: ImageError.Code = .invalid, _ make: (LayoutFixture) throws -> Void)
        throws
    {
        let layout = try LayoutFixture()
        try make(layout)
        for path in [layout.path, try layout.archive()] {
            let error = try #require(fixture.refusal(of: path), "was accepted")
            #expect(error.code == code)
            #expect(reason.isEmpty || error.description.contains(reason), "\(error)")
            #expect(fixture.isEmpty, "\(fixture.folder.tree("store"))")
        }
    }

    @Test(
        "A blob with another content, shorter or longer, is refused", arguments: ["layer", "config", "manifest"],
        ["flip", "cut", "longer"])
    func damage(_ which: String, _ how: String) throws {
        try refuse("") { layout in
            let descriptor = try layout.image("test", [tar], gzip: true)
            let manifest = try ImageManifest(
                parsing: Array(Data(contentsOf: URL(fileURLWithPath: layout.blobPath(descriptor.digest)))))
            let digest = [
                "layer": manifest.layers[0].digest, "config": manifest.config.digest, "manifest": descriptor.digest,
            ][which]
            let path = layout.blobPath(try #require(digest))
            var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            switch how {
            case "flip": bytes[bytes.count / 2] ^= 1
            case "cut": bytes.removeLast(bytes.count / 2)
            default: bytes.append(10)
            }
            try Data(bytes).write(to: URL(fileURLWithPath: path))
        }
    }

    @Test("A missing blob is refused")
    func missing() throws {
        try refuse("is missing") { layout in
            try layout.image("test", [tar]) { manifest, _ in
                try FileManager.default.removeItem(atPath: layout.blobPath(manifest.layers[0].digest))
            }
        }
    }

    @Test("A layer that is not what the configuration says is refused")
    func diffID() throws {
        try refuse("as the image says") { try $0.image("test", [tar], gzip: true, diffIDs: [SHA256.digest(of: [1])]) }
        try refuse("diff ids") { try $0.image("test", [tar], diffIDs: []) }
    }

    @Test("Documents that are no images are refused")
    func documents() throws {
        try refuse("line 1") { layout in
            try layout.image("test", [tar])
            try layout.put("index.json", Array("{]".utf8))
        }
        try refuse("holds no image") { layout in try layout.writeIndex([]) }
        try refuse("manifests") { layout in try layout.put("index.json", Array("{\"schemaVersion\":2}".utf8)) }
        try refuse("is not a sha256 digest") { layout in
            let text =
                "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"a\",\"size\":1,\"digest\":\"sha256:../../../../etc/passwd\"}]}"
            try layout.put("index.json", Array(text.utf8))
        }
        try refuse("without layers") { try $0.image("test", []) }
        try refuse("both manifests and layers") { layout in
            let text = "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[],\"config\":{}}"
            var blob = try layout.blob(Array(text.utf8), MediaType.manifest)
            blob.annotations[MediaType.referenceName] = "test"
            try layout.writeIndex([blob])
        }
        try refuse("has size -1") { try $0.image("test", [tar]) { manifest, _ in manifest.layers[0].size = -1 } }
        try refuse("version", .unsupported) { layout in
            try layout.image("test", [tar])
            try layout.put("oci-layout", Array("{\"imageLayoutVersion\":\"2.0\"}".utf8))
        }
        try refuse("is no image", .unsupported) { layout in
            try layout.writeIndex([try layout.blob([1], "application/octet-stream")])
        }
        try refuse("+encrypted", .unsupported) { layout in
            try layout.image("test", [tar]) { manifest, _ in
                manifest.layers[0].mediaType = MediaType.layerGzip + "+encrypted"
            }
        }
    }

    @Test("Indexes that hold each other's kind without end are refused")
    func deep() throws {
        try refuse("nested more than") { layout in
            var index = ImageIndex()
            for _ in 0..<8 { index.manifests = [try layout.blob(index.serialized(), MediaType.index)] }
            try layout.put("index.json", index.serialized())
        }
    }

    @Test("A layout's links may not lead out of it, and its fifos do not hang")
    func specialFiles() throws {
        let layout = try LayoutFixture()
        try layout.image("test", [tar])
        try FileManager.default.removeItem(atPath: layout.path + "/index.json")
        try FileManager.default.createSymbolicLink(
            atPath: layout.path + "/index.json", withDestinationPath: "/etc/passwd")
        var error = try #require(fixture.refusal(of: layout.path))
        #expect(error.description.contains("leads out of the layout"))
        try FileManager.default.removeItem(atPath: layout.path + "/index.json")
        mkfifo(layout.path + "/index.json", 0o600)
        error = try #require(fixture.refusal(of: layout.path))
        #expect(error.description.contains("no regular file"))
        error = try #require(fixture.refusal(of: layout.path + "/index.json"))
        #expect(error.description.contains("neither a folder nor a regular file"))
    }

    @Test("A path that is not there, a folder that is no layout, a bad name")
    func paths() throws {
        #expect(fixture.refusal(of: "/nowhere/at/all")?.code == .notFound)
        #expect(fixture.refusal(of: fixture.folder.root)?.description.contains("no image layout") == true)
        #expect(fixture.refusal(of: fixture.folder.root, name: "Bad Name")?.code == .invalid)
        let layout = try LayoutFixture()
        try layout.image("test", [tar])
        #expect(throws: ImageError.self) { try fixture.importImage(layout.path, command: ["sh"]) }
        #expect(!FileManager.default.fileExists(atPath: fixture.folder.path("store")))
    }

    @Test("docker's old archives are known, also one that holds no image")
    func dockerArchive() throws {
        let old = TarFixture.make {
            $0.add(String(repeating: "a", count: 64) + "/", "5")
            $0.add(String(repeating: "a", count: 64) + "/layer.tar", "0", "x")
            $0.add("manifest.json", "0", "[]")
        }
        let error = try #require(try fixture.refusal(old))
        #expect(error.code == .invalid && error.description.contains("manifest.json names no image"))
    }

    @Test("A full disk is a clear error and leaves nothing", .enabled(if: isRoot, "needs root"))
    func fullDisk() throws {
        let mounted = try TemporaryFolder()
        try #require(mount("tmpfs", mounted.root, "tmpfs", 0, "size=600k") == 0)
        defer { umount2(mounted.root, Int32(MNT_DETACH)) }
        // Once there is no room for the blob, once only for it and not for what it unpacks to.
        let tar = TarFixture.make { $0.add("big", "0", String(repeating: "x", count: 1 << 20)) }
        for (name, bytes) in [("plain", tar), ("packed", try TarFixture.filtered(tar, "gzip"))] {
            try fixture.folder.write("\(name).tar", bytes)
            let store = StoreFixture(folder: mounted)
            let error = try #require(store.refusal(of: fixture.folder.path("\(name).tar")))
            #expect(error.code == .system && error.cause?.errno == .noSpace)
            #expect(error.description.contains("No space left on device"))
            #expect(store.isEmpty, "\(mounted.tree())")
        }
    }
}
