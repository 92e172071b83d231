// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Ids that an ordinary user may give to zones, subuid(5) and subgid(5).
enum SubordinateIDs {
    /// Parses a file of `NAME-OR-UID:FIRST:COUNT` lines; lines that say something else are skipped, as newuidmap does.
    static func ranges(_ text: String, user: UInt32, name: String?) -> [(first: UInt32, count: UInt32)] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 3, String(fields[0]) == name || UInt32(fields[0]) == user,
                let first = UInt32(fields[1]), let count = UInt32(fields[2]), count > 0,
                // Ids end at 4294967294.
                UInt64(first) + UInt64(count) <= UInt64(UInt32.max)
            else { return nil }
            return (first, count)
        }
    }

    /// The ranges of a zone's ids: the caller is root, and the subordinate ids follow.
    static func map(own: UInt32, _ subordinate: [(first: UInt32, count: UInt32)]) -> [UserNamespace.Range] {
        var ranges = [UserNamespace.Range(inside: 0, outside: own, count: 1)]
        var next: UInt32 = 1
        for (first, count) in subordinate {
            let (following, overflow) = next.addingReportingOverflow(count)
            if overflow { break }
            ranges.append(UserNamespace.Range(inside: next, outside: first, count: count))
            next = following
        }
        return ranges
    }

    /// The user's name in passwd(5), which may be missing.
    static func name(of user: UInt32, in passwd: String) -> String? {
        for line in passwd.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count >= 3, UInt32(fields[2]) == user { return String(fields[0]) }
        }
        return nil
    }
}
