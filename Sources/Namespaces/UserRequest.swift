// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// `user[:group]`, each a name or a number, as OCI images and `--user` give it.
public struct UserRequest: Sendable, Equatable {
    public enum Principal: Sendable, Equatable {
        case id(UInt32)
        case name(String)
    }

    public let user: Principal
    public let group: Principal?
    /// As it was given.
    public let text: String

    /// Parses the text; `nil` for anything that is not exactly one or two non-empty principals. Total: an empty part,
    /// a sign, an overflow or 4294967295 (which means "no change" to the kernel) is never read as root (CVE-2026-30892).
    public init?(_ text: String) {
        // By bytes: to Swift a colon with a combining mark after it is another character.
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            .map { Substring($0) }
        guard parts.count <= 2, let user = UserRequest.principal(parts[0]) else { return nil }
        if parts.count == 2 {
            guard let group = UserRequest.principal(parts[1]) else { return nil }
            self.group = group
        } else {
            group = nil
        }
        self.user = user
        self.text = text
    }

    private static func principal(_ text: Substring) -> Principal? {
        guard let first = text.utf8.first, text.utf8.count <= 256 else { return nil }
        if text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) {
            return id(text).map { .id($0) }
        }
        // useradd(8) allows more than it should, but no name begins with a sign or digit-like garbage such as 0x0.
        let isLetter = first | 0x20 >= UInt8(ascii: "a") && first | 0x20 <= UInt8(ascii: "z")
        guard isLetter || first == UInt8(ascii: "_") || first >= 0x80,
            text.utf8.allSatisfy({ $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != 0x7F })
        else { return nil }
        return .name(String(text))
    }

    /// Parses a number from 0 to 4294967294, digits only.
    static func id(_ text: some StringProtocol) -> UInt32? {
        // UInt32() would take a sign.
        guard text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }), let value = UInt32(text),
            value != .max
        else { return nil }
        return value
    }
}
