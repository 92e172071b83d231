// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// Where an image is: the registry, the repository there, and the tag or the digest.
public struct RegistryName: Sendable, Equatable, CustomStringConvertible {
    /// With its port, if it has one: `docker.io`, `localhost:5000`.
    public let host: String
    public let repository: String
    /// `nil` where a digest alone decides.
    public let tag: String?
    public let digest: Digest?
    /// As images are listed by it; `nil` where a digest decides.
    let listed: String?

    /// Reads what a user typed, by docker's rules: `alpine` is `docker.io/library/alpine:latest`. A transport that only says
    /// so, `docker://`, may stand before it.
    public init(_ text: String) throws(ImageError) {
        let name = text.after("docker://") ?? text
        var digest: Digest?
        if case .digest(let found) = try ImageReference(name) {
            guard name.utf8.contains(UInt8(ascii: "@")) else {
                throw ImageError(
                    .invalid, "\"\(name)\" is a digest without the name of a repository",
                    hint: "name it as in docker.io/library/alpine@sha256:…")
            }
            digest = found
        }
        let listed = try ImageReference.normalized(name.halves("@").0)
        let slash = listed.utf8.firstIndex(of: UInt8(ascii: "/"))
        let first = slash.map { String(decoding: listed.utf8[..<$0], as: UTF8.self) }
        let isHost = first.map { $0.utf8.contains(UInt8(ascii: ".")) || $0.utf8.contains(UInt8(ascii: ":")) } ?? false
        var rest = listed
        if let first, isHost { rest = listed.after(first + "/") ?? listed }
        host = isHost ? first ?? "" : "docker.io"
        // The tag is behind the last colon, and what is left has no other.
        let (path, tag) = rest.halves(":")
        repository = isHost || slash != nil ? path : "library/\(path)"
        self.tag = digest == nil ? tag : nil
        self.digest = digest
        self.listed = digest == nil ? listed : nil
    }

    public var description: String {
        "\(host)/\(repository)" + (digest.map { "@\($0)" } ?? ":\(tag ?? "latest")")
    }

    /// The same repository's document of this digest, as skopeo names it.
    func transport(_ digest: Digest?) -> String {
        digest.map { "docker://\(host)/\(repository)@\($0)" } ?? "docker://\(self)"
    }
}
