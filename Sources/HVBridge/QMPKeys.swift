// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Keys that are pressed together and then released, in this order.
public struct KeyChord: Sendable, Equatable {
    public let keys: [QKeyCode]

    public init(_ keys: [QKeyCode]) {
        self.keys = keys
    }
}

/// Why a text names no keys.
public enum KeyNameError: Error, Sendable, Equatable, CustomStringConvertible {
    /// There is no such key; `near` lists the ones whose names are like it.
    case unknown(name: String, near: [String])
    case empty
    case tooMany(limit: Int)
    /// No keys of a US keyboard type this character; `position` counts characters from 1.
    case untypable(character: String, position: Int)

    public var description: String {
        switch self {
        case .unknown(let name, let near) where near.isEmpty: "there is no key \"\(name)\""
        case .unknown(let name, let near):
            "there is no key \"\(name)\"; did you mean \(near.joined(separator: ", "))?"
        case .empty: "a key's name is missing: names are separated by one '-', the key '-' itself is \"minus\""
        case .tooMany(let limit): "more than \(limit) keys"
        case .untypable(let character, let position):
            "character \(position), \"\(character)\", is not on a US keyboard"
        }
    }
}

/// Names of keys as people write them, and the keys that type a text.
public enum KeyNames {
    /// Keys in one chord: nobody has more fingers.
    public static let chordLimit = 10
    /// Characters in one text: typed one by one they take minutes.
    public static let textLimit = 4096

    /// Names that are used elsewhere for keys of QEMU's.
    private static let others: [(name: String, key: QKeyCode)] = [
        ("control", .control), ("enter", .enter), ("return", .enter), ("escape", .escape), ("space", .space),
        ("del", .delete), ("ins", .insert), ("pageup", .pageUp), ("pagedown", .pageDown), ("bksp", .backspace),
        ("super", .metaLeft), ("win", .metaLeft), ("meta", .metaLeft), ("altgr", .altRight),
        ("capslock", .capsLock), ("numlock", .numLock), ("scrolllock", .scrollLock), ("printscreen", .print),
    ]

    /// Reads a chord: `ctrl-alt-delete`, `a`, `f1`. Capital letters in names are the same as small ones.
    public static func chord(_ text: String) throws(KeyNameError) -> KeyChord {
        var keys: [QKeyCode] = []
        let parts = text.utf8.split(
            separator: UInt8(ascii: "-"), maxSplits: chordLimit, omittingEmptySubsequences: false)
        for part in parts {
            if keys.count == chordLimit { throw .tooMany(limit: chordLimit) }
            keys.append(try key(String(decoding: part.map(lowercase), as: UTF8.self)))
        }
        return KeyChord(keys)
    }

    private static func lowercase(_ byte: UInt8) -> UInt8 {
        byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
    }

    private static func key(_ name: String) throws(KeyNameError) -> QKeyCode {
        if name.isEmpty { throw .empty }
        if let key = QKeyCode(rawValue: name), key != .unmapped { return key }
        if let other = others.first(where: { $0.name == name }) { return other.key }
        throw .unknown(name: plain(name, limit: 32), near: near(name))
    }

    // MARK: Near names

    /// At most five names, the most like it first.
    private static func near(_ name: String) -> [String] {
        let wanted = Array(name.utf8)
        // What is longer than any name is not a slip of the finger; and the distance takes the square of the length.
        guard wanted.count <= 20 else { return [] }
        var found: [(name: String, distance: Int)] = []
        for known in QKeyCode.allCases.dropFirst().map(\.rawValue) + others.map(\.name) {
            let letters = Array(known.utf8)
            let distance = changes(from: wanted, to: letters)
            // A half of a short name has nothing in common with it.
            let isClose = distance <= min(2, (max(wanted.count, letters.count) - 1) / 2)
            let isBeginning = wanted.count >= 2 && letters.starts(with: wanted)
            if isClose || isBeginning { found.append((known, distance)) }
        }
        found.sort { ($0.distance, $0.name) < ($1.distance, $1.name) }
        return found.prefix(5).map(\.name)
    }

    /// How many letters have to be changed, added, left out, or swapped with the next one.
    private static func changes(from: [UInt8], to: [UInt8]) -> Int {
        var before: [Int] = []
        var last = Array(0...to.count)
        for (index, letter) in from.enumerated() {
            var row = [index + 1]
            for (column, other) in to.enumerated() {
                var least = min(last[column] + (letter == other ? 0 : 1), last[column + 1] + 1, row[column] + 1)
                if index > 0, column > 0, letter == to[column - 1], from[index - 1] == other {
                    least = min(least, before[column - 1] + 1)
                }
                row.append(least)
            }
            before = last
            last = row
        }
        return last[to.count]
    }

    // MARK: Text

    /// The chords that type a text on a US keyboard without Caps Lock. A new line is the enter key, CR LF only one.
    public static func typing(_ text: String) throws(KeyNameError) -> [KeyChord] {
        var chords: [KeyChord] = []
        var afterReturn = false
        for (index, scalar) in text.unicodeScalars.enumerated() {
            defer { afterReturn = scalar == "\r" }
            if scalar == "\n", afterReturn { continue }
            if chords.count == textLimit { throw .tooMany(limit: textLimit) }
            guard scalar.isASCII, let chord = chord(typing: UInt8(truncatingIfNeeded: scalar.value)) else {
                throw .untypable(character: plain(String(scalar), limit: 1), position: index + 1)
            }
            chords.append(chord)
        }
        return chords
    }

    private static func chord(typing byte: UInt8) -> KeyChord? {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            // Letters and digits are named by themselves.
            return QKeyCode(rawValue: String(decoding: [byte], as: UTF8.self)).map { KeyChord([$0]) }
        case UInt8(ascii: "A")...UInt8(ascii: "Z"):
            return QKeyCode(rawValue: String(decoding: [byte | 0x20], as: UTF8.self)).map { KeyChord([.shift, $0]) }
        case 0: return nil
        default:
            if let plain = signs.first(where: { $0.plain == byte }) { return KeyChord([plain.key]) }
            if let shifted = signs.first(where: { $0.shifted == byte }) { return KeyChord([.shift, shifted.key]) }
            return nil
        }
    }

    /// What the keys that are no letters type, alone and with shift; 0 for nothing.
    private static let signs: [(plain: UInt8, shifted: UInt8, key: QKeyCode)] = [
        (0x20, 0, .space), (0x0A, 0, .enter), (0x0D, 0, .enter), (0x09, 0, .tab), (0x08, 0, .backspace),
        (0x1B, 0, .escape), (0x7F, 0, .backspace),
        pair("-_", .minus), pair("=+", .equal), pair("[{", .bracketLeft), pair("]}", .bracketRight),
        pair(";:", .semicolon), pair("'\"", .apostrophe), pair("`~", .graveAccent), pair("\\|", .backslash),
        pair(",<", .comma), pair(".>", .dot), pair("/?", .slash),
        pair("1!", .digit1), pair("2@", .digit2), pair("3#", .digit3), pair("4$", .digit4), pair("5%", .digit5),
        pair("6^", .digit6), pair("7&", .digit7), pair("8*", .digit8), pair("9(", .digit9), pair("0)", .digit0),
    ]

    private static func pair(_ signs: StaticString, _ key: QKeyCode) -> (plain: UInt8, shifted: UInt8, key: QKeyCode) {
        (signs.utf8Start[0], signs.utf8Start[1], key)
    }
}
