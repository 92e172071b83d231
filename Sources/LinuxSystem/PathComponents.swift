// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension String {
    /// The path's components as the kernel sees them, without empty ones.
    ///
    /// By bytes: to Swift a `/` with a combining mark after it is one character, and no `/`, so that a check by
    /// characters would overlook `..` or `proc` before it.
    public var pathComponents: [String] { fields("/") }

    /// Whether it begins at the root.
    public var isAbsolutePath: Bool { utf8.first == UInt8(ascii: "/") }

    /// What is between separators, without empty fields; by bytes, as the kernel writes its files.
    public func fields(_ separator: Unicode.Scalar) -> [String] {
        let separator = UInt8(ascii: separator)
        var fields: [String] = []
        var text = self
        text.withUTF8 { bytes in
            var start = 0
            for index in 0...bytes.count where index == bytes.count || bytes[index] == separator {
                if index > start {
                    let field = UnsafeBufferPointer(rebasing: bytes[start..<index])
                    fields.append(String(decoding: field, as: UTF8.self))
                }
                start = index + 1
            }
        }
        return fields
    }
}

extension [String] {
    /// The absolute path that has these components.
    public var absolutePath: String {
        var path = isEmpty ? "/" : ""
        for component in self {
            path += "/"
            path += component
        }
        return path
    }
}
