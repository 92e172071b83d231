// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a failed skopeo has to say, as an error of ours.
struct SkopeoFailure {
    private let message: String
    private let name: RegistryName
    private let access: RegistryAccess

    init(_ errors: [UInt8], _ name: RegistryName, _ access: RegistryAccess) {
        message = SkopeoFailure.message(errors)
        self.name = name
        self.access = access
    }

    var error: ImageError {
        if says("no space left on device", "disk quota exceeded") {
            return ImageError("fetch \(name)", SystemError("write", "", .noSpace))
        }
        if says("server gave http response to https client") {
            return ImageError(
                .unreachable, "\(name): registry \(name.host) speaks HTTP instead of HTTPS",
                hint: "if that is meant to be so: --tls-verify=false")
        }
        if says("x509:", "tls: ", "certificate") {
            return ImageError(
                .unreachable, "\(name): registry \(name.host) has no certificate that this host trusts: \(reason)",
                hint: "its authority belongs in /etc/containers/certs.d/\(name.host)/ca.crt; "
                    + "--tls-verify=false trusts it blindly"
            )
        }
        if says("manifest unknown", "name unknown", "repository name not known", "name invalid") {
            return ImageError(
                .notFound, "image \(name) is not in the registry \(name.host)",
                hint: "look at the spelling of the name and of the tag")
        }
        if says("unauthorized", "authentication required", "invalid username/password", "access denied", "denied:") {
            // Who asks docker.io for a repository that is not there is told this, too.
            let what =
                access.credentials == nil && access.authFile == nil
                ? "refuses it without credentials, or there is none of this name"
                : "refuses these credentials"
            return ImageError(
                .denied, "image \(name): registry \(name.host) \(what)",
                hint:
                    "give --creds USER:PASSWORD, or a file that 'podman login' or 'docker login' wrote with --authfile")
        }
        if says("rejected by policy", "source image rejected") {
            return ImageError(
                .denied, "image \(name): \(reason)", hint: "/etc/containers/policy.json says which images are taken")
        }
        if says("did not match", "digest mismatch", "unexpected eof", "does not match") {
            return ImageError(.invalid, "image \(name): a blob that came is damaged: \(reason)")
        }
        if says(
            "connection refused", "no such host", "i/o timeout", "network is unreachable", "no route to host",
            "deadline exceeded", "server misbehaving", "connection reset", "temporary failure", "timeout")
        {
            return ImageError(
                .unreachable, "image \(name): registry \(name.host) cannot be reached: \(reason)",
                hint: "look at the name of the registry, the network and the proxy (HTTPS_PROXY)")
        }
        return ImageError(.invalid, "image \(name): \(message)")
    }

    private func says(_ parts: String...) -> Bool {
        let text = message.lowercased()
        return parts.contains { text.holds($0) }
    }

    /// The last part of a chain of reasons, and the one before it where the last says little.
    private var reason: String {
        var parts: [String] = [""]
        for word in message.split(separator: " ") {
            parts[parts.count - 1] += parts[parts.count - 1].isEmpty ? String(word) : " \(word)"
            if word.hasSuffix(":") { parts.append("") }
        }
        return parts.suffix(2).joined(separator: " ")
    }

    /// The text of the last line that ended the program: `time="…" level=fatal msg="…"`.
    static func message(_ errors: [UInt8]) -> String {
        let lines = errors.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
        guard let line = lines.last(where: { $0.holds("level=fatal") }) ?? lines.last else { return "skopeo failed" }
        guard let start = SkopeoFailure.end(of: "msg=\"", in: line) else { return line }
        var text: [UInt8] = []
        var isEscaped = false
        for byte in line.utf8[start...] {
            if isEscaped {
                text.append(byte == UInt8(ascii: "n") ? UInt8(ascii: " ") : byte)
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                break
            } else {
                text.append(byte)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func end(of part: String, in line: String) -> String.Index? {
        let wanted = Array(part.utf8)
        var index = line.utf8.startIndex
        while index != line.utf8.endIndex {
            if line.utf8[index...].starts(with: wanted) { return line.utf8.index(index, offsetBy: wanted.count) }
            index = line.utf8.index(after: index)
        }
        return nil
    }
}
