// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension String {
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
