// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// Everything that a compiled filter depends on, as bytes: equal keys mean equal filters.
///
/// The whole key is kept in the cached file and compared, so that nothing hangs on a hash being free of collisions.
struct CacheKey: Equatable {
    private(set) var bytes: [UInt8] = []

    init() {
        bytes.reserveCapacity(512)
    }

    mutating func append(_ number: UInt64) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            append(UInt64(utf8.count))
            bytes.append(contentsOf: utf8)
        }
    }

    mutating func append(_ texts: [String]) {
        append(UInt64(texts.count))
        for text in texts { append(text) }
    }

    /// What tells one state of a file from every other, short of a change within the clock's resolution.
    mutating func append(_ status: FileStatus) {
        append(status.device)
        append(status.inode)
        append(UInt64(bitPattern: status.size))
        append(UInt64(bitPattern: status.modified))
        append(UInt64(bitPattern: status.changed))
    }

    mutating func append(_ spec: Spec.Seccomp) {
        append(spec.defaultAction)
        append(spec.defaultErrnoRet)
        append(spec.architectures)
        append(spec.flags)
        append(UInt64(spec.hasListener ? 1 : 0))
        append(UInt64(spec.syscalls.count))
        for rule in spec.syscalls {
            append(rule.names)
            append(rule.action)
            append(rule.errnoRet)
            append(UInt64(rule.args.count))
            for argument in rule.args {
                append(UInt64(argument.index))
                append(argument.value)
                append(argument.valueTwo)
                append(argument.op)
            }
        }
    }

    private mutating func append(_ number: UInt32?) {
        append(number.map { UInt64($0) } ?? .max)
    }

    /// The name of the file that holds the filter.
    var fileName: String {
        let digits = String(Checksum(bytes).value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ".bpf"
    }
}

/// The content of a cached file: a header of 32 bytes, the key, the instructions. Numbers are little-endian.
///
///     0  magic      8   16  instructions 4
///     8  revision   4   20  key's size   4
///     12 flags      4   24  checksum     8   of all the rest
struct CacheEntry {
    private static let magic = Array("ZNSECCMP".utf8)
    private static let headerSize = 32
    private static let checksumOffset = 24

    let key: CacheKey
    let program: SeccompProgram

    /// Larger than any file with this key.
    static func maximumSize(_ key: CacheKey) -> Int {
        headerSize + key.bytes.count + SeccompProgram.maximumCount * 8
    }

    var encoded: [UInt8] {
        var bytes = CacheEntry.magic
        bytes.reserveCapacity(CacheEntry.headerSize + key.bytes.count + program.instructions.count)
        for number in [
            SeccompCache.revision, program.flags, UInt32(program.instructions.count / 8), UInt32(key.bytes.count),
        ] {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        let checksum = CacheEntry.checksum(bytes[...], key.bytes[...], program.instructions[...])
        withUnsafeBytes(of: checksum.littleEndian) { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: key.bytes)
        bytes.append(contentsOf: program.instructions)
        return bytes
    }

    /// Takes the filter out of a file; `nil` where anything about the file is not as ``encoded`` makes it.
    static func program(in bytes: [UInt8], for key: CacheKey) -> SeccompProgram? {
        guard bytes.count > headerSize, bytes.starts(with: magic),
            number(bytes, 8) == SeccompCache.revision,
            number(bytes, 20) == UInt32(key.bytes.count)
        else { return nil }
        let count = Int(number(bytes, 16))
        let start = headerSize + key.bytes.count
        guard count > 0, count <= SeccompProgram.maximumCount, bytes.count == start + count * 8,
            bytes[headerSize..<start].elementsEqual(key.bytes)
        else { return nil }
        let stored = UInt64(number(bytes, checksumOffset)) | UInt64(number(bytes, checksumOffset + 4)) << 32
        guard checksum(bytes[..<checksumOffset], bytes[headerSize..<start], bytes[start...]) == stored else {
            return nil
        }
        return SeccompProgram(instructions: Array(bytes[start...]), flags: number(bytes, 12))
    }

    private static func checksum(_ parts: ArraySlice<UInt8>...) -> UInt64 {
        var checksum = Checksum()
        for part in parts { checksum.add(part) }
        return checksum.value
    }

    private static func number(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32($1 * 8) }
    }
}

/// FNV-1a over words of 8 bytes instead of bytes: against accidents, not against an attacker.
struct Checksum {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    init() {}

    init(_ bytes: [UInt8]) {
        add(bytes[...])
    }

    /// Adds bytes, and their number, so that the border between two parts counts.
    mutating func add(_ bytes: ArraySlice<UInt8>) {
        bytes.withUnsafeBytes { buffer in
            var offset = 0
            while offset + 8 <= buffer.count {
                add(UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
                offset += 8
            }
            var rest: UInt64 = 0
            for (index, byte) in buffer[offset...].enumerated() { rest |= UInt64(byte) << UInt64(index * 8) }
            add(rest)
            add(UInt64(buffer.count))
        }
    }

    private mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x0000_0100_0000_01B3
        // Words, unlike bytes, have high bits, which a multiplication only moves up and out.
        value ^= value >> 32
    }
}
