// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A disk's content, of which parts can be read.
protocol DiskReader: ~Copyable {
    /// In bytes.
    var size: Int64 { get }
    /// Returns `count` bytes from an offset on; fewer at the end, none outside.
    mutating func read(at offset: Int64, count: Int) throws(DiskFault) -> [UInt8]
}

extension DiskReader where Self: ~Copyable {
    /// As ``read(at:count:)``, for the parsers.
    mutating func bytes(at offset: Int64, _ count: Int) throws(DiskFault) -> DiskBytes {
        DiskBytes(try read(at: offset, count: count))
    }

    /// How many of `count` bytes from `offset` on there are.
    func available(at offset: Int64, _ count: Int) -> Int {
        guard offset >= 0, offset < size, count > 0 else { return 0 }
        return Int(min(Int64(count), size - offset))
    }
}

/// A file, or a block device, that is read where it lies.
struct FileDisk: ~Copyable, DiskReader {
    private let descriptor: Descriptor
    let size: Int64

    /// Takes what is open for reading. Throws where it is neither a file nor a block device.
    init(_ descriptor: consuming Descriptor) throws(DiskFault) {
        size = try FileDisk.size(of: descriptor)
        self.descriptor = descriptor
    }

    /// Reads what somebody else owns.
    init(copyOf descriptor: borrowing Descriptor) throws(DiskFault) {
        let copy: Descriptor
        do throws(SystemError) { copy = try descriptor.duplicate() } catch { throw DiskFault(error) }
        try self.init(copy)
    }

    private static func size(of descriptor: borrowing Descriptor) throws(DiskFault) -> Int64 {
        let kind: FileStatus.Kind
        let end: Int64
        do throws(SystemError) {
            kind = try descriptor.stat().kind
            // A block device has no size in its status.
            let hasEnd = kind == .regular || kind == .blockDevice
            end = hasEnd ? try check(zn_lseek(descriptor.raw, 0, SEEK_END), "seek") : 0
        } catch { throw DiskFault(error) }
        if kind == .regular || kind == .blockDevice { return end }
        throw DiskFault(.unsupported, "it is neither a file nor a block device")
    }

    mutating func read(at offset: Int64, count: Int) throws(DiskFault) -> [UInt8] {
        let wanted = available(at: offset, count)
        var found: [UInt8] = []
        do throws(SystemError) {
            while found.count < wanted {
                let part = try descriptor.read(at: offset + Int64(found.count), upTo: wanted - found.count)
                // It has become shorter meanwhile.
                if part.isEmpty { break }
                if found.isEmpty { found = part } else { found += part }
            }
        } catch { throw DiskFault(error) }
        return found
    }
}

/// Content in memory: for tests and for the fuzzer.
struct MemoryDisk: DiskReader {
    let content: [UInt8]
    /// May be larger than what is there, the rest being zeros.
    let size: Int64

    init(_ content: [UInt8], size: Int64? = nil) {
        self.content = content
        self.size = max(size ?? 0, Int64(content.count))
    }

    mutating func read(at offset: Int64, count: Int) throws(DiskFault) -> [UInt8] {
        let wanted = available(at: offset, count)
        guard wanted > 0 else { return [] }
        guard offset < Int64(content.count) else { return [UInt8](repeating: 0, count: wanted) }
        let part = content[Int(offset)...].prefix(wanted)
        return part + [UInt8](repeating: 0, count: wanted - part.count)
    }
}

/// Bytes with numbers in them. What lies beyond their end reads as 0: parsers look at ``count`` where that matters.
struct DiskBytes {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    var count: Int { bytes.count }

    subscript(_ index: Int) -> UInt8 { index >= 0 && index < bytes.count ? bytes[index] : 0 }

    func part(_ offset: Int, _ count: Int) -> ArraySlice<UInt8> {
        guard offset >= 0, offset < bytes.count, count > 0 else { return [] }
        return bytes[offset...].prefix(count)
    }

    func little(_ offset: Int, _ width: Int) -> UInt64 {
        (0..<width).reduce(0) { $0 | UInt64(self[offset &+ $1]) << UInt64(8 * $1) }
    }

    func big(_ offset: Int, _ width: Int) -> UInt64 {
        (0..<width).reduce(0) { $0 << 8 | UInt64(self[offset &+ $1]) }
    }

    func little16(_ offset: Int) -> Int { Int(little(offset, 2)) }
    func little32(_ offset: Int) -> Int64 { Int64(little(offset, 4)) }
    func little64(_ offset: Int) -> UInt64 { little(offset, 8) }
    func big32(_ offset: Int) -> Int64 { Int64(big(offset, 4)) }
    func big64(_ offset: Int) -> UInt64 { big(offset, 8) }

    /// Whether a text is at an offset.
    func has(_ text: String, at offset: Int) -> Bool { has(Array(text.utf8), at: offset) }

    func has(_ wanted: [UInt8], at offset: Int) -> Bool { part(offset, wanted.count).elementsEqual(wanted) }

    /// Whether bytes are anywhere; letters may be of either case.
    func holds(_ wanted: [UInt8]) -> Bool {
        let wanted = wanted.map(lowercase)
        guard let first = wanted.first, bytes.count >= wanted.count else { return false }
        return (0...bytes.count - wanted.count).contains { start in
            lowercase(bytes[start]) == first
                && bytes[start..<start + wanted.count].lazy.map(lowercase).elementsEqual(wanted)
        }
    }

    func holds(_ text: String) -> Bool { holds(Array(text.utf8)) }

    /// A text of fixed width: printable ASCII, without the spaces that fill it.
    func text(_ offset: Int, _ count: Int) -> String {
        let printable = part(offset, count).prefix { $0 != 0 }.map { $0 >= 0x20 && $0 < 0x7F ? $0 : 0x3F }
        let end = printable.lastIndex { $0 != 0x20 }.map { $0 + 1 } ?? 0
        return String(decoding: printable[..<end], as: UTF8.self)
    }

    /// A GUID as people write it: the first three parts are little-endian.
    func guid(_ offset: Int) -> String {
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        var text: [UInt8] = []
        for (index, place) in order.enumerated() {
            if [4, 6, 8, 10].contains(index) { text.append(UInt8(ascii: "-")) }
            for digit in [self[offset + place] >> 4, self[offset + place] & 15] {
                text.append(digit < 10 ? 0x30 + digit : 0x41 + digit - 10)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    func isZero(_ offset: Int, _ count: Int) -> Bool { part(offset, count).allSatisfy { $0 == 0 } }
}

/// An ASCII letter in lower case.
func lowercase(_ byte: UInt8) -> UInt8 {
    byte >= 0x41 && byte <= 0x5A ? byte + 0x20 : byte
}

/// Whether `count` units of `width` bytes from `offset` on end within `size`; false where the numbers are too large.
func fits(_ offset: UInt64, _ count: UInt64, of width: UInt64 = 1, in size: Int64) -> Bool {
    let (length, first) = count.multipliedReportingOverflow(by: width)
    let (end, second) = offset.addingReportingOverflow(length)
    return !first && !second && size >= 0 && end <= UInt64(size)
}
