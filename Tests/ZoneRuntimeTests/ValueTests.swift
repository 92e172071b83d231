// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import ZoneRuntime

/// Sizes, signals and names as people write them.
@Suite struct ValueTests {
    // MARK: Sizes

    @Test(
        arguments: [
            ("0", 0), ("1048576", 1_048_576), ("1b", 1), ("512k", 524_288), ("512K", 524_288), ("512M", 536_870_912),
            ("512MB", 536_870_912), ("512MiB", 536_870_912), ("1.5G", 1_610_612_736), ("2gib", 2_147_483_648),
            ("1T", 1 << 40),
            ("1P", 1 << 50), ("0.5k", 512), (".5k", 512), ("1.", 1), ("9223372036854775807", .max),
            ("4503599627370497k", 4_611_686_018_427_388_928),
        ] as [(String, Int64)])
    func readsSizes(_ text: String, _ bytes: Int64) {
        #expect(ByteSize.parse(text) == bytes)
    }

    @Test(arguments: [
        "", " ", "M", "-1", "-1M", "+1", "1 M", " 1", "1M ", "1X", "1E", "1e3", "0x10", "1..5", "1.5.5", ".", "1,5M",
        "1MiBs", "１", "1\u{212A}", "1\u{212A}iB",
        "½", "9223372036854775808", "8192P", "99999999999999999999P", "9007199254740992k", "184467440737095516160",
        "inf", "nan",
        String(repeating: "1", count: 4000),
    ])
    func refusesSizes(_ text: String) {
        #expect(ByteSize.parse(text) == nil)
    }

    @Test(
        arguments: [
            (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (67_108_864, "64 MiB"),
            (1 << 40, "1 TiB"),
            (.max, "8192 PiB"),
        ] as [(Int64, String)])
    func writesSizes(_ bytes: Int64, _ text: String) {
        #expect(ByteSize.text(bytes) == text)
    }

    // MARK: Signals

    @Test(
        arguments: [
            ("TERM", SIGTERM), ("SIGTERM", SIGTERM), ("term", SIGTERM), ("SigKill", SIGKILL), ("15", 15), ("64", 64),
            ("1", 1),
            ("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmin+30", 64), ("RTMAX", 64), ("RTMAX-1", 63), ("RTMAX-30", 34),
            ("WINCH", SIGWINCH),
            ("PWR", 30), ("CLD", SIGCHLD),
        ] as [(String, Int32)])
    func readsSignals(_ text: String, _ number: Int32) {
        #expect(SignalName.number(of: text) == number)
    }

    @Test(arguments: [
        "", "0", "-9", "+9", "65", "4294967305", "9 ", "SIG", "SIGSIGTERM", "TERMINATE", "RTMIN-1", "RTMAX+1",
        "RTMIN+31", "RTMIN+",
        "RTMIN++1", "RTMIN+-1", "RTMIN+-0", "RTMAX--1", "RTMIN+99999999999", "RTMIDDLE", "0x9", "9.0",
        "\u{17F}IGTERM", "s\u{131}gterm", "\u{212A}ILL",
    ])
    func refusesSignals(_ text: String) {
        #expect(SignalName.number(of: text) == nil)
    }

    // MARK: Names

    @Test(arguments: ["a", "7", "web-1", "a.b_c-d", "A", String(repeating: "x", count: 63)])
    func takesNames(_ name: String) {
        #expect(ZoneName.isValid(name))
        #expect(throws: Never.self) { try ZoneName.validate(name) }
    }

    @Test(arguments: [
        "", ".", "..", "-a", "_a", ".a", "a/b", "../a", "a b", "a\n", "a\0", "é", "a:b", "a*",
        String(repeating: "x", count: 64),
    ])
    func refusesNames(_ name: String) {
        #expect(!ZoneName.isValid(name))
        let error = #expect(throws: ZoneError.self) { try ZoneName.validate(name) }
        #expect(error?.code == .invalid)
    }

    @Test func madeUpNamesAreValidAndMany() {
        let names = (0..<2000).map { _ in ZoneName.random() }
        for name in names {
            #expect(ZoneName.isValid(name))
            #expect(name.split(separator: "-").count == 2)
        }
        // Of some 15,000: two thousand draws repeat few.
        #expect(Set(names).count > 1500)
    }

    // MARK: Folders

    @Test func foldersAreNormalized() throws {
        let folders = try ZoneFolders(root: "//run///z/", store: "/s")
        #expect(folders.root == "/run/z")
        #expect(folders.volatile("web") == "/run/z/web")
        #expect(folders.persistent("web") == "/s/zones/web")
    }

    @Test(arguments: [("", "/s"), ("run", "/s"), ("/r", "./s")])
    func relativeFoldersAreRefused(_ root: String, _ store: String) {
        let error = #expect(throws: ZoneError.self) { _ = try ZoneFolders(root: root, store: store) }
        #expect(error?.code == .invalid)
    }

    @Test func eachRootHasControlGroupsOfItsOwn() throws {
        let parent = { (root: String) throws in try ZoneFolders(root: root, store: "/s").cgroupParent }
        #expect(try parent("/run/zonectl") == "zonectl")
        #expect(try parent("/run/zonectl/") == "zonectl")
        let other = try parent("/tmp/r")
        #expect(other.hasPrefix("zonectl-"))
        #expect(other.count == "zonectl-".count + 8)
        // Later calls must find what earlier ones made.
        #expect(try parent("/tmp//r/") == other)
        #expect(try Set((0..<500).map { try parent("/tmp/r\($0)") }).count == 500)
    }

    // MARK: Undo

    @Test func undoesInReverse() {
        var undone: [Int] = []
        withRollback { rollback in
            rollback.add { undone.append(1) }
            rollback.add { undone.append(2) }
            rollback.add { undone.append(3) }
            #expect(undone.isEmpty)
        }
        #expect(undone == [3, 2, 1])
    }

    @Test func aCommitKeepsEverything() {
        var undone: [Int] = []
        withRollback { rollback in
            rollback.add { undone.append(1) }
            rollback.commit()
            rollback.add { undone.append(2) }
        }
        #expect(undone == [2])
    }

    private func withRollback(_ body: (inout Rollback) -> Void) {
        var rollback = Rollback()
        body(&rollback)
    }
}
