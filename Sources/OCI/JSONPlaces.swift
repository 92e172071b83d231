// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// One step from a value to one inside it.
public enum JSONStep: Sendable, Equatable {
    case name(String)
    case index(Int)
}

extension JSON {
    /// The line, from 1, of the value at a path in a text that is JSON: of its name, where it has one. Of the value around
    /// it where it is missing. A second pass, so that values need not carry where they were: only errors ask.
    public static func line(of path: [JSONStep], in bytes: [UInt8]) -> Int {
        var scanner = Scanner(bytes: bytes)
        let offset = scanner.offset(of: path[...])
        return bytes.prefix(offset).count { $0 == UInt8(ascii: "\n") } + 1
    }

    /// The steps of a ``JSONError/place`` such as `mounts[2].type`, as far as this value has them.
    public func steps(to place: String) -> [JSONStep] {
        let rest = Array(place.utf8)
        switch self {
        case .object(let members):
            // A name may hold anything, dots as well: the longest that is there.
            let fitting = members.filter { member in
                guard rest.starts(with: member.name.utf8) else { return false }
                let next = rest.dropFirst(member.name.utf8.count).first
                return next == nil || next == UInt8(ascii: ".") || next == UInt8(ascii: "[")
            }
            guard let member = fitting.max(by: { $0.name.utf8.count < $1.name.utf8.count }) else { return [] }
            var inner = rest.dropFirst(member.name.utf8.count)
            if inner.first == UInt8(ascii: ".") { inner.removeFirst() }
            return [.name(member.name)] + member.value.steps(to: String(decoding: inner, as: UTF8.self))
        case .array(let values):
            guard rest.first == UInt8(ascii: "["), let end = rest.firstIndex(of: UInt8(ascii: "]")),
                let index = Int(String(decoding: rest[1..<end], as: UTF8.self)), values.indices.contains(index)
            else { return [] }
            var inner = rest[(end + 1)...]
            if inner.first == UInt8(ascii: ".") { inner.removeFirst() }
            return [.index(index)] + values[index].steps(to: String(decoding: inner, as: UTF8.self))
        default: return []
        }
    }
}

/// Goes over a text that was parsed before; a text that is no JSON ends the search early.
private struct Scanner {
    let bytes: [UInt8]
    private var position = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func offset(of path: ArraySlice<JSONStep>) -> Int {
        skipSpace()
        let here = position
        guard let step = path.first else { return here }
        guard current == UInt8(ascii: "{") || current == UInt8(ascii: "[") else { return here }
        position += 1
        var index = 0
        while true {
            skipSpace()
            guard let byte = current, byte != UInt8(ascii: "}"), byte != UInt8(ascii: "]") else { return here }
            let start = position
            var isFound = step == .index(index)
            if case .name(let wanted) = step {
                skipString()
                isFound = (try? JSON(parsing: Array(bytes[start..<position]))) == .string(wanted)
                skipSpace()
                position += 1
            }
            if isFound { return path.count == 1 ? start : offset(of: path.dropFirst()) }
            skipValue()
            skipSpace()
            guard current == UInt8(ascii: ",") else { return here }
            position += 1
            index += 1
        }
    }

    private mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func skipString() {
        position += 1
        while let byte = current, byte != UInt8(ascii: "\"") { position += byte == UInt8(ascii: "\\") ? 2 : 1 }
        position = min(position + 1, bytes.count)
    }

    private mutating func skipValue() {
        var depth = 0
        skipSpace()
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""): skipString()
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                if depth == 0 { return }
                depth -= 1
                position += 1
            case UInt8(ascii: ",") where depth == 0: return
            default: position += 1
            }
        }
    }
}
