// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Names of systemd's units, systemd.unit(5), systemd.slice(5).
enum SystemdName {
    /// Returns a slice's path below the hierarchy's root: `a-b.slice` lies in `a.slice`; `-.slice` is the root itself,
    /// hence empty.
    static func expand(slice: String) throws(SystemError) -> String {
        try verify(slice)
        if slice == "-.slice" { return "" }
        guard slice.utf8.count > 6, slice.hasSuffix(".slice") else {
            throw refusal(slice, "does not end in .slice")
        }
        var path = ""
        var name = ""
        for part in slice.utf8.dropLast(6).split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false) {
            guard !part.isEmpty, let text = String(part) else { throw refusal(slice, "has an empty part") }
            name += name.isEmpty ? text : "-\(text)"
            path += path.isEmpty ? "\(name).slice" : "/\(name).slice"
        }
        return path
    }

    /// Returns the unit's name: `prefix-name.scope`, or the name itself where it is a slice's.
    static func unit(prefix: String, name: String) throws(SystemError) -> String {
        if name.isEmpty { throw refusal(name, "is empty") }
        let unit = name.hasSuffix(".slice") ? name : prefix.isEmpty ? "\(name).scope" : "\(prefix)-\(name).scope"
        try verify(unit)
        if name.hasSuffix(".slice") { _ = try expand(slice: unit) }
        return unit
    }

    /// What systemd takes in a name: no slash, so that no name is a path.
    private static func verify(_ name: String) throws(SystemError) {
        if name.utf8.count > 255 { throw SystemError("name unit", "more than 255 bytes", .nameTooLong) }
        for byte in name.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                continue
            default:
                if !":-_.\\@".utf8.contains(byte) { throw refusal(name, "has a character that systemd refuses") }
            }
        }
    }

    private static func refusal(_ name: String, _ why: String) -> SystemError {
        SystemError("name unit", "\"\(name)\" \(why)", .invalid)
    }
}
