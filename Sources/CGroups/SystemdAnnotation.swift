// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Properties of a unit from annotations `org.systemd.property.NAME`, whose values are GVariant texts as runc and crun
/// take them: `true`, `'text'`, `uint64 30000000`, `['a', 'b']`, `@as []`.
enum SystemdAnnotation {
    private static let prefix = "org.systemd.property."

    /// Returns the properties in the order of their names.
    static func properties(_ annotations: [String: String]) throws(SystemError) -> [SystemdProperty] {
        var result: [SystemdProperty] = []
        for (key, text) in annotations.sorted(by: { $0.key < $1.key }) where key.hasPrefix(prefix) {
            let name = String(key.dropFirst(prefix.count))
            let isLetter = { (byte: UInt8) in (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z") }
            guard name.utf8.count >= 3, name.utf8.count <= 64, name.utf8.allSatisfy(isLetter) else {
                throw SystemError("parse annotation", "\"\(key)\" names no property", .invalid)
            }
            do throws(SystemError) {
                result.append(try property(name, try value(text)))
            } catch {
                throw error.during("parse annotation", "\(key) = \(text): \(error.subject)")
            }
        }
        return result
    }

    /// A property that counts seconds in systemd's files (`TimeoutStopSec`) counts microseconds on the bus, by another
    /// name; the value here is in seconds.
    private static func property(_ name: String, _ value: GVariantText) throws(SystemError) -> SystemdProperty {
        let stem = name.utf8.dropLast(3)
        guard name.hasSuffix("Sec"), let last = stem.last, last >= UInt8(ascii: "a"), last <= UInt8(ascii: "z"),
            let start = String(stem)
        else { return SystemdProperty(name: name, signature: value.signature, values: value.words) }
        let numbers = ["y", "n", "q", "i", "u", "x", "t", "d"]
        guard value.words.count == 1, numbers.contains(value.signature), let seconds = Double(value.words[0]),
            seconds >= 0, seconds < 1e12
        else { throw SystemError("", "needs a number of seconds", .invalid) }
        let microseconds = UInt64((seconds * 1_000_000).rounded())
        return SystemdProperty(name: "\(start)USec", signature: "t", values: [String(microseconds)])
    }

    private static func value(_ text: String) throws(SystemError) -> GVariantText {
        var parser = GVariantParser(text)
        return try parser.parse()
    }
}

/// A value as busctl(1) takes it.
struct GVariantText: Equatable {
    let signature: String
    /// For an array: how many, then each.
    let words: [String]
}

/// The part of GVariant's text format that properties of units are made of: booleans, numbers, strings, and arrays of
/// those.
struct GVariantParser {
    private let bytes: [UInt8]
    private var position = 0

    init(_ text: String) {
        bytes = Array(text.utf8)
    }

    mutating func parse() throws(SystemError) -> GVariantText {
        let result = try parseValue(type: nil)
        skipSpace()
        if position < bytes.count { throw refusal("has something behind the value") }
        return result
    }

    private static let names = [
        "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
        "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
    ]

    private mutating func parseValue(type: String?) throws(SystemError) -> GVariantText {
        skipSpace()
        guard position < bytes.count else { throw refusal("is empty") }
        switch bytes[position] {
        case UInt8(ascii: "'"), UInt8(ascii: "\""): return try parseString(type: type)
        case UInt8(ascii: "["): return try parseArray(type: type)
        case UInt8(ascii: "@"):
            // A second type would be another level of ours for two bytes of text.
            guard type == nil else { throw refusal("has two types") }
            position += 1
            return try parseValue(type: try parseSignature())
        case UInt8(ascii: "a")...UInt8(ascii: "z"):
            let word = takeWord()
            if word == "true" || word == "false" {
                guard type == nil || type == "b" else { throw refusal("is no \(type ?? "")") }
                return GVariantText(signature: "b", words: [word])
            }
            guard type == nil, let name = GVariantParser.names[word] else { throw refusal("has the word \(word)") }
            return try parseValue(type: name)
        default: return try parseNumber(type: type)
        }
    }

    /// After `@`: a basic type or an array of one.
    private mutating func parseSignature() throws(SystemError) -> String {
        let word = takeWord()
        let element = word.utf8.first == UInt8(ascii: "a") ? String(word.dropFirst()) : word
        guard GVariantParser.names.values.contains(element) else { throw refusal("has the type \(word)") }
        return word
    }

    private mutating func parseArray(type: String?) throws(SystemError) -> GVariantText {
        if let type, type.utf8.first != UInt8(ascii: "a") { throw refusal("is no \(type)") }
        var element = type.map { String($0.dropFirst()) }
        var words: [String] = []
        position += 1
        skipSpace()
        while position < bytes.count, bytes[position] != UInt8(ascii: "]") {
            if !words.isEmpty {
                guard bytes[position] == UInt8(ascii: ",") else { throw refusal("lacks a comma") }
                position += 1
                skipSpace()
            }
            guard position < bytes.count, bytes[position] != UInt8(ascii: "["), bytes[position] != UInt8(ascii: "@")
            else { throw refusal("has an array in an array") }
            let value = try parseValue(type: words.isEmpty && type == nil ? nil : element)
            element = value.signature
            words += value.words
            skipSpace()
        }
        guard position < bytes.count else { throw refusal("lacks a ]") }
        position += 1
        guard let element else { throw refusal("is an empty array without a type") }
        return GVariantText(signature: "a\(element)", words: [String(words.count)] + words)
    }

    private mutating func parseString(type: String?) throws(SystemError) -> GVariantText {
        let type = type ?? "s"
        guard type == "s" || type == "o" || type == "g" else { throw refusal("is no \(type)") }
        let quote = bytes[position]
        position += 1
        var text: [UInt8] = []
        while position < bytes.count, bytes[position] != quote {
            if bytes[position] == UInt8(ascii: "\\") {
                position += 1
                guard position < bytes.count else { break }
                switch bytes[position] {
                case UInt8(ascii: "n"): text.append(0x0A)
                case UInt8(ascii: "t"): text.append(0x09)
                case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): text.append(bytes[position])
                default: throw refusal("has an escape that is not known")
                }
            } else {
                text.append(bytes[position])
            }
            position += 1
        }
        guard position < bytes.count else { throw refusal("lacks a quote") }
        position += 1
        guard let string = String(validating: text, as: UTF8.self), !text.contains(0) else {
            throw refusal("is no text")
        }
        return GVariantText(signature: type, words: [string])
    }

    private mutating func parseNumber(type: String?) throws(SystemError) -> GVariantText {
        let start = position
        while position < bytes.count, !GVariantParser.ends(bytes[position]) { position += 1 }
        let word = String(decoding: bytes[start..<position], as: UTF8.self)
        let isInteger = Int64(word) != nil || UInt64(word) != nil
        let type = type ?? (isInteger ? "i" : "d")
        let isRight =
            switch type {
            case "y": UInt8(word) != nil
            case "n": Int16(word) != nil
            case "q": UInt16(word) != nil
            case "i": Int32(word) != nil
            case "u": UInt32(word) != nil
            case "x": Int64(word) != nil
            case "t": UInt64(word) != nil
            case "d": Double(word)?.isFinite == true && !word.contains("x")
            default: false
            }
        guard isRight else { throw refusal("has \"\(word)\", which is no value of type \(type)") }
        return GVariantText(signature: type, words: [word])
    }

    private static func ends(_ byte: UInt8) -> Bool {
        byte <= UInt8(ascii: " ") || byte == UInt8(ascii: ",") || byte == UInt8(ascii: "]")
    }

    private mutating func takeWord() -> String {
        let start = position
        while position < bytes.count,
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(bytes[position])
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position])
        {
            position += 1
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private mutating func skipSpace() {
        while position < bytes.count, bytes[position] == 0x20 || (0x09...0x0D).contains(bytes[position]) {
            position += 1
        }
    }

    private func refusal(_ why: String) -> SystemError {
        SystemError("parse", "the value \(why)", .invalid)
    }
}
