// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

@testable import Images
@testable import LinuxSystem
@testable import OCI

/// Images: documents of a layout, references, and archives that are unpacked into a folder of their own.
let imageTargets = [
    FuzzTarget(name: "image-index") { imageIndex($0.bytes) },
    FuzzTarget(name: "image-manifest") { imageManifest($0.bytes) },
    FuzzTarget(name: "image-config") { imageConfiguration($0.bytes) },
    FuzzTarget(name: "image-reference") { imageReference($0) },
    FuzzTarget(name: "layer") { layer($0.bytes) },
    FuzzTarget(name: "archive") { archive($0.bytes) },
]

// MARK: Documents

private func imageIndex(_ bytes: [UInt8]) {
    guard let index: ImageIndex = record(bytes) else { return }
    for descriptor in index.manifests {
        check(descriptor)
        _ = descriptor.isForThisMachine
    }
    let texts = index.manifests.flatMap { Array($0.annotations.values) + [$0.digest.description, $0.digest.hex] }
    for text in texts.prefix(20) {
        guard let wanted = try? ImageReference(text), let found = try? index.first(wanted, text) else { continue }
        expect(index.manifests.contains(found), "what is found is in the list")
        if case .digest(let digest) = wanted {
            let source = found.annotations[MediaType.sourceDigest]
            expect(
                found.digest == digest || source == digest.description
                    || found.annotations[MediaType.referenceName].map(wanted.isName) == true,
                "another digest is found")
        }
    }
}

private func check(_ descriptor: BlobDescriptor) {
    let hex = descriptor.digest.hex.utf8
    // It becomes a file's name.
    expect(hex.count == 64 && !hex.contains(0x2F) && !hex.contains(0x2E), "a digest is 64 digits")
}

private func imageManifest(_ bytes: [UInt8]) {
    guard let manifest: ImageManifest = record(bytes) else { return }
    check(manifest.config)
    manifest.layers.forEach(check)
    var configuration = ImageConfiguration()
    configuration.rootfs.diffIDs = manifest.layers.map(\.digest)
    guard
        let image = try? Image(
            name: nil, digest: manifest.config.digest, manifest: manifest, configuration: configuration)
    else { return }
    expect(image.size >= 0 && manifest.layers.allSatisfy { $0.size >= 0 && $0.size <= image.size }, "sizes add up")
    if manifest.layers.count > 400 { return }
    let chain = image.chainIDs
    expect(chain.count == manifest.layers.count && Set(chain).count == chain.count, "each layer has a name of its own")
}

private func imageConfiguration(_ bytes: [UInt8]) {
    guard let configuration: ImageConfiguration = record(bytes) else { return }
    var note = CommitNote()
    note.created = "2026-01-01T00:00:00Z"
    note.comment = "a"
    guard let digest = Digest(hex: String(repeating: "0", count: 64)),
        let text = try? ImageStore.configuration(bytes, adding: [digest], note)
    else { return }
    guard let next = try? ImageConfiguration(parsing: text) else { return expect(false, "what is written can be read") }
    expect(next.rootfs.diffIDs == configuration.rootfs.diffIDs + [digest], "a layer more, and no other change")
    expect(next.config == configuration.config, "what zones run stays")
}

// MARK: References

private func imageReference(_ input: Input) {
    guard let text = input.text else { return }
    let base = ImageStore.baseName("/" + text)
    expect((try? ImageReference.normalized(base)) != nil || base.utf8.count > 200, "\(base) is no name")
    if let name = try? ImageReference.normalized(text) {
        expect(name.utf8.count <= 500 && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "\(name) is plain")
        let parts = name.utf8.split(separator: 0x2F, omittingEmptySubsequences: false)
        expect(!parts.contains { $0.isEmpty || $0.elementsEqual("..".utf8) || $0.first == 0x2D }, "\(name) is no path")
        expect((try? ImageReference.normalized(name)) == name, "\(name) has another name")
    }
    guard let name = try? RegistryName(text) else { return }
    expect((name.tag == nil) == (name.digest != nil), "a tag or a digest")
    // It becomes a word of skopeo's command line.
    let words = name.transport(nil)
    expect(words.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "\(words) is plain")
    guard let again = try? RegistryName(name.description) else { return expect(false, "\(name) is no name") }
    expect(again == name, "\(name) is \(again)")
}

// MARK: Archives

/// Small enough that a run takes milliseconds; a bomb is one all the same.
private let limits: UnpackLimits = {
    var limits = UnpackLimits()
    limits.entries = 200
    limits.bytes = 4 << 20
    limits.slack = 1 << 20
    limits.ratio = 64
    limits.fileSize = 1 << 32
    limits.header = 64 << 10
    return limits
}()

/// A folder with one for what is unpacked, and one beside it that nothing may reach.
private struct Yard {
    let path: String

    /// One for the process, made anew for each run where the last has changed anything it must not.
    static let shared: Yard = {
        let parent = (try? FileStatus.of("/dev/shm"))?.kind == .directory ? "/dev/shm" : "/tmp"
        let yard = Yard(path: "\(parent)/zonectl-fuzz.\(getpid())")
        mkdir(yard.path, 0o700)
        guard let folder = try? Descriptor.open(yard.path, [.path, .directory]),
            (try? folder.replaceFile("kept", Array("kept".utf8))) != nil
        else { fatalError("make \(yard.path): \(String(cString: strerror(errno)))") }
        atexit {
            unlink("\(Yard.shared.path)/kept")
            rmdir(Yard.shared.path)
        }
        return yard
    }()

    /// Does something with an empty folder and looks then that nothing else has changed.
    func unpacking(_ body: (borrowing Descriptor) -> Void) {
        guard let yard = try? Descriptor.open(path, [.path, .directory]), (try? yard.makeDirectory("in")) != nil,
            let folder = try? yard.open("in", [.readOnly, .directory], resolve: .beneath)
        else { fatalError("\(path) cannot be used") }
        body(folder)
        expect((try? yard.entries().sorted()) == ["in", "kept"], "something is beside the folder")
        expect((try? yard.readFile("kept")) == Array("kept".utf8), "a file outside has changed")
        expect((try? yard.status("kept"))?.links == 1, "a file outside has another name")
        expect((try? yard.removeTree("in")) != nil, "what was unpacked cannot be removed")
    }
}

private func file(_ bytes: [UInt8]) -> Descriptor {
    guard let file = try? Descriptor.inMemory("fuzz"), (try? file.writeAll(bytes)) != nil else {
        fatalError("no memory for a file")
    }
    file.rewind()
    return file
}

/// What a lower layer has: an archive's whiteouts mean something then.
private func makeLower(in folder: borrowing Descriptor) -> LayerDirectory.Handle? {
    guard (try? folder.makeDirectory("lower")) != nil, (try? folder.makeDirectory("lower/d")) != nil,
        (try? folder.replaceFile("kept", [])) != nil, (try? folder.rename("kept", to: "lower/d/x")) != nil,
        let lower = try? folder.open("lower", [.readOnly, .directory], resolve: .beneath)
    else { return nil }
    return .init(lower)
}

private func layer(_ bytes: [UInt8]) {
    Yard.shared.unpacking { folder in
        guard let below = makeLower(in: folder), (try? folder.makeDirectory("layer")) != nil,
            let target = try? folder.open("layer", [.readOnly, .directory], resolve: .beneath)
        else { return expect(false, "the folder cannot be used") }
        var entries = 0
        do throws(ImageError) {
            let stream = try BlobStream(file(bytes), limits: limits)
            let archive = try TarReader(stream, limits: limits)
            var writer = LayerWriter(LayerDirectory(target), isLowest: false, .overlay, limits: limits)
            while let entry = try archive.next() {
                entries += 1
                try writer.write(entry, from: archive)
            }
            try writer.finish(on: LowerLayers([below]))
            let totals = try stream.finish()
            expect(totals.blobSize == Int64(bytes.count), "not all was read")
            expect(totals.contentSize <= limits.bytes + (1 << 20), "a bomb")
        } catch {
            let text = error.description
            expect(text.unicodeScalars.allSatisfy { $0.value >= 32 }, "a control character in an error")
            // The disk's own faults are none of an archive's: none is expected here.
            expect(error.cause?.errno != .badDescriptor && error.cause?.errno != Errno(rawValue: EFAULT), text)
        }
        expect(entries <= limits.entries + 1, "more members than are allowed")
        expect((try? folder.entries().sorted()) == ["layer", "lower"], "something is beside the layer")
        expect(
            (try? folder.open("lower/d", [.path, .directory], resolve: .beneath).entries()) == ["x"],
            "a layer below has changed")
    }
}

private func archive(_ bytes: [UInt8]) {
    Yard.shared.unpacking { folder in
        do throws(ImageError) { try unpackLayout(bytes, in: folder) } catch {
            expect(error.description.unicodeScalars.allSatisfy { $0.value >= 32 || $0 == "\n" }, "a control character")
        }
    }
}

private func unpackLayout(_ bytes: [UInt8], in folder: borrowing Descriptor) throws(ImageError) {
    let archive = ImportArchive(file(bytes), place: "image", limits: limits)
    let content = try archive.content()
    if case .rootfs = content { return }
    try archive.stageLayout(content, into: folder)
    let source = try LayoutSource(try reopened(folder), place: "image")
    for name in try source.names(fallback: "image") {
        if let name { expect((try? ImageReference.normalized(name)) == name, "\(name) is no name") }
        let choice = try source.choose(name, fallback: "image")
        let manifest = try source.bytes(choice.descriptor)
        expect(!manifest.isEmpty, "an image without a manifest")
    }
}

private func reopened(_ folder: borrowing Descriptor) throws(ImageError) -> Descriptor {
    do throws(SystemError) { return try folder.open(".", [.readOnly, .directory], resolve: .beneath) } catch {
        throw ImageError("open", error)
    }
}
