// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@testable import Images

@Suite("Image references")
struct ImageReferenceTests {
    @Test(
        "Names are normalised as docker shows them",
        arguments: [
            ("busybox", "busybox:latest"),
            ("busybox:latest", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("docker.io/library/busybox", "busybox:latest"),
            ("docker.io/busybox", "busybox:latest"),
            ("index.docker.io/library/busybox:v1", "busybox:v1"),
            ("library/busybox", "busybox:latest"),
            ("localhost/busybox", "busybox:latest"),
            ("localhost/team/tool", "team/tool:latest"),
            ("team/tool", "team/tool:latest"),
            ("docker.io/team/tool:v2", "team/tool:v2"),
            ("quay.io/team/tool", "quay.io/team/tool:latest"),
            ("quay.io/library/tool", "quay.io/library/tool:latest"),
            ("localhost:5000/busybox", "localhost:5000/busybox:latest"),
            ("registry.example.com:443/a/b/c:T_1.x-y", "registry.example.com:443/a/b/c:T_1.x-y"),
            ("a__b/c--d.e_f", "a__b/c--d.e_f:latest"),
        ])
    func normalises(_ text: String, _ expected: String) throws {
        #expect(try ImageReference.normalized(text) == expected)
        #expect(try ImageReference(text) == .name(expected))
    }

    @Test(
        "What no image can be called is refused",
        arguments: [
            "", ":", "/", "a:", ":a", "/a", "a/", "a//b", "Busybox", "team/Tool", "a b", "a:b c", "a..b", "a._b",
            "a___b", "-a",
            "a-", "_a", "../etc", "docker.io/", "localhost/", "x:y/z", "bad_host.io/a", "a.io:99999/b", "a:.tag", "ä",
            "a\u{1b}[31m", "localhost/quay.io/a", "docker.io/localhost/a", "docker.io/a:1/b",
            String(repeating: "a", count: 64) + ".io/a", String(repeating: "abcdefg.", count: 32) + "io/a",
            String(repeating: "a", count: 256), "a:" + String(repeating: "t", count: 129), "busybox@sha256:12",
        ])
    func refuses(_ text: String) {
        #expect(throws: ImageError.self) { try ImageReference(text) }
    }

    @Test("Digests, and what begins one")
    func digests() throws {
        let hex = String(repeating: "0123456789abcdef", count: 4)
        guard case .digest(let digest) = try ImageReference("sha256:\(hex)") else {
            Issue.record("no digest")
            return
        }
        #expect(digest.hex == hex)
        #expect(try ImageReference(hex) == .digest(digest))
        #expect(try ImageReference("busybox@sha256:\(hex)") == .digest(digest))
        #expect(try ImageReference("0123") == .prefix("0123", name: "0123:latest"))
        #expect(try ImageReference("sha256:0123") == .prefix("0123", name: nil))
        #expect(try ImageReference("012") == .name("012:latest"))
    }

    @Test(
        "A file's name becomes an image's",
        arguments: [
            ("/tmp/busybox.tar", "busybox"), ("rootfs.tar.gz", "rootfs"), ("a/b/Debian 12.tar.xz", "debian-12"),
            ("x.tgz", "x"),
            (".", "image"), ("..", "image"), ("/", "image"), ("___", "image"), ("folder/", "folder"),
            ("ünïcode.tar", "n-code"),
            ("a..b", "a.b"), (".tar", "tar"),
        ])
    func baseNames(_ path: String, _ expected: String) throws {
        #expect(ImageStore.baseName(path) == expected)
        #expect(try ImageReference.normalized(expected) == "\(expected):latest")
    }
}
