// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import OCI

@Suite struct JSONPlaceTests {
    private let text = """
        {
          "name": "a \\" { [",
          "mou\\u006ets": [
            {"destination": "/a"},
            {
              "destination": "/b",
              "options": ["x", "y"]
            }
          ],
          "labels": {"a.b": 1,
            "a": 2}
        }
        """

    @Test(
        arguments: [
            ([], 1), ([.name("name")], 2), ([.name("mounts")], 3), ([.name("mounts"), .index(0)], 4),
            ([.name("mounts"), .index(1)], 5), ([.name("mounts"), .index(1), .name("options"), .index(1)], 7),
            ([.name("labels"), .name("a")], 11), ([.name("labels"), .name("a.b")], 10),
            // Of what is missing the place of what is around it.
            ([.name("nothing")], 1), ([.name("mounts"), .index(9)], 3), ([.name("name"), .name("x")], 2),
        ] as [([JSONStep], Int)])
    func findsLines(_ path: [JSONStep], _ line: Int) {
        #expect(JSON.line(of: path, in: Array(text.utf8)) == line)
    }

    @Test(arguments: ["", "{", "{\"a", "{\"a\":", "[1,", "{\"a\":[{\"b\"", "\\", "{\"\\"])
    func endsWithTextsThatAreCut(_ text: String) {
        for path in [[.name("a"), .index(1), .name("b")], [.index(1)], []] as [[JSONStep]] {
            #expect(JSON.line(of: path, in: Array(text.utf8)) == 1)
        }
    }

    @Test func turnsPlacesIntoSteps() throws {
        let json = try JSON(parsing: Array(text.utf8))
        #expect(json.steps(to: "mounts[1].options[0]") == [.name("mounts"), .index(1), .name("options"), .index(0)])
        #expect(json.steps(to: "labels.a.b") == [.name("labels"), .name("a.b")])
        #expect(json.steps(to: "labels.a") == [.name("labels"), .name("a")])
        #expect(json.steps(to: "mounts[7].x") == [.name("mounts")])
        #expect(json.steps(to: "gone") == [])
    }

    @Test func findsMembersThatNoRecordHas() throws {
        let spec =
            #"{"ociVersion":"1","mounts":[{"destination":"/"},{"destination":"/","optionx":[]}],"annotations":{"any":"x"}}"#
        let unknown = try #require(Spec.unknownMember(in: try JSON(parsing: Array(spec.utf8))))
        #expect(unknown.path == [.name("mounts"), .index(1), .name("optionx")])
        #expect(unknown.known.contains("options"))
        let fine =
            #"{"ociVersion":"1","process":{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0}},"linux":{"resources":{"memory":{"limit":1}}}}"#
        #expect(Spec.unknownMember(in: try JSON(parsing: Array(fine.utf8))) == nil)
    }
}
