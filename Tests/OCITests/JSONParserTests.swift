// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@Suite struct JSONParserTests {
    private func parse(_ text: String) throws -> JSON {
        try JSON(parsing: Array(text.utf8))
    }

    struct Good: Sendable {
        let text: String
        let value: JSON

        init(_ text: String, _ value: JSON) {
            self.text = text
            self.value = value
        }
    }

    @Test(arguments: [
        Good("null", .null), Good(" \t\r\n true \n", .bool(true)), Good("false", .bool(false)),
        Good("0", .number("0")), Good("-0", .number("-0")), Good("-12.50e+07", .number("-12.50e+07")),
        Good("1E-2", .number("1E-2")),
        // Digits are kept: nothing is lost above 2^53.
        Good("18446744073709551615", .number("18446744073709551615")),
        Good("[]", .array([])), Good("{}", .object([])), Good("[ ]", .array([])),
        Good("{ }", .object([])),
        Good("[1,\"a\", [null] ]", .array([.number("1"), .string("a"), .array([.null])])),
        Good(
            "{\"a\":{\"b\":1},\"\":2}",
            .object([.init("a", .object([.init("b", .number("1"))])), .init("", .number("2"))])),
        Good("\"\"", .string("")), Good("\"žluťoučký 🐎\"", .string("žluťoučký 🐎")),
        Good(#""\"\\\/\b\f\n\r\t""#, .string("\"\\/\u{8}\u{C}\n\r\t")),
        Good(#""\u0041\u00e9\u20AC""#, .string("Aé€")),
        Good(#""\ud83d\ude00 \uD834\uDD1E""#, .string("😀 𝄞")),
        Good(#""a\u007f\uffff""#, .string("a\u{7F}\u{FFFF}")),
    ])
    func understands(_ good: Good) throws {
        #expect(try parse(good.text) == good.value)
    }

    struct Bad: Sendable {
        let text: String
        let place: String
        let reason: String

        init(_ text: String, _ line: Int, _ column: Int, _ reason: String) {
            self.text = text
            place = "line \(line), column \(column)"
            self.reason = reason
        }
    }

    @Test(arguments: [
        Bad("", 1, 1, "unexpected end of text"),
        Bad("  \n ", 2, 2, "unexpected end of text"),
        Bad("nul", 1, 1, "expected a value"),
        Bad("nulL", 1, 1, "expected a value"),
        Bad("True", 1, 1, "expected a value"),
        Bad("NaN", 1, 1, "expected a value"),
        Bad("'a'", 1, 1, "expected a value"),
        Bad("/* c */ 1", 1, 1, "expected a value"),
        Bad("1 2", 1, 3, "unexpected text after the end of the value"),
        Bad("{}}", 1, 3, "unexpected text after the end of the value"),
        Bad("null\u{0}", 1, 5, "unexpected text after the end of the value"),
        Bad("[1,]", 1, 4, "expected a value"),
        Bad("[,1]", 1, 2, "expected a value"),
        Bad("[1 2]", 1, 4, "expected ',' or ']'"),
        Bad("[1", 1, 3, "expected ',' or ']'"),
        Bad("[", 1, 2, "unexpected end of text"),
        Bad("{\n  \"a\": 1,\n}", 3, 1, "expected a name in quotes"),
        Bad("{a: 1}", 1, 2, "expected a name in quotes"),
        Bad("{\"a\" 1}", 1, 6, "expected ':'"),
        Bad("{\"a\":}", 1, 6, "expected a value"),
        Bad("{\"a\":1 \"b\":2}", 1, 8, "expected ',' or '}'"),
        Bad("{\"a\":1", 1, 7, "expected ',' or '}'"),
        Bad("{\"a\":1,\n \"b\":2,\n \"a\":3}", 3, 2, "duplicate name \"a\""),
        // The same name, written differently.
        Bad(#"{"a":1,"\u0061":2}"#, 1, 8, "duplicate name \"a\""),
        Bad("01", 1, 3, "a number may not begin with 0"),
        Bad("-", 1, 2, "expected a digit"),
        Bad("+1", 1, 1, "expected a value"),
        Bad(".5", 1, 1, "expected a value"),
        Bad("1.", 1, 3, "expected a digit"),
        Bad("1.e5", 1, 3, "expected a digit"),
        Bad("1e", 1, 3, "expected a digit"),
        Bad("1e+", 1, 4, "expected a digit"),
        Bad("0x10", 1, 2, "unexpected text after the end of the value"),
        Bad("\"a", 1, 3, "unexpected end of text in a string"),
        Bad("\"a\\", 1, 4, "unexpected end of text in a string"),
        Bad("\"a\nb\"", 1, 3, "control character in a string"),
        Bad("\"\u{0}\"", 1, 2, "control character in a string"),
        Bad(#""\x41""#, 1, 4, "unknown escape in a string"),
        Bad(#""\u12""#, 1, 6, "expected four hexadecimal digits"),
        Bad(#""\u12g4""#, 1, 6, "expected four hexadecimal digits"),
        Bad(#""\u0000""#, 1, 8, "U+0000 is not allowed in a string"),
        Bad(#""\ud83d""#, 1, 8, "half of a surrogate pair"),
        Bad(#""\ud83d\n""#, 1, 8, "half of a surrogate pair"),
        Bad(#""\ud83dA\ude00""#, 1, 8, "half of a surrogate pair"),
        Bad(#""\ud83d\ud83d""#, 1, 14, "half of a surrogate pair"),
        Bad(#""\ude00""#, 1, 8, "half of a surrogate pair"),
        Bad("\u{FEFF}{}", 1, 1, "expected a value"),
    ])
    func saysWhereAndWhy(_ bad: Bad) {
        let error = #expect(throws: JSONError.self) { try parse(bad.text) }
        #expect(error == JSONError(place: bad.place, reason: bad.reason))
    }

    @Test(
        arguments: [
            [0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xC0, 0x80, 0x22],
            [0x22, 0xED, 0xA0, 0x80, 0x22],
            [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22], [0x22, 0x5C, 0x6E, 0xFF, 0x22],
        ] as [[UInt8]])
    func refusesWhatIsNoUTF8(_ bytes: [UInt8]) {
        let error = #expect(throws: JSONError.self) { try JSON(parsing: bytes) }
        #expect(error?.reason == "a string is not valid UTF-8")
    }

    @Test(arguments: ["1", "[[],{}]", "{\"b\":\"}]\\\"\",\"a\":[1, 2]}", "\"\\\\\"", "\"a,}\" "])
    func passesOverWhatIsLeftOut(_ value: String) throws {
        let text = "{\"a\":\(value),\"b\":{\"a\":\(value)}}"
        let inner = try parse(value)
        #expect(
            try JSON(parsing: Array(text.utf8), leavingOut: ["a"])
                == .object([.init("a", .null), .init("b", .object([.init("a", inner)]))]))
        for end in 0..<text.utf8.count {
            #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8.prefix(end)), leavingOut: ["a"]) }
        }
    }

    @Test func depthIsBounded() throws {
        let nested = { (depth: Int) in
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try parse(nested(JSON.maximumDepth))
        _ = try parse("{\"a\":" + nested(JSON.maximumDepth - 1) + "}")
        let reason = "nested more than \(JSON.maximumDepth) deep"
        for text in [
            nested(JSON.maximumDepth + 2), String(repeating: "[", count: 1_000_000),
            String(repeating: "{\"a\":", count: 1_000_000),
        ] {
            let error = #expect(throws: JSONError.self) { try parse(text) }
            #expect(error?.reason == reason)
        }
    }

    /// Swift takes the square of such a run's length to compare it.
    @Test func marksInARowAreBounded() throws {
        let marks = { (count: Int) in String(repeating: "\u{301}\u{323}", count: count / 2) }
        _ = try parse("{\"a\(marks(JSON.maximumMarks))\":1}")
        // Of two bytes each, of three, and written as escapes.
        for text in [
            marks(JSON.maximumMarks + 2), marks(1 << 20), String(repeating: "\u{1AB0}", count: JSON.maximumMarks + 1),
            String(repeating: #"\u0301\u0323"#, count: 1 << 16),
        ] {
            let error = #expect(throws: JSONError.self) { try parse("{\"a\(text)\":1}") }
            #expect(error?.reason == "more than \(JSON.maximumMarks) combining marks in a row")
        }
        // In all there may be any number.
        _ = try parse("\"\(String(repeating: "e\u{301}", count: 10_000))\"")
    }

    /// Each record that was begun used to copy the text before it: a minute for this one, instead of a second.
    @Test func writingTakesTimeInProportion() {
        let rule = Spec.DeviceRule(allow: true, type: "c", major: 10, minor: 200, access: "rwm")
        var resources = Spec.Resources()
        resources.devices = Array(repeating: rule, count: 100_000)
        var text: [UInt8] = []
        let time = ContinuousClock().measure { text = resources.serialized() }
        #expect(text.count > 6_000_000)
        #expect(time < .seconds(15), "\(time)")
    }

    /// Every beginning of a good text is an error, not a trap and not a value.
    @Test func noBeginningOfATextIsAText() throws {
        let text = Array(#"{"a":[1.5e3,true,"x\u00e9\ud83d\ude00 é"],"b":{"c":null,"d":-1}}"#.utf8)
        _ = try JSON(parsing: text)
        for count in 0..<text.count {
            #expect(throws: JSONError.self) { try JSON(parsing: Array(text.prefix(count))) }
        }
    }

    /// Bytes exchanged at random are an error or another value, never a trap. The generator is fixed, so that a failure
    /// can be repeated.
    @Test func brokenTextsNeverTrap() {
        let text = Array(
            #"{"ociVersion":"1.2.0","process":{"args":["sh","-c","\u0041\n"],"user":{"uid":0,"gid":0},"cwd":"/"}}"#
                .utf8)
        var state: UInt64 = 42
        var refused = 0
        for _ in 0..<20_000 {
            var copy = text
            for _ in 0..<2 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                copy[Int(state >> 33) % copy.count] = UInt8(truncatingIfNeeded: state >> 24)
            }
            do { _ = try Spec(parsing: copy) } catch { refused += 1 }
        }
        #expect(refused > 5_000 && refused < 20_000)
    }
}
