// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@testable import Images

@Suite("Registries")
struct RegistryTests {
    @Test(
        "Names are where docker looks for them",
        arguments: [
            ("alpine", "docker.io/library/alpine:latest"), ("alpine:3", "docker.io/library/alpine:3"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"), ("team/tool", "docker.io/team/tool:latest"),
            ("docker://quay.io/a/b:v1", "quay.io/a/b:v1"), ("localhost:5000/x", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"), ("beef", "docker.io/library/beef:latest"),
        ])
    func names(_ text: String, _ whole: String) throws {
        #expect(try RegistryName(text).description == whole)
    }

    @Test("A digest takes the tag's place")
    func digests() throws {
        let digest = "sha256:" + String(repeating: "0a", count: 32)
        for text in ["alpine@\(digest)", "alpine:3@\(digest)"] {
            let name = try RegistryName(text)
            #expect(name.description == "docker.io/library/alpine@\(digest)")
            #expect(name.tag == nil && name.listed == nil)
            #expect(name.transport(nil) == "docker://docker.io/library/alpine@\(digest)")
        }
        #expect(try RegistryName("x.io:5/a:b").transport(Digest(digest)) == "docker://x.io:5/a@\(digest)")
    }

    @Test(
        "What names no repository is refused",
        arguments: ["", "sha256:" + String(repeating: "0", count: 64), "A/b", "a:b:c", "x:99999/y", "a@sha256:1"])
    func refuses(_ text: String) {
        #expect(throws: ImageError.self) { try RegistryName(text) }
    }

    @Test(
        "Base64 as RFC 4648 has it",
        arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")])
    func base64(_ text: String, _ expected: String) {
        #expect(Base64.text(Array(text.utf8)) == expected)
    }

    @Test(
        "What skopeo says becomes one sentence and a kind",
        arguments: [
            (
                "reading manifest 9 in h/x: manifest unknown: manifest unknown", ImageError.Code.notFound,
                "not in the registry"
            ),
            (
                "pinging container registry h: Get \\\"https://h/v2/\\\": dial tcp 1.2.3.4:443: connect: connection refused",
                .unreachable, "cannot be reached: connect: connection refused"
            ),
            (
                "Get \\\"https://h/v2/\\\": http: server gave HTTP response to HTTPS client", .unreachable,
                "HTTP instead of HTTPS"
            ),
            ("Get \\\"https://h/v2/\\\": x509: certificate signed by unknown authority", .unreachable, "certificate"),
            (
                "unable to retrieve auth token: invalid username/password: unauthorized: authentication required",
                .denied, "credentials"
            ),
            (
                "writing blob: happened during read: Digest did not match, expected sha256:1, got sha256:2", .invalid,
                "damaged"
            ),
            ("writing blob: write /x: no space left on device", .system, "o space left"),
            ("Source image rejected: Running image docker://x is rejected by policy.", .denied, "rejected by policy"),
            ("something that nobody has seen before", .invalid, "something that nobody has seen before"),
        ] as [(String, ImageError.Code, String)])
    func failures(_ message: String, _ code: ImageError.Code, _ words: String) throws {
        let line =
            "time=\"2026-11-21T19:08:11Z\" level=warning msg=\"unimportant\"\n"
            + "time=\"2026-11-21T19:08:11Z\" level=fatal msg=\"\(message)\"\n"
        let error = SkopeoFailure(Array(line.utf8), try RegistryName("h.io/x"), RegistryAccess()).error
        #expect(error.code == code)
        #expect(error.description.contains(words), "\(error.description)")
    }

    @Test(
        "Whatever it says, there is a message",
        arguments: ["", "\n", "panic", "msg=\"", "msg=\"a\\", "level=fatal msg=\"a \\\"b\\\" c\" x"])
    func messages(_ text: String) {
        #expect(!SkopeoFailure.message(Array(text.utf8)).isEmpty || text == "msg=\"")
    }
}
