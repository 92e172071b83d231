// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A part of a disk, as its table tells of it: within the disk, and not empty.
public struct Partition: Sendable, Equatable {
    /// What it is for: a byte in an MBR, a GUID in a GPT.
    public enum Kind: Sendable, Equatable {
        case byte(UInt8)
        case guid(String)
    }

    public let number: Int
    public let kind: Kind
    /// First byte, and size in bytes.
    public let start: Int64
    public let size: Int64
    /// Whether an MBR marks it as the one to boot from.
    public let isActive: Bool

    public var isEFISystem: Bool {
        kind == .guid("C12A7328-F81F-11D2-BA4B-00A0C93EC93B") || kind == .byte(0xEF)
    }

    /// GRUB's place on a disk with a GPT.
    public var isBIOSBoot: Bool { kind == .guid("21686148-6449-6E6F-744E-656564454649") }

    /// Windows makes one on each disk that it is put on.
    public var isMicrosoftReserved: Bool { kind == .guid("E3C9E316-0B5C-4DB8-817D-F92DF00215AE") }

    /// Whether NTFS may be on it.
    public var isBasicData: Bool {
        kind == .guid("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7") || kind == .byte(7)
            || kind == .guid("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC") || kind == .byte(0x27)
    }
}

/// How a disk is divided: a GPT, whose sums must be right, else an MBR. What is wrong in one is left out with a note.
public struct PartitionTable: Sendable, Equatable {
    public enum Scheme: String, Sendable {
        case none, mbr, gpt
    }

    public private(set) var scheme = Scheme.none
    public private(set) var partitions: [Partition] = []
    /// Whether the first sector holds code for a BIOS to run.
    public private(set) var hasBootCode = false
    /// Whether some of its partitions lie beyond the end of the disk: there was more of it once.
    public private(set) var isCutOff = false
    public private(set) var notes: [String] = []

    /// Partitions that are listed; Linux takes as many of an MBR's, and a GPT's most common length is 128.
    private static let most = 1024
    private static let mostLogical = 128

    init() {}

    static func read(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) -> PartitionTable {
        var table = PartitionTable()
        let first = try disk.bytes(at: 0, 512)
        let isSigned = first.has([0x55, 0xAA], at: 510)
        table.hasBootCode = isSigned && !first.isZero(0, 440)
        for sector: Int64 in [512, 4096] {
            let header = try disk.bytes(at: sector, 92)
            if header.has("EFI PART", at: 0), try table.readGPT(&disk, header, sector) { return table }
        }
        guard isSigned else { return table }
        if FATVolume.isBootSector(first) || NTFSBootSector.isThere(first) {
            table.notes.append("a file system without a partition table")
            return table
        }
        try table.readMBR(&disk, first)
        return table
    }

    // MARK: GPT

    /// Returns `false`, with a note, for one that is not as the UEFI specification wants it.
    private mutating func readGPT(
        _ disk: inout some DiskReader & ~Copyable, _ header: DiskBytes, _ sector: Int64
    ) throws(DiskFault) -> Bool {
        let length = header.little32(12)
        guard length >= 92, length <= sector else { return refuse("its header is \(length) bytes long") }
        var summed = try disk.read(at: sector, count: Int(length))
        guard summed.count == Int(length) else { return refuse("it is cut off") }
        summed.replaceSubrange(16..<20, with: [0, 0, 0, 0])
        guard CRC32.sum(summed) == UInt32(header.little(16, 4)) else { return refuse("the sum of its header is wrong") }
        let (count, width) = (header.little32(80), header.little32(84))
        guard count > 0, count <= 4096, width >= 128, width <= 4096, width & (width - 1) == 0 else {
            return refuse("it has \(count) entries of \(width) bytes")
        }
        let bytes = Int(count * width)
        guard bytes <= 1 << 20, let place = GPTPlace.byte(header.little64(72), sector),
            fits(UInt64(place), UInt64(bytes), in: disk.size)
        else { return refuse("its entries lie beyond the end") }
        let entries = try disk.bytes(at: place, bytes)
        guard entries.count == bytes, CRC32.sum(entries.bytes) == UInt32(header.little(88, 4)) else {
            return refuse("the sum of its entries is wrong")
        }
        scheme = .gpt
        for index in 0..<Int(count) {
            let entry = index * Int(width)
            if entries.isZero(entry, 16) { continue }
            let (from, to) = (entries.little64(entry + 32), entries.little64(entry + 40))
            guard let start = GPTPlace.byte(from, sector), let last = GPTPlace.byte(to, sector) else {
                add(index + 1, .guid(entries.guid(entry)), 0, -1, in: disk.size)
                continue
            }
            add(index + 1, .guid(entries.guid(entry)), start, last - start + sector, in: disk.size)
        }
        return true
    }

    private mutating func refuse(_ why: String) -> Bool {
        notes.append("its GPT is not taken: \(why)")
        return false
    }

    private mutating func add(
        _ number: Int, _ kind: Partition.Kind, _ start: Int64, _ size: Int64, in disk: Int64, isActive: Bool = false
    ) {
        guard start > 0, size > 0, start < disk, size <= disk - start, partitions.count < PartitionTable.most else {
            // One sentence is enough, of a thousand as well.
            let note = "partitions that lie beyond the end are left out"
            isCutOff = true
            if !notes.contains(note) { notes.append(note) }
            return
        }
        partitions.append(Partition(number: number, kind: kind, start: start, size: size, isActive: isActive))
    }

    // MARK: MBR

    private mutating func readMBR(
        _ disk: inout some DiskReader & ~Copyable, _ first: DiskBytes
    ) throws(DiskFault) {
        let entries = MBREntry.all(first)
        guard entries.allSatisfy({ $0.flag == 0 || $0.flag == 0x80 }) else {
            notes.append("its first sector is signed, and holds no partition table")
            return
        }
        scheme = .mbr
        for (index, entry) in entries.enumerated() {
            // What a GPT protects itself with; the GPT was refused.
            if entry.type == 0 || entry.type == 0xEE { continue }
            if entry.isExtended {
                try readLogical(&disk, entry)
                continue
            }
            add(
                index + 1, .byte(entry.type), entry.start * 512, entry.count * 512, in: disk.size,
                isActive: entry.flag == 0x80)
        }
    }

    /// Each table in an extended partition has one partition and the place of the next table.
    private mutating func readLogical(
        _ disk: inout some DiskReader & ~Copyable, _ extended: MBREntry
    ) throws(DiskFault) {
        var place = extended.start
        for number in 0..<PartitionTable.mostLogical {
            let sector = try disk.bytes(at: place * 512, 512)
            guard place > 0, sector.has([0x55, 0xAA], at: 510) else { break }
            let entries = MBREntry.all(sector)
            if entries[0].type != 0, !entries[0].isExtended {
                add(
                    5 + number, .byte(entries[0].type), (place + entries[0].start) * 512, entries[0].count * 512,
                    in: disk.size, isActive: entries[0].flag == 0x80)
            }
            let next = extended.start + entries[1].start
            // They follow one another; a way back would be without end.
            guard entries[1].isExtended, next > place else { return }
            place = next
        }
        notes.append("its logical partitions do not end as they should")
    }
}

/// One of the four entries of an MBR. Numbers are of 32 bits, so that sums of some are no danger.
private struct MBREntry {
    let flag: UInt8
    let type: UInt8
    /// In sectors of 512 bytes.
    let start: Int64
    let count: Int64

    var isExtended: Bool { [5, 0x0F, 0x85].contains(type) }

    static func all(_ sector: DiskBytes) -> [MBREntry] {
        (0..<4).map { index in
            let entry = 446 + 16 * index
            return MBREntry(
                flag: sector[entry], type: sector[entry + 4], start: sector.little32(entry + 8),
                count: sector.little32(entry + 12))
        }
    }
}

private enum GPTPlace {
    /// The first byte of a sector; nil for what no disk has.
    static func byte(_ number: UInt64, _ sector: Int64) -> Int64? {
        guard number < 1 << 50 else { return nil }
        return Int64(number) * sector
    }
}

/// The sum that a GPT has of itself: CRC-32 of IEEE 802.3.
enum CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 0 ? value >> 1 : value >> 1 ^ 0xEDB8_8320 }
    }

    static func sum(_ bytes: [UInt8]) -> UInt32 {
        let table = table
        return ~bytes.reduce(UInt32.max) { $0 >> 8 ^ table[Int(($0 ^ UInt32($1)) & 0xFF)] }
    }
}

/// The first sectors of an NTFS volume.
enum NTFSBootSector {
    static func isThere(_ sector: DiskBytes) -> Bool {
        sector.has("NTFS    ", at: 3) && sector.has([0x55, 0xAA], at: 510)
    }

    /// BitLocker's, which has taken NTFS's place.
    static func isEncrypted(_ sector: DiskBytes) -> Bool {
        sector.has("-FVE-FS-", at: 3) && sector.has([0x55, 0xAA], at: 510)
    }

    /// Whether the code in the first 8 KiB looks for Windows' boot manager: its name is there in UTF-16, and in messages.
    static func startsWindows(_ sectors: DiskBytes) -> Bool {
        isThere(sectors) && (sectors.holds("BOOTMGR".utf8.flatMap { [$0, 0] }) || sectors.holds("BOOTMGR"))
    }
}
