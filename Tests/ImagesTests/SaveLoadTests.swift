// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("Names, archives, verification")
struct SaveLoadTests {
    private let fixture: StoreFixture

    init() throws {
        fixture = try StoreFixture()
    }

    private func add(_ name: String, _ content: String) throws -> Image {
        try fixture.importRootfs(TarFixture.make { $0.add("file", "0", content) }, name: name)
    }

    private func save(_ names: [String], _ format: ArchiveFormat = .docker) throws -> String {
        let path = fixture.folder.path("saved.tar")
        let file = try Descriptor.open(path, [.writeOnly, .create, .truncate], mode: 0o644)
        try fixture.store.save(names, as: format, to: file.raw)
        return path
    }

    @Test("What is saved is loaded with its names and digests", arguments: ArchiveFormat.allCases)
    func roundTrip(_ format: ArchiveFormat) throws {
        let one = try add("one", "1")
        let two = try add("example.com/two:v2", "2")
        let path = try save(["one", "example.com/two:v2"], format)
        let other = try StoreFixture()
        let loaded = try other.store.load(from: path) { _ in }
        #expect(loaded.map(\.name).sorted() == ["example.com/two:v2", "one:latest"])
        #expect(try other.store.find("one").digest == one.digest)
        #expect(try other.store.find("example.com/two:v2").digest == two.digest)
        #expect(try other.store.verify().isEmpty)
    }

    @Test("A tag is one more name; the image goes with the last")
    func tag() throws {
        let one = try add("one", "1")
        #expect(try fixture.store.tag("one", as: "docker.io/team/uno:v1").name == "team/uno:v1")
        #expect(try fixture.store.find("team/uno:v1").digest == one.digest)
        // One that is in use: a name may go, the last one not.
        #expect(try fixture.store.remove("one", inUse: { [one.digest] }))
        #expect(try !fixture.store.remove("team/uno:v1", inUse: { [one.digest] }))
        #expect(try fixture.store.find("team/uno:v1").digest == one.digest)
        #expect(try fixture.store.remove("team/uno:v1"))
        #expect(throws: ImageError.self) { try fixture.store.tag("one", as: "x") }
        _ = try add("two", "2")
        #expect(throws: ImageError.self) { try fixture.store.tag("two", as: one.digest.description) }
        #expect(throws: ImageError.self) { try fixture.store.tag("two", as: "Bad") }
    }

    @Test("Pruning takes what has no name and what is not in use")
    func prune() throws {
        let old = try add("one", "1")
        let new = try add("one", "2")
        let other = try add("other", "3")
        #expect(try fixture.store.prune(all: false) { [old.digest] }.names.isEmpty)
        let pruned = try fixture.store.prune(all: false) { [] }
        #expect(pruned.names == [old.digest.description] && pruned.bytes > 0)
        #expect(try fixture.store.prune(all: true) { [new.digest] }.names == ["other:latest"])
        #expect(throws: ImageError.self) { try fixture.store.find(other.digest.description) }
        // What is in use cannot be known: nothing goes.
        #expect(try fixture.store.prune(all: true) { nil }.names.isEmpty)
        #expect(try fixture.store.find("one").digest == new.digest)
    }

    @Test("A zone that is made while its image goes is seen, whoever looks first")
    func race() throws {
        let one = try add("one", "1")
        // The zone's definition comes between the two looks: the image stays.
        var looks = 0
        let isRemoved = try fixture.store.remove("one") {
            looks += 1
            return looks == 1 ? [] : [one.digest]
        }
        #expect(!isRemoved && looks == 2)
        #expect(try fixture.store.layers(of: fixture.store.find("one")).count == 1)
        // It comes after them: the start finds the image gone.
        let found = try fixture.store.find("one")
        #expect(try fixture.store.remove("one"))
        do throws(ImageError) {
            _ = try fixture.store.layers(of: found)
            Issue.record("layers of an image that was removed")
        } catch {
            #expect(error.code == .notFound)
        }
    }

    @Test("Verification names what is wrong")
    func verify() throws {
        let one = try add("one", "1")
        _ = try add("two", "2")
        #expect(try fixture.store.verify().isEmpty)
        let blob = fixture.store.blobPath(one.layers[0].blob.digest)
        let file = try Descriptor.open(blob, [.writeOnly])
        try file.writeAll([0x58])
        let faults = try fixture.store.verify()
        #expect(faults.count == 1 && faults.first?.image == "one:latest")
        #expect(faults.first?.detail.contains("damaged") == true)
    }
}
