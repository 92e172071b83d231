// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("Images for other machines")
struct PlatformTests {
    private let fixture: StoreFixture
    private let layout: LayoutFixture
    private let own: BlobDescriptor
    private let foreign: BlobDescriptor
    private let wanted = Platform(architecture: "s390x", os: "linux")

    /// A layout of an index for two machines.
    init() throws {
        fixture = try StoreFixture()
        layout = try LayoutFixture()
        foreign = try layout.image(nil, [TarFixture.make { $0.add("foreign", "0") }], architecture: "s390x")
        own = try layout.image(nil, [TarFixture.make { $0.add("own", "0") }])
        var inner = ImageIndex()
        inner.manifests = [foreign, own]
        var top = try layout.blob(inner.serialized(), MediaType.index)
        top.annotations[MediaType.referenceName] = "multi"
        try layout.writeIndex([top])
    }

    private func taken(_ path: String, for platform: Platform?, name: String? = nil) throws(ImageError) -> Image {
        try fixture.store.importImage(from: path, name: name, command: nil, platform: platform) { _ in }
    }

    private func refusal(_ platform: Platform?) -> ImageError? {
        do throws(ImageError) {
            _ = try taken(layout.path, for: platform)
            return nil
        } catch {
            return error
        }
    }

    @Test("The one that is asked for is taken out of an index; without a word, this machine's")
    func index() throws {
        let image = try taken(layout.path, for: wanted)
        #expect(image.digest == foreign.digest && image.platform.architecture == "s390x")
        #expect(try FileStatus.of("\(try fixture.layer(image))/foreign").kind == .regular)
        #expect(try taken(layout.path, for: nil).digest == own.digest)
    }

    @Test("The name is the last one's, and the other keeps its digest")
    func names() throws {
        _ = try taken(layout.path, for: nil)
        _ = try taken(layout.path, for: wanted)
        #expect(try fixture.store.find("multi").digest == foreign.digest)
        #expect(try fixture.store.find(own.digest.description).platform.architecture == Image.machine.architecture)
        _ = try taken(layout.path, for: nil, name: "mine")
        #expect(try fixture.store.find("mine").digest == own.digest)
        #expect(try fixture.store.find("multi").digest == foreign.digest)
        #expect(try fixture.store.list().map(\.platform.architecture).contains("s390x"))
    }

    @Test("One that is not there is refused, with those that are")
    func missing() throws {
        let error = try #require(refusal(Platform(architecture: "mips", os: "linux")))
        #expect(error.code == .unsupported && error.description.contains("linux/s390x"))
        #expect(error.description.contains("no image for linux/mips"))
        #expect(fixture.isEmpty)
    }

    @Test("A layout of another machine's image alone: refused with how to take it, and taken so")
    func single() throws {
        try layout.writeIndex([foreign])
        let error = try #require(refusal(nil))
        #expect(error.hint?.contains("--arch s390x") == true)
        #expect(try taken(layout.path, for: wanted).digest == foreign.digest)
    }

    @Test("A descriptor that promises another machine than its image is for is no such image")
    func liar() throws {
        var lying = foreign
        lying.platform = Platform(architecture: "arm64", os: "linux")
        try layout.writeIndex([lying])
        let error = try #require(refusal(Platform(architecture: "arm64", os: "linux")))
        #expect(error.code == .unsupported && error.description.contains("linux/s390x"))
    }

    @Test("A root file system is for the machine that is said")
    func rootfs() throws {
        try fixture.folder.write("root.tar", TarFixture.make { $0.add("file", "0", "x") })
        var platform = Platform(architecture: "arm", os: "linux")
        platform.variant = "v7"
        let image = try taken(fixture.folder.path("root.tar"), for: platform)
        #expect(image.platform == platform)
        #expect(try fixture.store.find("root").platform == platform)
    }

    @Test("Loading takes what an archive holds, whatever it is for, and this machine's where there is a choice")
    func load() throws {
        try layout.writeIndex([foreign])
        #expect(try fixture.store.load(from: try layout.archive()) { _ in }.map(\.digest) == [foreign.digest])
        try layout.writeIndex([foreign, own])
        #expect(try fixture.store.load(from: try layout.archive()) { _ in }.map(\.digest) == [own.digest])
    }
}
