// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension JSON {
    /// How deep arrays and objects may lie in one another; more is refused, so that no text can exhaust the stack.
    public static let maximumDepth = 64

    /// How many combining marks may follow one another in a string: text in Unicode's Stream-Safe Format has at most
    /// 30. Swift compares and hashes strings by their canonical form, and to sort such a run takes the square of its
    /// length: without a limit a small file would keep us busy for hours.
    public static let maximumMarks = 64

    /// Parses a whole text. Refuses invalid UTF-8, duplicate names, and U+0000 in strings, because every string of
    /// ours may end up as a C string.
    ///
    /// `leavingOut`: members of the outermost object that are passed over and read as null; of what is in them only where
    /// it ends is looked at.
    public init(parsing bytes: [UInt8], leavingOut unread: [String] = []) throws(JSONError) {
        // Errors are kept as an offset and turned into line and column once, here.
        let outcome: Result<JSON, ParseFailure> = bytes.withUnsafeBufferPointer { buffer in
            var parser = Parser(bytes: buffer, unread: unread)
            do throws(ParseFailure) {
                return .success(try parser.parseDocument())
            } catch {
                return .failure(error)
            }
        }
        switch outcome {
        case .success(let value): self = value
        case .failure(let failure):
            let before = bytes.prefix(failure.offset)
            let line = before.count { $0 == UInt8(ascii: "\n") } + 1
            let column = before.reversed().prefix { $0 != UInt8(ascii: "\n") }.count + 1
            throw JSONError(place: "line \(line), column \(column)", reason: failure.reason)
        }
    }
}

private struct ParseFailure: Error {
    let offset: Int
    let reason: String
}

/// A recursive descent over bytes; every read is checked against the end.
private struct Parser {
    let bytes: UnsafeBufferPointer<UInt8>
    let unread: [String]
    var position = 0

    init(bytes: UnsafeBufferPointer<UInt8>, unread: [String]) {
        self.bytes = bytes
        self.unread = unread
    }

    var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    func failure(_ reason: String) -> ParseFailure {
        ParseFailure(offset: position, reason: reason)
    }

    mutating func parseDocument() throws(ParseFailure) -> JSON {
        let value = try parseValue(depth: 0)
        skipSpace()
        if position < bytes.count { throw failure("unexpected text after the end of the value") }
        return value
    }

    mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    mutating func parseValue(depth: Int) throws(ParseFailure) -> JSON {
        if depth > JSON.maximumDepth { throw failure("nested more than \(JSON.maximumDepth) deep") }
        skipSpace()
        guard let byte = current else { throw failure("unexpected end of text") }
        switch byte {
        case UInt8(ascii: "{"): return try parseObject(depth: depth)
        case UInt8(ascii: "["): return try parseArray(depth: depth)
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
        case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
        case UInt8(ascii: "n"): return try parseWord("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try parseNumber()
        default: throw failure("expected a value")
        }
    }

    mutating func parseWord(_ word: StaticString, _ value: JSON) throws(ParseFailure) -> JSON {
        let count = word.utf8CodeUnitCount
        guard position + count <= bytes.count else { throw failure("expected a value") }
        for index in 0..<count where bytes[position + index] != word.utf8Start[index] {
            throw failure("expected a value")
        }
        position += count
        return value
    }

    mutating func parseObject(depth: Int) throws(ParseFailure) -> JSON {
        position += 1
        var members: [JSON.Member] = []
        skipSpace()
        if current == UInt8(ascii: "}") {
            position += 1
            return .object([])
        }
        // Records have many members, what is inside them a few.
        members.reserveCapacity(depth == 0 ? 24 : 4)
        // For objects with many members only: a small set costs more than comparing a few names.
        var seen: Set<String> = []
        while true {
            skipSpace()
            guard current == UInt8(ascii: "\"") else { throw failure("expected a name in quotes") }
            let start = position
            let name = try parseString()
            // Two values for one name are read differently by different parsers: refuse them.
            let isDuplicate: Bool
            if members.count < 16 {
                isDuplicate = members.contains { $0.name == name }
            } else {
                if seen.isEmpty { for member in members { seen.insert(member.name) } }
                isDuplicate = !seen.insert(name).inserted
            }
            if isDuplicate {
                throw ParseFailure(offset: start, reason: "duplicate name \"\(name)\"")
            }
            skipSpace()
            guard current == UInt8(ascii: ":") else { throw failure("expected ':'") }
            position += 1
            if depth == 0, unread.contains(name) {
                try skipValue()
                members.append(JSON.Member(name, .null))
            } else {
                members.append(JSON.Member(name, try parseValue(depth: depth + 1)))
            }
            skipSpace()
            switch current {
            case UInt8(ascii: ","): position += 1
            case UInt8(ascii: "}"):
                position += 1
                return .object(members)
            default: throw failure("expected ',' or '}'")
            }
        }
    }

    /// Goes to the end of a value by its brackets and quotes alone.
    mutating func skipValue() throws(ParseFailure) {
        var depth = 0
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""): try skipString()
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                if depth == 0 { return }
                depth -= 1
            case UInt8(ascii: ","): if depth == 0 { return }
            default: break
            }
            position += 1
        }
        throw failure("unexpected end of text")
    }

    /// Goes to the quote that ends a string.
    mutating func skipString() throws(ParseFailure) {
        position += 1
        while let byte = current, byte != UInt8(ascii: "\"") { position += byte == UInt8(ascii: "\\") ? 2 : 1 }
        if current == nil { throw failure("unexpected end of text in a string") }
    }

    mutating func parseArray(depth: Int) throws(ParseFailure) -> JSON {
        position += 1
        var values: [JSON] = []
        skipSpace()
        if current == UInt8(ascii: "]") {
            position += 1
            return .array([])
        }
        while true {
            values.append(try parseValue(depth: depth + 1))
            skipSpace()
            switch current {
            case UInt8(ascii: ","): position += 1
            case UInt8(ascii: "]"):
                position += 1
                return .array(values)
            default: throw failure("expected ',' or ']'")
            }
        }
    }

    mutating func parseNumber() throws(ParseFailure) -> JSON {
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        let whole = skipDigits()
        if whole == 0 { throw failure("expected a digit") }
        if whole > 1, bytes[position - whole] == UInt8(ascii: "0") { throw failure("a number may not begin with 0") }
        if current == UInt8(ascii: ".") {
            position += 1
            if skipDigits() == 0 { throw failure("expected a digit") }
        }
        if let byte = current, byte | 0x20 == UInt8(ascii: "e") {
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            if skipDigits() == 0 { throw failure("expected a digit") }
        }
        return .number(String(decoding: bytes[start..<position], as: UTF8.self))
    }

    mutating func skipDigits() -> Int {
        let start = position
        while let byte = current, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
        return position - start
    }

    mutating func parseString() throws(ParseFailure) -> String {
        position += 1
        let start = position
        // The common case, a run without escapes, is one copy.
        var isASCII = true
        while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
            if byte >= 0x80 { isASCII = false }
            position += 1
        }
        if current == UInt8(ascii: "\"") {
            let run = UnsafeBufferPointer(rebasing: bytes[start..<position])
            // ASCII is valid as it is; the standard library's check is generic and takes longer than all else here.
            let text = isASCII ? String(decoding: run, as: UTF8.self) : try validated(run)
            position += 1
            return text
        }
        var content = Array(bytes[start..<position])
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""):
                let text = try validated(content[...])
                position += 1
                return text
            case UInt8(ascii: "\\"): try parseEscape(into: &content)
            case 0..<0x20: throw failure("control character in a string")
            default:
                content.append(byte)
                position += 1
            }
        }
        throw failure("unexpected end of text in a string")
    }

    func validated(_ bytes: some Collection<UInt8>) throws(ParseFailure) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw failure("a string is not valid UTF-8")
        }
        // A mark has two bytes or more: most strings are too short to be looked at.
        if bytes.count > 2 * JSON.maximumMarks, bytes.contains(where: { $0 >= 0x80 }) {
            var marks = 0
            for scalar in text.unicodeScalars {
                marks = scalar.properties.canonicalCombiningClass == .notReordered ? 0 : marks + 1
                if marks > JSON.maximumMarks {
                    throw failure("more than \(JSON.maximumMarks) combining marks in a row")
                }
            }
        }
        return text
    }

    mutating func parseEscape(into content: inout [UInt8]) throws(ParseFailure) {
        position += 1
        guard let byte = current else { throw failure("unexpected end of text in a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
        case UInt8(ascii: "b"): content.append(0x08)
        case UInt8(ascii: "f"): content.append(0x0C)
        case UInt8(ascii: "n"): content.append(0x0A)
        case UInt8(ascii: "r"): content.append(0x0D)
        case UInt8(ascii: "t"): content.append(0x09)
        case UInt8(ascii: "u"): content.append(contentsOf: try parseUnicode().utf8)
        default: throw failure("unknown escape in a string")
        }
    }

    mutating func parseUnicode() throws(ParseFailure) -> String {
        var value = UInt32(try parseHex())
        if value >= 0xD800, value < 0xDC00 {
            guard current == UInt8(ascii: "\\"), position + 1 < bytes.count, bytes[position + 1] == UInt8(ascii: "u")
            else { throw failure("half of a surrogate pair") }
            position += 2
            let low = UInt32(try parseHex())
            guard low >= 0xDC00, low < 0xE000 else { throw failure("half of a surrogate pair") }
            value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
        }
        guard value != 0 else { throw failure("U+0000 is not allowed in a string") }
        guard let scalar = Unicode.Scalar(value) else { throw failure("half of a surrogate pair") }
        return String(Character(scalar))
    }

    mutating func parseHex() throws(ParseFailure) -> UInt16 {
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw failure("expected four hexadecimal digits")
            }
            value = value << 4 | UInt16(digit)
            position += 1
        }
        return value
    }
}
