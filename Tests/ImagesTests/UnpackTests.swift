// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import LinuxSystem
import OCI
import Testing

@testable import Images

@Suite("Unpacked layers")
struct UnpackTests {
    private func unpack(_ fill: (inout TarFixture) -> Void) throws -> (StoreFixture, String) {
        let fixture = try StoreFixture()
        return (fixture, try fixture.layer(try fixture.importRootfs(TarFixture.make(fill))))
    }

    @Test("Files, directories, links and fifos with their modes and times")
    func members() throws {
        let (fixture, layer) = try unpack {
            $0.add("./", "5", mode: 0o711, time: 500)
            $0.add("./etc/", "5", mode: 0o750, time: 12345)
            $0.add("./etc/passwd", "0", "root\n", mode: 0o640, time: 777)
            $0.add("./etc/alias", "1", link: "./etc/passwd")
            $0.add("./etc/link", "2", link: "/nowhere", time: 999)
            $0.add("./pipe", "6", mode: 0o622)
            $0.add("/absolute", "0", "a")
            $0.add("empty", "0")
        }
        defer { withExtendedLifetime(fixture) {} }
        let passwd = try FileStatus.of("\(layer)/etc/passwd")
        #expect(passwd.mode == 0o640 && passwd.size == 5 && passwd.modified == 777_000_000_000)
        #expect(try FileStatus.of("\(layer)/etc/alias").inode == passwd.inode)
        let etc = try FileStatus.of("\(layer)/etc")
        #expect(etc.mode == 0o750 && etc.modified == 12345_000_000_000)
        let link = try FileStatus.of("\(layer)/etc/link", followLinks: false)
        #expect(link.kind == .symlink && link.modified == 999_000_000_000)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(layer)/etc/link") == "/nowhere")
        let pipe = try FileStatus.of("\(layer)/pipe")
        #expect(pipe.kind == .fifo && pipe.mode == 0o622)
        #expect(try FileStatus.of("\(layer)/absolute").kind == .regular)
        let root = try FileStatus.of(layer)
        #expect(root.mode == 0o711 && root.modified == 500_000_000_000)
    }

    @Test("Missing parents are made with mode 0755")
    func parents() throws {
        let (fixture, layer) = try unpack { $0.add("a/b/c", "0", "x", mode: 0o600) }
        defer { withExtendedLifetime(fixture) {} }
        #expect(try FileStatus.of("\(layer)/a").mode == 0o755)
        #expect(try FileStatus.of("\(layer)/a/b").mode == 0o755)
    }

    @Test("The later of two members wins")
    func duplicates() throws {
        let (fixture, layer) = try unpack {
            $0.add("file", "0", "first version")
            $0.add("file", "0", "second")
            $0.add("wasFolder/", "5")
            $0.add("wasFolder/inner/deep", "0", "x")
            $0.add("wasFolder", "0", "file now")
            $0.add("wasLink", "2", link: "/etc")
            $0.add("wasLink/", "5")
            $0.add("wasLink/inner", "0", "x")
            $0.add("folder/", "5", mode: 0o700)
            $0.add("folder/kept", "0", "x")
            $0.add("folder/", "5", mode: 0o711)
            $0.add("linked", "0", "old")
            $0.add("other", "1", link: "linked")
            $0.add("linked", "0", "new")
        }
        defer { withExtendedLifetime(fixture) {} }
        func text(_ name: String) -> String? { try? String(contentsOfFile: "\(layer)/\(name)", encoding: .utf8) }
        #expect(text("file") == "second")
        #expect(text("wasFolder") == "file now")
        #expect(try FileStatus.of("\(layer)/wasLink", followLinks: false).kind == .directory)
        #expect(text("folder/kept") == "x")
        #expect(try FileStatus.of("\(layer)/folder").mode == 0o711)
        #expect(text("other") == "old" && text("linked") == "new")
    }

    @Test("Links inside the layer are followed with the layer as root")
    func links() throws {
        let (fixture, layer) = try unpack {
            $0.add("usr/lib/", "5")
            $0.add("lib", "2", link: "usr/lib")
            $0.add("lib/one", "0", "1")
            $0.add("lib64", "2", link: "/usr/lib")
            $0.add("lib64/new/two", "0", "2")
            $0.add("up", "2", link: "../../../../usr")
            $0.add("up/three", "0", "3")
            $0.add("hard", "1", link: "lib64/one")
        }
        defer { withExtendedLifetime(fixture) {} }
        let names = try FileManager.default.subpathsOfDirectory(atPath: layer).sorted()
        #expect(
            names == [
                "hard", "lib", "lib64", "up", "usr", "usr/lib", "usr/lib/new", "usr/lib/new/two", "usr/lib/one",
                "usr/three",
            ])
    }

    @Test("Long names, names in UTF-8 and names that are not")
    func names() throws {
        let long = String(repeating: "long/", count: 60) + "end"
        let (fixture, layer) = try unpack {
            $0.add(long, "0", "x")
            $0.add("pax", "0", "x", pax: [("path", Array("grün/ß".utf8))])
            $0.add("link", "2", link: "gr", pax: [("linkpath", Array("grün/ß".utf8))])
            $0.add(rawName: [0x66, 0xff, 0xfe], "raw")
            $0.add("cut", "0", "x", pax: [("path", Array("before".utf8) + [0] + Array("/../../after".utf8))])
        }
        defer { withExtendedLifetime(fixture) {} }
        #expect(try FileStatus.of("\(layer)/\(long)").size == 1)
        #expect(try FileStatus.of("\(layer)/grün/ß").size == 1)
        #expect(try FileStatus.of("\(layer)/link").size == 1)
        let raw = try Descriptor.open(layer, [.readOnly, .directory])
        #expect(try raw.status(rawName: [0x66, -1, -2, 0]).size == 3)
        // libarchive ends a name at a NUL: what follows is not looked at by anything.
        #expect(try FileStatus.of("\(layer)/before").size == 1)
        // What is not UTF-8 can also be removed again.
        try fixture.store.remove("test")
        #expect(fixture.isEmpty)
    }

    @Test("Sparse files keep their holes", arguments: ["gnu", "pax"])
    func sparse(_ format: String) throws {
        let source = try TemporaryFolder()
        try source.write("tree/sparse", [])
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: source.path("tree/sparse")))
        try file.seek(toOffset: 8 << 20)
        try file.write(contentsOf: Data("middle".utf8))
        try file.truncate(atOffset: 16 << 20)
        try file.close()
        try source.write("none", [])
        let tar = try TarFixture.filtered(
            [], "tar", ["-C", source.path("tree"), "--format=\(format)", "-Scf", "-", "sparse"])
        #expect(tar.count < 1 << 20)
        let fixture = try StoreFixture()
        let layer = try fixture.layer(try fixture.importRootfs(tar))
        let content = try Data(contentsOf: URL(fileURLWithPath: "\(layer)/sparse"))
        #expect(content.count == 16 << 20)
        #expect(content[(8 << 20)..<((8 << 20) + 6)] == Data("middle".utf8))
        #expect(content.filter { $0 != 0 }.count == 6)
        var status = stat()
        stat("\(layer)/sparse", &status)
        #expect(status.st_blocks < 1000)
    }

    @Test("All compressions that are promised", arguments: ["none", "gzip", "zstd", "bzip2", "xz"])
    func compressions(_ program: String) throws {
        let tar = TarFixture.make { $0.add("file", "0", String(repeating: "text ", count: 10000)) }
        let packed = program == "none" ? tar : try TarFixture.filtered(tar, program)
        if packed.isEmpty {
            // The program is not installed: its format is read by a library, and said so by the test's output.
            print("\(program) is not installed: not tested")
            return
        }
        let fixture = try StoreFixture()
        let image = try fixture.importRootfs(packed)
        #expect(try FileStatus.of("\(try fixture.layer(image))/file").size == 50000)
        #expect(image.configuration.rootfs.diffIDs == [SHA256.digest(of: tar)])
        let type = [
            "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
            "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        ]
        #expect(image.manifest.layers[0].mediaType == type[program] ?? "application/vnd.oci.image.layer.v1.tar")
    }

    @Test("What other tools write is read", arguments: ["gnu", "pax", "ustar", "v7"])
    func formats(_ format: String) throws {
        let source = try TemporaryFolder()
        try source.write("tree/etc/file", Array("text".utf8))
        let tar = try TarFixture.filtered(
            [], "tar", ["-C", source.path("tree"), "--format=\(format)", "-cf", "-", "."])
        let fixture = try StoreFixture()
        let layer = try fixture.layer(try fixture.importRootfs(tar))
        #expect(try FileStatus.of("\(layer)/etc/file").size == 4)
    }

    @Test("Owners, set-id bits, devices and attributes", .enabled(if: isRoot, "needs root"))
    func privileged() throws {
        let capability: [UInt8] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let (fixture, layer) = try unpack {
            $0.add("su", "0", "x", mode: 0o4755, uid: 12, gid: 34)
            $0.add("group/", "5", mode: 0o2775, uid: 1000, gid: 2000)
            $0.add("group/file", "0", "x", mode: 0o644, uid: 1, gid: 1)
            $0.add("tmp/", "5", mode: 0o1777)
            $0.add("null", "3", mode: 0o666, device: (1, 3))
            $0.add("disk", "4", mode: 0o660, uid: 0, gid: 6, device: (8, 1))
            $0.add("link", "2", link: "su", uid: 77, gid: 88)
            $0.add("ping", "0", "x", uid: 5, pax: [("SCHILY.xattr.security.capability", capability)])
            $0.add(
                "note", "0", "x",
                pax: [
                    ("SCHILY.xattr.user.note", Array("a\0b".utf8)), ("SCHILY.xattr.security.selinux", Array("x".utf8)),
                    ("SCHILY.xattr.trusted.mine", [1]),
                ])
            $0.add("big", "0", "x", pax: [("uid", Array("4000000000".utf8))])
        }
        defer { withExtendedLifetime(fixture) {} }
        func status(_ name: String) throws -> FileStatus { try FileStatus.of("\(layer)/\(name)", followLinks: false) }
        let su = try status("su")
        #expect(su.mode == 0o4755 && su.uid == 12 && su.gid == 34)
        #expect(try status("group").mode == 0o2775)
        #expect(try status("group/file").gid == 1)
        #expect(try status("tmp").mode == 0o1777)
        let null = try status("null")
        #expect(null.kind == .characterDevice && null.major == 1 && null.minor == 3 && null.mode == 0o666)
        #expect(try status("disk").kind == .blockDevice)
        #expect(try status("link").uid == 77)
        #expect(try status("big").uid == 4_000_000_000)
        #expect(attribute("security.capability", of: "\(layer)/ping") == capability)
        #expect(attribute("user.note", of: "\(layer)/note") == Array("a\0b".utf8))
        #expect(attribute("security.selinux", of: "\(layer)/note") == nil)
        #expect(attribute("trusted.mine", of: "\(layer)/note") == nil)
    }

    @Test("Only root may reach the layers")
    func folders() throws {
        let (fixture, _) = try unpack { $0.add("a", "0") }
        #expect(try FileStatus.of(fixture.folder.path("store/layers")).mode == 0o700)
        #expect(try FileStatus.of(fixture.folder.path("store/images")).mode == 0o700)
    }
}
