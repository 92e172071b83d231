// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@Suite struct JSONValueTests {
    // MARK: Numbers

    @Test(
        arguments: [
            "0": 0, "-0": 0, "9223372036854775807": Int64.max, "-9223372036854775808": Int64.min,
        ] as [String: Int64])
    func integersKeepTheirValue(_ text: String, _ value: Int64) throws {
        #expect(try Int64(json: .number(text)) == value)
    }

    @Test(arguments: [
        "9223372036854775808", "-9223372036854775809", "1.0", "1e3",
        "1" + String(repeating: "0", count: 400), "-1e999",
    ])
    func numbersThatAreNoIntegersAreErrors(_ text: String) {
        let error = #expect(throws: JSONError.self) { try Int64(json: .number(text)) }
        #expect(error?.reason == "\(text) is not an integer from \(Int64.min) to \(Int64.max)")
    }

    @Test func eachWidthHasItsBounds() throws {
        #expect(try UInt64(json: .number("18446744073709551615")) == .max)
        #expect(throws: JSONError.self) { try UInt64(json: .number("18446744073709551616")) }
        #expect(throws: JSONError.self) { try UInt32(json: .number("-1")) }
        #expect(throws: JSONError.self) { try UInt32(json: .number("4294967296")) }
        #expect(throws: JSONError.self) { try UInt16(json: .number("65536")) }
        #expect(throws: JSONError.self) { try Int32(json: .number("2147483648")) }
    }

    // MARK: Writing

    @Test(arguments: [
        ("plain", #""plain""#), ("\"\\", #""\"\\""#), ("a\nb", #""a\nb""#),
        ("\t\r\u{8}\u{1F}", #""\u0009\u000d\u0008\u001f""#),
        ("\u{7F}", #""\u007f""#), ("/é🐎", #""/é🐎""#), ("", #""""#), ("</script>", #""</script>""#),
    ])
    func escapesWhatMustBe(_ text: String, _ json: String) throws {
        var writer = JSONWriter()
        writer.string(text)
        #expect(String(decoding: writer.bytes, as: UTF8.self) == json)
        #expect(try JSON(parsing: writer.bytes) == .string(text))
    }

    @Test func namesAreEscapedToo() throws {
        let value = ["a\"b\u{1}": "c"]
        var writer = JSONWriter()
        value.write(to: &writer)
        #expect(String(decoding: writer.bytes, as: UTF8.self) == #"{"a\"b\u0001":"c"}"#)
        #expect(try [String: String](json: JSON(parsing: writer.bytes)) == value)
    }

    @Test func prettyTextIsIndented() throws {
        let value = JSON.object([
            .init("a", .array([.number("1"), .array([]), .object([])])),
            .init("b", .object([.init("c", .null)])),
        ])
        var writer = JSONWriter(pretty: true)
        value.write(to: &writer)
        writer.endText()
        let expected = """
            {
              "a": [
                1,
                [],
                {}
              ],
              "b": {
                "c": null
              }
            }

            """
        #expect(String(decoding: writer.bytes, as: UTF8.self) == expected)
        #expect(try JSON(parsing: writer.bytes) == value)
    }

    @Test func mapsAreWrittenInOrder() {
        var writer = JSONWriter()
        Dictionary(uniqueKeysWithValues: (0..<9).map { ("k\(8 - $0)", $0) }).write(to: &writer)
        #expect(
            String(decoding: writer.bytes, as: UTF8.self)
                == #"{"k0":8,"k1":7,"k2":6,"k3":5,"k4":4,"k5":3,"k6":2,"k7":1,"k8":0}"#)
    }

    // MARK: Digests

    private static let hex = "0123456789abcdef" + String(repeating: "0", count: 48)

    @Test func aDigestIsReadAndWritten() throws {
        let digest = try #require(Digest("sha256:\(Self.hex)"))
        #expect(digest.hex == Self.hex)
        #expect("\(digest)" == "sha256:\(Self.hex)")
        #expect(digest == Digest(hex: Self.hex))
        #expect(try Digest(json: .string("sha256:\(Self.hex)")) == digest)
    }

    private static let zeros = String(repeating: "0", count: 60)

    private static let wrong: [String] = [
        "", "sha256:", "\(zeros)0000", "sha256:\(zeros)ABCD", "sha256:\(zeros)00000",
        "sha256:\(zeros)000",
        "sha512:\(zeros)0000", "SHA256:\(zeros)0000", "sha256:\(zeros)000g", "sha256:\(zeros)000/",
        "sha256:\(zeros)00..",
        "sha256:../\(zeros)0", "sha256:\(zeros)00é", " sha256:\(zeros)0000", "sha256:\(zeros)000\0",
        "sha256:\(zeros)00٣",
    ]

    @Test(arguments: wrong)
    func whatCouldBeNoFileNameIsNoDigest(_ text: String) {
        #expect(Digest(text) == nil)
        let error = #expect(throws: JSONError.self) { try Digest(json: .string(text)) }
        #expect(error?.reason == "\"\(text)\" is not a sha256 digest")
    }
}
