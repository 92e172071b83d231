// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Testing

@Suite struct PathComponentsTests {
    @Test(
        arguments: [
            ("", []), ("/", []), ("//", []), ("a", ["a"]), ("/a//b/", ["a", "b"]), ("/../.", ["..", "."]),
            ("/é/ž", ["é", "ž"]),
            ("/a/\u{301}b", ["a", "\u{301}b"]), ("/../\u{301}x", ["..", "\u{301}x"]),
        ] as [(String, [String])])
    func areSeparatedByTheByte(_ path: String, _ components: [String]) {
        #expect(path.pathComponents == components)
    }
}
