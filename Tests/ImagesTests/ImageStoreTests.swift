// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("The store")
struct ImageStoreTests {
    private let fixture: StoreFixture

    init() throws {
        fixture = try StoreFixture()
    }

    private func add(_ name: String, _ content: String) throws -> Image {
        try fixture.importRootfs(TarFixture.make { $0.add("file", "0", content) }, name: name)
    }

    private var layerCount: Int { fixture.folder.tree("store/layers").filter { !$0.contains("/") }.count }
    private var blobCount: Int { fixture.folder.tree("store/images/blobs/sha256").count }

    @Test("An absent store holds nothing")
    func absent() throws {
        #expect(try fixture.store.list().isEmpty)
        #expect(throws: ImageError.self) { try fixture.store.find("busybox") }
        do throws(ImageError) {
            try fixture.store.remove("busybox")
            Issue.record("removed what is not there")
        } catch {
            #expect(error.code == .notFound && error.description.contains("busybox"))
        }
        // Looking makes nothing.
        #expect(!FileManager.default.fileExists(atPath: fixture.folder.path("store")))
    }

    @Test("Images are found by name, digest and a digest's beginning")
    func find() throws {
        let one = try add("one", "1")
        let two = try add("two:v2", "2")
        for reference in [
            "one", "one:latest", "docker.io/library/one", "localhost/one", one.digest.description, one.digest.hex,
            String(one.digest.hex.prefix(12)), "one@\(one.digest)",
        ] {
            #expect(try fixture.store.find(reference).digest == one.digest)
        }
        #expect(try fixture.store.find("two:v2").digest == two.digest)
        for reference in ["two", "two:v3", "quay.io/one", String(repeating: "0", count: 64)] {
            do throws(ImageError) {
                _ = try fixture.store.find(reference)
                Issue.record("found \(reference)")
            } catch {
                #expect(error.code == .notFound)
            }
        }
    }

    @Test("A beginning of two digests is ambiguous, and names come first")
    func ambiguity() throws {
        var index = ImageIndex()
        for digit in ["1", "2"] {
            let digest = try #require(Digest(hex: "abcd" + String(repeating: digit, count: 60)))
            index.manifests.append(BlobDescriptor(mediaType: MediaType.manifest, digest: digest, size: 1))
        }
        #expect(throws: ImageError.self) { try index.first(try ImageReference("abcd"), "abcd") }
        #expect(try index.first(try ImageReference("abcd1"), "abcd1")?.digest == index.manifests[0].digest)
        index.manifests[1].annotations[MediaType.referenceName] = "abcd:latest"
        #expect(try index.first(try ImageReference("abcd"), "abcd")?.digest == index.manifests[1].digest)
    }

    @Test("What was found is kept, and a change of the list is seen at once")
    func resolved() throws {
        let first = try add("test", "1")
        // A list that has just changed is not trusted to show the next change.
        usleep(150_000)
        #expect(try fixture.store.find("test").digest == first.digest)
        #expect(fixture.folder.tree("store/images/.resolved") == ["test:latest"])
        #expect(try fixture.store.find("test").digest == first.digest)
        let second = try add("test", "2")
        #expect(try fixture.store.find("test").digest == second.digest)
        // Another tool that writes the list in place.
        usleep(150_000)
        _ = try fixture.store.find("test")
        let path = fixture.folder.path("store/images/index.json")
        let text = try String(contentsOfFile: path, encoding: .utf8).replacingOccurrences(
            of: "test:latest", with: "gone:latest")
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        #expect(throws: ImageError.self) { try fixture.store.find("test") }
        #expect(try fixture.store.find("gone").digest == second.digest)
        // A damaged record is as good as none.
        usleep(150_000)
        _ = try fixture.store.find("gone")
        try fixture.folder.write("store/images/.resolved/gone:latest", Array("{".utf8))
        #expect(try fixture.store.find("gone").digest == second.digest)
    }

    @Test("A name that moves on leaves the old image under its digest")
    func replaced() throws {
        let old = try add("test", "old")
        let new = try add("test", "new")
        #expect(try fixture.store.find("test").digest == new.digest)
        let found = try fixture.store.find(old.digest.hex)
        #expect(found.name == old.digest.description)
        #expect(FileManager.default.fileExists(atPath: try fixture.layer(found)))
        #expect(try fixture.store.list().count == 2)
        // The same again changes nothing.
        _ = try add("test", "new")
        #expect(try fixture.store.list().count == 2)
        _ = try add("test", "old")
        #expect(try fixture.store.find("test").digest == old.digest)
        #expect(try fixture.store.list().count == 2)
    }

    @Test("An image goes with its last name, and takes what no other needs")
    func remove() throws {
        let image = try add("one", "1")
        _ = try add("two", "1")
        _ = try add("three", "3")
        #expect(layerCount == 2 && blobCount == 6)
        try fixture.store.remove("one")
        #expect(try fixture.store.list().map(\.name) == ["three:latest", "two:latest"])
        #expect(layerCount == 2 && blobCount == 6)
        try fixture.store.remove(String(image.digest.hex.prefix(8)))
        #expect(try fixture.store.list().map(\.name) == ["three:latest"])
        #expect(layerCount == 1 && blobCount == 3)
        try fixture.store.remove("three")
        #expect(fixture.isEmpty)
    }

    @Test("Layers that two images share stay with the other")
    func shared() throws {
        let layout = try LayoutFixture()
        let base = TarFixture.make { $0.add("base", "0") }
        try layout.image("one", [base, TarFixture.make { $0.add("one", "0") }])
        try layout.image("two", [base, TarFixture.make { $0.add("two", "0") }])
        _ = try fixture.importImage(layout.path, name: "one")
        let two = try fixture.importImage(layout.path, name: "two")
        #expect(layerCount == 3)
        try fixture.store.remove("one")
        #expect(layerCount == 2)
        #expect(try fixture.store.layers(of: two).allSatisfy { FileManager.default.fileExists(atPath: $0) })
    }

    @Test("Missing layers are unpacked again, damaged blobs are noticed then")
    func unpackAgain() throws {
        let image = try add("test", "text")
        let layer = try fixture.layer(image)
        try FileManager.default.removeItem(atPath: layer)
        #expect(try fixture.layer(try fixture.store.find("test")) == layer)
        #expect(FileManager.default.fileExists(atPath: "\(layer)/file"))
        try FileManager.default.removeItem(atPath: layer)
        let blob = fixture.store.blobPath(image.manifest.layers[0].digest)
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: blob)))
        bytes[512] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: blob))
        do throws(ImageError) {
            _ = try fixture.store.layers(of: image)
            Issue.record("unpacked a damaged blob")
        } catch {
            #expect(error.code == .invalid && error.description.contains("damaged"))
        }
        #expect(layerCount == 0)
    }

    @Test("A damaged list or image is an error that names the file")
    func damaged() throws {
        let image = try add("test", "text")
        try fixture.folder.write("store/images/blobs/sha256/\(image.digest.hex)", Array("{}".utf8))
        #expect(throws: ImageError.self) { try fixture.store.list() }
        do throws(ImageError) {
            _ = try fixture.store.find("test")
            Issue.record("found a damaged image")
        } catch {
            #expect(error.code == .invalid && error.description.contains(image.digest.hex))
        }
        // It can be removed all the same.
        try fixture.store.remove("test")
        #expect(fixture.isEmpty)
        try fixture.folder.write("store/images/index.json", Array("[".utf8))
        #expect(throws: ImageError.self) { try fixture.store.list() }
    }

    @Test("What a killed import left goes with the next")
    func leftovers() throws {
        _ = try add("one", "1")
        try fixture.folder.write("store/images/.staging/blob", [1])
        try fixture.folder.write("store/layers/.staging/half/deep/file", [1])
        let orphan = String(repeating: "e", count: 64)
        try fixture.folder.write("store/images/blobs/sha256/\(orphan)", [1])
        try fixture.folder.write("store/layers/\(orphan)/file", [1])
        _ = try add("two", "2")
        #expect(layerCount == 2 && blobCount == 6)
        #expect(!fixture.folder.tree("store").contains { $0.contains(".staging") })
    }

    @Test("Without its list nothing in a store is touched")
    func lostList() throws {
        _ = try add("one", "1")
        try FileManager.default.removeItem(atPath: fixture.folder.path("store/images/index.json"))
        do {
            _ = try add("two", "2")
            Issue.record("made a new list")
        } catch let error as ImageError {
            #expect(error.description.contains("index.json"))
        }
        #expect(layerCount == 1 && blobCount == 3)
    }

    @Test("Imports and unpacking at once are serialised, and readers never see a half")
    func concurrency() throws {
        let layout = try LayoutFixture()
        let base = TarFixture.make { tar in (0..<300).forEach { tar.add("f\($0)", "0", "x") } }
        for number in 0..<8 {
            try layout.image("image\(number)", [base, TarFixture.make { $0.add("own", "0", "\(number)") }])
        }
        let store = fixture.store
        let path = layout.path
        let failures = Failures()
        DispatchQueue.concurrentPerform(iterations: 24) { number in
            do {
                let name = "image\(number % 8)"
                if number % 3 == 2 {
                    // A reader: the image is whole or not there.
                    if let image = try? store.find(name) {
                        let top = try store.layers(of: image)[1]
                        let count = try FileManager.default.contentsOfDirectory(atPath: top).count
                        if count != 300 { failures.add("\(count) files") }
                    }
                    return
                }
                _ = try store.importImage(from: path, name: name, command: nil) { _ in }
            } catch {
                failures.add("\(error)")
            }
        }
        #expect(failures.all.isEmpty, "\(failures.all)")
        for image in try store.list() { _ = try store.layers(of: image) }
        // Threads 2, 5, 8… read; the others imported all eight.
        #expect(try store.list().count == 8)
        #expect(layerCount == 9)
    }

    private final class Failures: @unchecked Sendable {
        private let lock = NSLock()
        private var texts: [String] = []

        func add(_ text: String) { lock.withLock { texts.append(text) } }
        var all: [String] { lock.withLock { texts } }
    }
}
