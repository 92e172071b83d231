// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension String {
    /// What follows a prefix; nil where it begins otherwise. By bytes, as all of these: to Swift a separator with a
    /// combining mark after it is another character.
    public func after(_ prefix: String) -> String? {
        guard utf8.starts(with: prefix.utf8) else { return nil }
        return String(decoding: utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
    }

    /// What is before and what is after the first separator.
    public func halves(_ separator: Unicode.Scalar) -> (String, String?) {
        guard let index = utf8.firstIndex(of: UInt8(ascii: separator)) else { return (self, nil) }
        return (
            String(decoding: utf8[..<index], as: UTF8.self),
            String(decoding: utf8[index...].dropFirst(), as: UTF8.self)
        )
    }

    /// Whether `part` is somewhere in it, byte by byte. The standard library's own comes with the whole of its regular
    /// expressions, a megabyte of program that every start would carry.
    public func holds(_ part: String) -> Bool {
        let bytes = Array(utf8)
        let wanted = Array(part.utf8)
        guard let first = wanted.first else { return true }
        guard bytes.count >= wanted.count else { return false }
        return (0...bytes.count - wanted.count).contains { start in
            bytes[start] == first && bytes[start...].starts(with: wanted)
        }
    }
}
