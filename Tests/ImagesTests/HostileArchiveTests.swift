// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation
import Testing

@testable import Images

/// P12: unpacking a layer cannot leave its directory; P13: a bad archive is an error.
@Suite("Hostile archives")
struct HostileArchiveTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let tar: [UInt8]
        /// What the error says.
        let reason: String

        init(_ name: String, _ reason: String, _ fill: (inout TarFixture) -> Void) {
            testDescription = name
            self.reason = reason
            tar = TarFixture.make(fill)
        }
    }

    static let refused: [Case] = [
        Case("parent directory", "leads out") { $0.add("../evil", "0", "x") },
        Case("parent directory inside", "leads out") { $0.add("a/../../evil", "0", "x") },
        Case("parent directory that stays inside", "leads out") { $0.add("a/../b", "0", "x") },
        Case("absolute parent directory", "leads out") { $0.add("/../evil", "0", "x") },
        Case("only a parent directory", "leads out") { $0.add("..", "5") },
        Case("file through an absolute link", "no directory of this layer") {
            $0.add("out", "2", link: "/tmp")
            $0.add("out/evil", "0", "x")
        },
        Case("file through a relative link", "no directory of this layer") {
            $0.add("out", "2", link: "../../../../../../../../tmp")
            $0.add("out/evil", "0", "x")
        },
        Case("directory through a link", "no directory of this layer") {
            $0.add("out", "2", link: "/tmp")
            $0.add("out/evil/deep", "5")
        },
        Case("file through two links", "no directory of this layer") {
            $0.add("one", "2", link: "two")
            $0.add("two", "2", link: "/tmp")
            $0.add("one/evil", "0", "x")
        },
        Case("file through a loop of links", "no directory of this layer") {
            $0.add("one", "2", link: "two")
            $0.add("two", "2", link: "one")
            $0.add("one/evil", "0", "x")
        },
        Case("file through a magic link", "no directory of this layer") {
            $0.add("out", "2", link: "/proc/self/root")
            $0.add("out/evil", "0", "x")
        },
        Case("file below a file", "no directory of this layer") {
            $0.add("a", "0", "x")
            $0.add("a/b", "0", "x")
        },
        Case("hard link to the host", "no directory of this layer") { $0.add("link", "1", link: "/etc/hostname") },
        Case("hard link to what is missing", "not in this layer") {
            $0.add("etc/", "5")
            $0.add("link", "1", link: "/etc/hostname")
        },
        Case("hard link out of the layer", "leads out") { $0.add("link", "1", link: "../../../../../etc/hostname") },
        Case("hard link through a link", "no directory of this layer") {
            $0.add("out", "2", link: "/etc")
            $0.add("link", "1", link: "out/hostname")
        },
        Case("hard link to itself", "itself") {
            $0.add("link", "0", "x")
            $0.add("link", "1", link: "link")
        },
        Case("hard link to a directory", "is a directory") {
            $0.add("folder", "5")
            $0.add("link", "1", link: "folder")
        },
        Case("hard link to the root", "layer's root") { $0.add("link", "1", link: "/") },
        Case("hard link to nothing", "neither file") { $0.add("link", "1") },
        Case("whiteout of the parent", "names nothing") { $0.add("a/.wh...", "0") },
        Case("whiteout of the directory itself", "names nothing") { $0.add("a/.wh..", "0") },
        Case("whiteout of no name", "names nothing") { $0.add("a/.wh.", "0") },
        Case("member below a whiteout", "below a whiteout") { $0.add(".wh.a/b", "0") },
        Case("no name", "without a name") { $0.add("", "0", "x") },
        Case("root as a file", "layer's root") { $0.add("./", "2", link: "/tmp") },
        Case("name of 300 bytes", "a part of the name") { $0.add(String(repeating: "n", count: 300), "0") },
        Case("path of 5000 bytes", "a name of 5000 bytes") { $0.add(String(repeating: "nnnn/", count: 1000), "5") },
        Case("600 directories deep", "directories deep") { $0.add(String(repeating: "d/", count: 600), "5") },
        Case("symbolic link to nothing", "symbolic link of 0 bytes") { $0.add("link", "2") },
        Case("symbolic link of 5000 bytes", "symbolic link of 5000 bytes") {
            $0.add("link", "2", link: "a", pax: [("linkpath", Array(repeating: 0x61, count: 5000))])
        },
        Case("owner out of range", "out of range") { $0.add("a", "0", pax: [("uid", Array("4294967295".utf8))]) },
        Case("negative owner", "out of range") { $0.add("a", "0", pax: [("gid", Array("-1".utf8))]) },
        Case("device out of range", "out of range") { $0.add("a", "3", device: (4096, 0)) },
        Case("huge sparse file", "out of range") {
            $0.add(
                "a", "0",
                pax: [("GNU.sparse.size", Array("9000000000000000000".utf8)), ("GNU.sparse.map", Array("0,0".utf8))])
        },
        Case("sparse piece beyond the end", "beyond the file's end") {
            $0.add(
                "a", "0", "x", pax: [("GNU.sparse.size", Array("10".utf8)), ("GNU.sparse.map", Array("100,1".utf8))])
        },
        Case("overlayfs redirect", "overlayfs's own") {
            $0.add("a", "5", pax: [("SCHILY.xattr.trusted.overlay.redirect", Array("/etc".utf8))])
        },
        Case("overlayfs opaque for users", "overlayfs's own") {
            $0.add("a", "5", pax: [("SCHILY.xattr.user.overlay.opaque", Array("y".utf8))])
        },
        Case("malformed pax record", "") {
            $0.add("pax", "x", "999 path=a\n")
            $0.add("a", "0", "x")
        },
        Case("data cut off", "truncated") {
            $0.add("a", "0", "x")
            var cut = TarFixture()
            cut.add("b", "0", String(repeating: "y", count: 5000))
            $0.appendRaw(Array(cut.bytes.prefix(1000)))
        },
        Case("damaged header", "") {
            $0.add("a", "0", "x")
            $0.appendRaw([UInt8](repeating: 0x41, count: 512))
        },
    ]

    @Test("is refused, and nothing is left", arguments: refused)
    func isRefused(_ hostile: Case) throws {
        let fixture = try StoreFixture()
        let error = try #require(try fixture.refusal(hostile.tar), "was accepted")
        #expect(error.code == .invalid)
        #expect(hostile.reason.isEmpty || error.description.contains(hostile.reason), "\(error)")
        #expect(fixture.isEmpty, "\(fixture.folder.tree("store"))")
        #expect(!FileManager.default.fileExists(atPath: "/tmp/evil"))
        #expect(!FileManager.default.fileExists(atPath: fixture.folder.path("evil")))
    }

    @Test("No control character of a name reaches a terminal")
    func errorsAreClean() throws {
        let fixture = try StoreFixture()
        let error = try #require(try fixture.refusal(TarFixture.make { $0.add("\u{1b}[31m/../x\n", "0") }))
        #expect(!error.description.unicodeScalars.contains { $0.value < 32 })
    }

    @Test(
        "What is no archive is refused",
        arguments: [
            [], Array("hello".utf8), [UInt8](repeating: 0, count: 100), [UInt8](repeating: 0x5a, count: 100_000),
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], [0x28, 0xb5, 0x2f, 0xfd, 0, 0], Array("BZh9".utf8),
            [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0],
            Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 0, count: 600),
        ] as [[UInt8]])
    func noArchive(_ bytes: [UInt8]) throws {
        let fixture = try StoreFixture()
        let error = try #require(try fixture.refusal(bytes))
        #expect(error.code == .invalid)
        #expect(fixture.isEmpty)
    }

    @Test("Any byte changed, or any end cut off, is an error or a sound image, never a trap")
    func mutations() throws {
        let tar = TarFixture.make {
            $0.add("a/", "5")
            $0.add(
                "a/file", "0", "text", pax: [("SCHILY.xattr.user.x", Array("y".utf8)), ("mtime", Array("1.5".utf8))])
            $0.add("b", "2", link: "a")
            $0.add("c", "1", link: "a/file")
        }
        let zipped = try TarFixture.filtered(tar, "gzip")
        let fixture = try StoreFixture()
        var generator = SplitMix(state: 42)
        for round in 0..<200 {
            var bytes = round % 2 == 0 ? tar : zipped
            if round % 5 == 0 {
                bytes.removeLast(Int(generator.next() % UInt64(bytes.count)))
            } else {
                for _ in 0..<(1 + round % 3) {
                    bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(generator.next() & 0xff)
                }
            }
            _ = try fixture.refusal(bytes)
        }
        #expect(!FileManager.default.fileExists(atPath: fixture.folder.path("evil")))
    }

    struct SplitMix {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }

    // MARK: Bombs

    @Test("A bomb is refused before it fills the disk")
    func bomb() throws {
        var fixture = try StoreFixture()
        fixture.store.limits.slack = 1 << 20
        fixture.store.limits.ratio = 10
        let tar = TarFixture.make { $0.add("zeros", "0", String(repeating: "\0", count: 8 << 20)) }
        let error = try #require(try fixture.refusal(try TarFixture.filtered(tar, "gzip")))
        #expect(error.code == .invalid && error.description.contains("bomb"))
        #expect(fixture.isEmpty)
        // The same bytes uncompressed are no bomb.
        #expect(try fixture.refusal(tar) == nil)
    }

    @Test("Compression of compressed data is refused")
    func nested() throws {
        let fixture = try StoreFixture()
        let tar = TarFixture.make { $0.add("a", "0", "x") }
        let twice = try TarFixture.filtered(try TarFixture.filtered(tar, "gzip"), "gzip")
        let error = try #require(try fixture.refusal(twice))
        #expect(error.description.contains("more than once"))
    }

    @Test("Too many members are refused")
    func members() throws {
        var fixture = try StoreFixture()
        fixture.store.limits.entries = 10
        let error = try #require(
            try fixture.refusal(TarFixture.make { tar in (0...10).forEach { tar.add("f\($0)", "0") } }))
        #expect(error.description.contains("more than 10 members"))
        #expect(fixture.isEmpty)
    }

    @Test("Headers without end are refused")
    func headers() throws {
        var fixture = try StoreFixture()
        fixture.store.limits.header = 1 << 20
        // Sparse maps of the old GNU form go on for as long as a flag says so.
        var tar = TarFixture()
        tar.add("a", "S")
        var bytes = tar.bytes
        bytes[482] = 1
        bytes.replaceSubrange(386..<398, with: Array("00000000000\0".utf8))
        bytes.replaceSubrange(398..<410, with: Array("00000000000\0".utf8))
        bytes.replaceSubrange(148..<156, with: [UInt8](repeating: 32, count: 8))
        let sum = String(bytes.prefix(512).reduce(0) { $0 + Int($1) }, radix: 8)
        bytes.replaceSubrange(148..<(148 + sum.utf8.count), with: Array(sum.utf8))
        bytes[148 + sum.utf8.count] = 0
        var more = [UInt8](repeating: 0, count: 512)
        for slot in 0..<21 {
            more.replaceSubrange((slot * 24)..<(slot * 24 + 24), with: Array("00000000000\000000000000\0".utf8))
        }
        more[504] = 1
        for _ in 0..<4000 { bytes += more }
        let error = try #require(try fixture.refusal(bytes))
        #expect(error.description.contains("a header of more than 1 MiB"), "\(error)")
    }
}
