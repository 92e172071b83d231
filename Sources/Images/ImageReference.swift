// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// What a user names an image by.
///
/// Names are kept as docker shows them: `busybox`, `docker.io/library/busybox` and `localhost/busybox` are all
/// `busybox:latest`; another registry's host stays, as in `quay.io/team/tool:v1`.
enum ImageReference: Equatable {
    /// A whole name with its tag.
    case name(String)
    case digest(Digest)
    /// Four digits or more that begin a digest; tried where no image has this name, which is `nil` for one that no
    /// image can have.
    case prefix(String, name: String?)

    /// Reads what a user typed.
    init(_ text: String) throws(ImageError) {
        if let at = text.utf8.lastIndex(of: UInt8(ascii: "@")) {
            // NAME@DIGEST: the digest alone decides, as with docker.
            _ = try ImageReference.normalized(String(text[..<at]))
            guard let digest = Digest(String(text[text.index(after: at)...])) else {
                throw ImageError(
                    .invalid, "image \"\(text)\": what follows '@' is not sha256: and 64 hexadecimal digits")
            }
            self = .digest(digest)
            return
        }
        if let digest = Digest(text) ?? Digest(hex: text) {
            self = .digest(digest)
            return
        }
        let isMarked = text.utf8.starts(with: "sha256:".utf8)
        let digits = isMarked ? String(text.dropFirst(7)) : text
        if (4..<64).contains(digits.utf8.count), digits.utf8.allSatisfy(ImageReference.isHexDigit) {
            self = .prefix(digits, name: isMarked ? nil : try? ImageReference.normalized(text))
            return
        }
        self = .name(try ImageReference.normalized(text))
    }

    /// Reads what is to be a name, where `beef` is no digest's beginning.
    init(asName text: String) throws(ImageError) {
        if let digest = Digest(text) ?? Digest(hex: text) {
            self = .digest(digest)
        } else {
            self = .name(try ImageReference.normalized(text))
        }
    }

    /// Returns the name as images are listed by it.
    static func normalized(_ text: String) throws(ImageError) -> String {
        // Bytes throughout: this is on the way of every start, and Characters would take longer than all else in it.
        var parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard let first = parts.first else { throw invalid(text, "it is empty") }
        // docker's rule: the first part is a host when it looks like one.
        var host = ""
        if parts.count > 1, isHostLike(first) {
            parts.removeFirst()
            let name = String(Substring(first))
            if !["docker.io", "index.docker.io", "registry-1.docker.io", "localhost"].contains(name) {
                guard isHost(first) else { throw invalid(text, "\"\(name)\" is not a registry's host name") }
                host = name + "/"
            } else if parts.count > 1, let next = parts.first, isHostLike(next) {
                // Without its host it would be another registry's.
                throw invalid(text, "\"\(Substring(next))\" stands for a registry, and behind another one")
            }
        }
        if host.isEmpty, parts.count == 2, parts[0].elementsEqual("library".utf8) { parts.removeFirst() }
        return host + (try path(&parts, in: text))
    }

    private static func isHostLike(_ part: Bytes) -> Bool {
        part.contains { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ":") } || part.elementsEqual("localhost".utf8)
    }

    /// Checks the parts after the host, and the tag, which the last of them may hold.
    private static func path(_ parts: inout [Bytes], in text: String) throws(ImageError) -> String {
        var tag = "latest"
        if let last = parts.last, let colon = last.firstIndex(of: UInt8(ascii: ":")) {
            tag = String(Substring(last[last.index(after: colon)...]))
            parts[parts.count - 1] = last[..<colon]
        }
        guard isTag(tag) else {
            throw invalid(text, "\"\(tag)\" is not a tag: letters, digits, '_', '.', '-', 128 at most")
        }
        for part in parts where !isComponent(part) {
            if part.isEmpty { throw invalid(text, "a part of it is empty") }
            throw invalid(
                text,
                "\"\(Substring(part))\" is not made of lower-case letters and digits, joined by '.', '_', '__' or '-'")
        }
        let whole = parts.map { String(Substring($0)) }.joined(separator: "/")
        guard whole.utf8.count <= 255 else { throw invalid(text, "it is longer than 255 characters") }
        return "\(whole):\(tag)"
    }

    private typealias Bytes = Substring.UTF8View

    private static func invalid(_ text: String, _ reason: String) -> ImageError {
        ImageError(.invalid, "image name \"\(TarEntry.shown(Array(text.utf8)))\": \(reason)")
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        isDigit(byte) || UInt8(ascii: "a")...UInt8(ascii: "f") ~= byte
    }

    private static func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }
    private static func isLower(_ byte: UInt8) -> Bool { UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte }
    private static func isUpper(_ byte: UInt8) -> Bool { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte }

    private static func isTag(_ tag: String) -> Bool {
        guard let first = tag.utf8.first, tag.utf8.count <= 128, first != UInt8(ascii: "."), first != UInt8(ascii: "-")
        else { return false }
        return tag.utf8.allSatisfy { byte in
            isLower(byte) || isUpper(byte) || isDigit(byte) || "_.-".utf8.contains(byte)
        }
    }

    /// Lower-case letters and digits, with separators only between them: `.`, `_`, `__` or any number of `-`.
    private static func isComponent(_ part: Bytes) -> Bool {
        var separator: [UInt8] = []
        var hasBegun = false
        for byte in part {
            if isLower(byte) || isDigit(byte) {
                let isSound = separator.count <= 1 || separator == Array("__".utf8)
                guard isSound || separator.allSatisfy({ $0 == UInt8(ascii: "-") }) else { return false }
                guard hasBegun || separator.isEmpty else { return false }
                separator = []
                hasBegun = true
            } else if "._-".utf8.contains(byte) {
                separator.append(byte)
            } else {
                return false
            }
        }
        return hasBegun && separator.isEmpty
    }

    private static func isHost(_ text: Bytes) -> Bool {
        let parts = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        // RFC 1035: 255 bytes at most, as it is written in packets.
        guard let host = parts.first, host.count <= 253, parts.count <= 2 else { return false }
        if parts.count == 2, UInt16(Substring(parts[1])) == nil { return false }
        return host.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-") && (1...63).contains(label.count)
                && label.allSatisfy { isLower($0) || isUpper($0) || isDigit($0) || $0 == UInt8(ascii: "-") }
        }
    }
}
