// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import TestSupport
import Testing

@testable import Namespaces

@Suite struct UserRequestTests {
    struct Good: Sendable {
        let text: String
        let user: UserRequest.Principal
        let group: UserRequest.Principal?

        init(_ text: String, _ user: UserRequest.Principal, _ group: UserRequest.Principal? = nil) {
            self.text = text
            self.user = user
            self.group = group
        }
    }

    @Test(arguments: [
        Good("0", .id(0)), Good("1000", .id(1000)), Good("4294967294", .id(4_294_967_294)), Good("007", .id(7)),
        Good("root", .name("root")), Good("0:0", .id(0), .id(0)),
        Good("www-data:tape", .name("www-data"), .name("tape")),
        Good("1000:video", .id(1000), .name("video")), Good("_apt:65534", .name("_apt"), .id(65534)),
        Good("user.name", .name("user.name")), Good("žofie", .name("žofie")), Good("a$", .name("a$")),
        // A colon is one whatever stands beside it: to Swift these are characters of their own.
        Good("a:\u{301}b", .name("a"), .name("\u{301}b")), Good("a\u{600}:b", .name("a\u{600}"), .name("b")),
    ])
    func reads(_ good: Good) throws {
        let request = try #require(UserRequest(good.text))
        #expect(request.user == good.user)
        #expect(request.group == good.group)
        #expect(request.text == good.text)
    }

    /// CVE-2026-30892: whatever is not exactly a user must never be read as root.
    @Test(arguments: [
        "", ":", "1:", ":1", "::", "1:2:3", "root:", ":root", "root::", "-1", "+1", "1:-1", "0:\u{301}:0", "0\u{600}:",
        "4294967295",
        "0:4294967295",
        "4294967296", "18446744073709551616", "99999999999999999999999999", "0x0", "0X0", "0b0", "1e3", "1.0", "0 ",
        " 0",
        "0\n", "\n", "\t", " ", "root ", " root", "ro ot", "root\n", "root/x", "../x", "-root", "+root", ".x", "0root",
        "٣", "０",
        "a\u{7F}", "a\u{0}", "\u{0}", "1:0x0", "root:0 ",
    ])
    func refuses(_ text: String) {
        // A digit of another script is a letter to us: a name, which is looked up and not found.
        if let request = UserRequest(text) {
            #expect(["٣", "０"].contains(text), "\(request)")
            #expect(request.user == .name(text))
        }
    }

    @Test func lengthIsBounded() {
        #expect(UserRequest(String(repeating: "a", count: 256)) != nil)
        #expect(UserRequest(String(repeating: "a", count: 257)) == nil)
        #expect(UserRequest("0:" + String(repeating: "0", count: 257)) == nil)
    }
}

/// Users are looked up in the zone's own files, below a descriptor of its root.
@Suite struct UserLookupTests {
    private let root: TemporaryFolder

    init() throws {
        root = try TemporaryFolder()
        try root.write(
            "etc/passwd",
            """
            root:x:0:0:root:/root:/bin/sh
            broken:x:oops:0::/:
            minus:x:-1:0::/:
            short:x:5
            none:x:4294967295:4294967295::/:

            alice:x:1000:100:Alice:/home/alice:/bin/sh
            alice:x:0:0:a second entry:/root:/bin/sh
            last:x:7:8::/last:
            """)
        try root.write(
            "etc/group",
            """
            root:x:0:
            users:x:100:
            audio:x:29:alice,last
            video:x:44:bob,alice
            bad:x:4294967295:alice
            cut:x
            """)
    }

    private func resolve(_ text: String) throws -> Identity {
        try UserLookup.resolve(.named(#require(UserRequest(text))), root: root.descriptor.raw)
    }

    @Test func aNameBringsItsGroupsAndHome() throws {
        let alice = try resolve("alice")
        #expect((alice.uid, alice.gid) == (1000, 100))
        #expect(alice.groups == [29, 44])
        #expect(alice.home == "/home/alice")
    }

    @Test func anExplicitGroupStandsAlone() throws {
        let alice = try resolve("alice:video")
        #expect((alice.uid, alice.gid) == (1000, 44))
        #expect(alice.groups.isEmpty)
        #expect(try resolve("alice:12345").gid == 12345)
    }

    @Test func aNumberNeedsNoEntry() throws {
        let known = try resolve("7")
        #expect((known.uid, known.gid) == (7, 8))
        #expect(known.groups == [29])
        #expect(known.home == "/last")
        let unknown = try resolve("4242")
        #expect((unknown.uid, unknown.gid) == (4242, 0))
        #expect(unknown.home == nil)
    }

    @Test(arguments: ["nobody-here", "broken", "minus", "none", "short", "alice:nogroup", "alice:bad", "alice:cut"])
    func whatIsNotThereIsAnError(_ text: String) {
        let failure = #expect(throws: LaunchFailure.self) { _ = try resolve(text) }
        #expect(failure?.step == .user)
        #expect(failure?.errno == .noEntry)
    }

    @Test func anImageWithoutUsersTakesNumbers() throws {
        let empty = try TemporaryFolder()
        let request = try #require(UserRequest("5:6"))
        let identity = try UserLookup.resolve(.named(request), root: empty.descriptor.raw)
        #expect((identity.uid, identity.gid) == (5, 6))
        let name = try #require(UserRequest("root"))
        #expect(throws: LaunchFailure.self) { _ = try UserLookup.resolve(.named(name), root: empty.descriptor.raw) }
    }

    @Test func linksInTheImageStayInTheImage() throws {
        let image = try TemporaryFolder()
        try image.makeFolder("etc")
        // The host's file has a root; the image has no such file.
        try image.descriptor.makeSymlink("etc/passwd", to: "/etc/shadow")
        let name = try #require(UserRequest("root"))
        #expect(throws: LaunchFailure.self) { _ = try UserLookup.resolve(.named(name), root: image.descriptor.raw) }
        try image.write("etc/shadow", "root:x:11:12::/in/the/image:\n")
        let identity = try UserLookup.resolve(.named(name), root: image.descriptor.raw)
        #expect((identity.uid, identity.gid) == (11, 12))
    }

    @Test func linesMayEndAsOnWindows() throws {
        let image = try TemporaryFolder()
        try image.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\r\nalice:x:5:6:Alice:/home/alice:/bin/sh\r\n")
        let name = try #require(UserRequest("alice"))
        #expect(try UserLookup.resolve(.named(name), root: image.descriptor.raw).uid == 5)
    }

    @Test func idsAreTakenAsTheyAre() throws {
        let user = ProcessPlan.User.ids(uid: 1000, gid: 5, groups: [6])
        let identity = try UserLookup.resolve(user, root: root.descriptor.raw)
        #expect((identity.uid, identity.gid) == (1000, 5))
        #expect(identity.groups == [6])
        #expect(identity.home == "/home/alice")
    }
}
