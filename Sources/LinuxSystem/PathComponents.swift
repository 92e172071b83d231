// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension String {
    /// The path's components as the kernel sees them, without empty ones.
    ///
    /// By bytes: to Swift a `/` with a combining mark after it is one character, and no `/`, so that a check by
    /// characters would overlook `..` or `proc` before it.
    public var pathComponents: [String] {
        utf8.split(separator: UInt8(ascii: "/")).compactMap(String.init)
    }
}
