// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct CopyCommandTests {
    @Test(
        arguments: [
            ("-", .stream), ("web:/etc", .zone("web", path: "/etc")), ("web:etc", .zone("web", path: "etc")),
            ("web:", .zone("web", path: "")), ("web:/a:b", .zone("web", path: "/a:b")), ("file", .host("file")),
            ("./web:x", .host("./web:x")), ("/a/web:x", .host("/a/web:x")), ("../a:b", .host("../a:b")),
            ("a/b:c", .host("a/b:c")), (":x", .host(":x")), ("./-", .host("./-")), ("", .host("")),
        ] as [(String, ZoneCopy.End)])
    func operandsAreReadAsDockerReadsThem(_ word: String, _ end: ZoneCopy.End) {
        #expect(CopyCommand.end(word) == end)
    }
}
