// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Builds a message in the wire form of protocol buffers, which criu's requests have.
struct CriuMessage {
    private(set) var bytes: [UInt8] = []

    mutating func add(_ field: Int, _ value: Int32) {
        // Negative numbers are as 64 bits wide.
        add(field, varint: UInt64(bitPattern: Int64(value)))
    }

    mutating func add(_ field: Int, _ value: Bool) { add(field, varint: value ? 1 : 0) }

    mutating func add(_ field: Int, _ value: String) { add(field, Array(value.utf8)) }

    mutating func add(_ field: Int, _ message: CriuMessage) { add(field, message.bytes) }

    private mutating func add(_ field: Int, varint value: UInt64) {
        append(UInt64(field) << 3)
        append(value)
    }

    private mutating func add(_ field: Int, _ value: [UInt8]) {
        append(UInt64(field) << 3 | 2)
        append(UInt64(value.count))
        bytes += value
    }

    /// Seven bits a byte, the lowest first.
    private mutating func append(_ value: UInt64) {
        var rest = value
        while rest > 0x7f {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}

/// A message of criu's, taken apart.
struct CriuAnswer {
    private var numbers: [UInt64: UInt64] = [:]
    private var texts: [UInt64: ArraySlice<UInt8>] = [:]

    /// `nil` for what is no such message.
    init?(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            guard let key = CriuAnswer.varint(&rest) else { return nil }
            let field = key >> 3
            switch key & 7 {
            case 0:
                guard let value = CriuAnswer.varint(&rest) else { return nil }
                numbers[field] = value
            case 1, 5:
                let size = key & 7 == 1 ? 8 : 4
                guard rest.count >= size else { return nil }
                rest.removeFirst(size)
            case 2:
                guard let length = CriuAnswer.varint(&rest), let size = Int(exactly: length), size <= rest.count else {
                    return nil
                }
                texts[field] = rest.prefix(size)
                rest.removeFirst(size)
            default: return nil
            }
        }
    }

    private static func varint(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = rest.popFirst() else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }

    func number(_ field: UInt64) -> Int32? { numbers[field].map { Int32(truncatingIfNeeded: $0) } }

    func text(_ field: UInt64) -> String? { texts[field].map { String(decoding: $0, as: UTF8.self) } }

    func message(_ field: UInt64) -> CriuAnswer? { texts[field].flatMap { CriuAnswer($0) } }
}
