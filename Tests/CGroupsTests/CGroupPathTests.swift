// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Testing

@testable import CGroups

@Suite struct CGroupPathTests {
    private func parse(_ text: String?, systemd: Bool = false) throws(SystemError) -> CGroupPath {
        try CGroupPath.parse(text, id: "z1", systemd: systemd, defaultParent: "zonectl")
    }

    @Test(
        arguments: [
            (nil, "zonectl/z1"), ("/docker/abc", "docker/abc"), ("pod/abc", "zonectl/pod/abc"), ("/a", "a"),
            ("/a..b/...", "a..b/..."), ("a:b:c", "zonectl/a:b:c"),
        ] as [(String?, String)])
    func groups(_ text: String?, _ path: String) throws {
        #expect(try parse(text) == .group(path))
    }

    @Test(arguments: [
        "", "/", "//", "/a/", "a//b", "..", "/..", "a/../b", "/a/..", ".", "/./a", "/a/.", "a\0b", "/a\nb", "/a\u{7F}",
        // A mark that Swift puts into one character with the slash before it.
        "/a/../\u{0301}b", "/..\u{2F}\u{0301}",
    ])
    func waysOutAreRefused(_ text: String) {
        let error = #expect(throws: SystemError.self) { try parse(text) }
        #expect(error?.errno == .invalid)
    }

    @Test func longOnesAreRefused() throws {
        let name = String(repeating: "x", count: 255)
        #expect(try parse("/\(name)") == .group(name))
        for text in ["/\(name)x", "/" + String(repeating: "y/", count: 2000) + "y"] {
            let error = #expect(throws: SystemError.self) { try parse(text) }
            #expect(error?.errno == .nameTooLong)
        }
    }

    @Test(arguments: ["..", "a/../..", ""]) func badNamesMakeNoPath(_ id: String) {
        #expect(throws: SystemError.self) {
            try CGroupPath.parse(nil, id: id, systemd: false, defaultParent: "zonectl")
        }
    }

    @Test(
        arguments: [
            (nil, "", "zonectl", "z1"), ("machine.slice:libpod:abc", "machine.slice", "libpod", "abc"),
            (":docker:abc", "", "docker", "abc"), ("-.slice::abc", "-.slice", "", "abc"),
            ("kubepods.slice:cri:kubepods-pod1.slice", "kubepods.slice", "cri", "kubepods-pod1.slice"),
        ] as [(String?, String, String, String)])
    func units(_ text: String?, _ slice: String, _ prefix: String, _ name: String) throws {
        #expect(try parse(text, systemd: true) == .unit(slice: slice, prefix: prefix, name: name))
    }

    @Test(arguments: [
        "", "/a/b", "a:b", "a:b:c", "a.slice:b", "a.slice:b:c:d", "a.slice:b:", "a-.slice:b:c", "-a.slice:b:c",
        "a--b.slice:b:c", ".slice:b:c", "a/b.slice:b:c", "a.slice:b:../c", "a.slice:b/..:c", "a.slice:b:c d",
        "a.slice:b:\0", "a.slice:b:é",
    ])
    func otherTextsAreNoUnit(_ text: String) {
        #expect(throws: SystemError.self) { try parse(text, systemd: true) }
    }

    /// Any bytes: an error or a path that stays inside.
    @Test func isTotal() {
        var state: UInt64 = 88_172_645_463_325_252
        let alphabet = Array("/..:-ab\0\n\\ \u{0301}slice.".utf8)
        for _ in 0..<20_000 {
            var bytes: [UInt8] = []
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            for shift in 0..<(state % 12) {
                bytes.append(alphabet[Int((state >> (shift * 5)) % UInt64(alphabet.count))])
            }
            let text = String(decoding: bytes, as: UTF8.self)
            if case .group(let path)? = try? parse(text) {
                #expect(path.utf8.first != UInt8(ascii: "/") && !path.pathComponents.contains(".."))
            }
            _ = try? parse(text, systemd: true)
        }
    }

    @Test(
        arguments: [
            ("a.slice", "a.slice"), ("a-b.slice", "a.slice/a-b.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"), ("-.slice", ""),
            (
                "kubepods-besteffort-pod_1.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod_1.slice"
            ),
        ])
    func slicesLieInOneAnother(_ slice: String, _ path: String) throws {
        #expect(try SystemdName.expand(slice: slice) == path)
    }

    @Test func membership() {
        let text = "9:name=systemd:/\n2:cpu,cpuacct:/docker/a:b\n0::/x y\nbad\n1:x:relative\n"
        let groups = CGroupMembership(text: text)
        #expect(groups.path(in: ["cpuacct", "cpu"]) == "/docker/a:b")
        #expect(groups.path(in: []) == "/x y")
        #expect(groups.path(in: ["x"]) == nil && groups.path(in: ["cpu"]) == nil)
    }
}
