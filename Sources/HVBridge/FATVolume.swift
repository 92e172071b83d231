// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A FAT12, FAT16 or FAT32 volume in which paths are looked up; Microsoft's "FAT32 File System Specification", 1.03.
struct FATVolume {
    private enum Width: Sendable {
        case twelve, sixteen, thirtyTwo
    }

    /// Bytes of a directory that are read: 8192 entries.
    private static let mostOfDirectory = 256 << 10

    /// Where the volume begins on its disk.
    private let base: Int64
    private let sector: Int64
    /// Bytes.
    private let cluster: Int64
    private let table: Int64
    private let data: Int64
    private let clusters: Int64
    private let width: Width
    /// FAT12's and FAT16's root directory lies outside of the clusters: place and size in bytes.
    private let fixedRoot: (place: Int64, size: Int64)
    private let rootCluster: Int64

    /// Whether a sector is a FAT volume's first one.
    static func isBootSector(_ sector: DiskBytes) -> Bool {
        guard sector.has([0x55, 0xAA], at: 510), sector[0] == 0xEB || sector[0] == 0xE9 else { return false }
        return sector.has("FAT", at: 54) || sector.has("FAT32", at: 82)
    }

    /// Nil where there is no such volume at this byte.
    init?(_ disk: inout some DiskReader & ~Copyable, at base: Int64) throws(DiskFault) {
        let boot = try disk.bytes(at: base, 512)
        guard base >= 0, boot.has([0x55, 0xAA], at: 510) else { return nil }
        let sector = Int64(boot.little16(11))
        let perCluster = Int64(boot[13])
        guard [512, 1024, 2048, 4096].contains(sector), perCluster > 0, perCluster & (perCluster - 1) == 0 else {
            return nil
        }
        let (reserved, copies) = (Int64(boot.little16(14)), Int64(boot[16]))
        let rootEntries = Int64(boot.little16(17))
        let total = boot.little16(19) == 0 ? boot.little32(32) : Int64(boot.little16(19))
        let tableSectors = boot.little16(22) == 0 ? boot.little32(36) : Int64(boot.little16(22))
        guard reserved > 0, copies > 0, copies <= 4, tableSectors > 0, !NTFSBootSector.isThere(boot) else { return nil }
        let rootSectors = (rootEntries * 32 + sector - 1) / sector
        // All of these come from at most 32 bits.
        let firstData = reserved + copies * tableSectors + rootSectors
        guard total > firstData else { return nil }
        clusters = (total - firstData) / perCluster
        self.base = base
        self.sector = sector
        cluster = perCluster * sector
        table = reserved * sector
        data = firstData * sector
        // By the number of clusters alone, as the specification says.
        width = clusters < 4085 ? .twelve : clusters < 65525 ? .sixteen : .thirtyTwo
        fixedRoot = ((reserved + copies * tableSectors) * sector, rootEntries * 32)
        rootCluster = boot.little32(44)
    }

    /// A file or a folder.
    struct Entry: Equatable {
        let isFolder: Bool
        let cluster: Int64
        let size: Int64
    }

    /// Looks a path up, letters of either case being the same; nil where it is not there.
    func lookUp(_ disk: inout some DiskReader & ~Copyable, _ path: [String]) throws(DiskFault) -> Entry? {
        var found: Entry?
        for name in path {
            if let folder = found, !folder.isFolder { return nil }
            let content = try directory(&disk, found)
            found = FATVolume.find(name, in: content)
            if found == nil { return nil }
        }
        return found
    }

    // MARK: Directories

    /// The bytes of a folder; of the root, for nil.
    private func directory(_ disk: inout some DiskReader & ~Copyable, _ folder: Entry?) throws(DiskFault) -> DiskBytes {
        if folder == nil, width != .thirtyTwo {
            return try disk.bytes(at: base + fixedRoot.place, Int(fixedRoot.size))
        }
        var content: [UInt8] = []
        var number = folder?.cluster ?? rootCluster
        // A chain may bite its tail.
        var seen: Set<Int64> = []
        while number >= 2, number < clusters + 2, content.count < FATVolume.mostOfDirectory {
            if !seen.insert(number).inserted { break }
            let part = try disk.read(at: base + data + (number - 2) * cluster, count: Int(cluster))
            content += part
            // The end of the disk, or of the folder: a name that begins with 0.
            if part.count < Int(cluster) || stride(from: 0, to: part.count, by: 32).contains(where: { part[$0] == 0 }) {
                break
            }
            number = try next(&disk, number)
        }
        return DiskBytes(content)
    }

    private func next(_ disk: inout some DiskReader & ~Copyable, _ number: Int64) throws(DiskFault) -> Int64 {
        switch width {
        case .twelve:
            let pair = Int64(try disk.bytes(at: base + table + number * 3 / 2, 2).little16(0))
            return number % 2 == 0 ? pair & 0xFFF : pair >> 4
        case .sixteen: return Int64(try disk.bytes(at: base + table + number * 2, 2).little16(0))
        case .thirtyTwo: return try disk.bytes(at: base + table + number * 4, 4).little32(0) & 0xFFF_FFFF
        }
    }

    /// Looks for a name, long or short, among the entries of 32 bytes.
    static func find(_ name: String, in content: DiskBytes) -> Entry? {
        let wanted = name.utf8.map { UInt16(lowercase($0)) }
        // Parts of a long name come before their entry, the last one first.
        var long: [UInt16] = []
        for entry in stride(from: 0, to: content.count - 31, by: 32) {
            let (first, attributes) = (content[entry], content[entry + 11])
            if first == 0 { return nil }
            if first == 0xE5 {
                long = []
                continue
            }
            if attributes & 0x3F == 0x0F {
                if first & 0x40 != 0 { long = [] }
                long = longPart(content, entry) + long
                // A name has 255 letters, in at most 20 parts.
                if long.count > 260 { long = [] }
                continue
            }
            let isName = matches(long, wanted) || matches(shortName(content, entry), wanted)
            long = []
            // A volume's label is not a file.
            if attributes & 0x08 != 0 || !isName { continue }
            let cluster = Int64(content.little16(entry + 20)) << 16 | Int64(content.little16(entry + 26))
            return Entry(isFolder: attributes & 0x10 != 0, cluster: cluster, size: content.little32(entry + 28))
        }
        return nil
    }

    private static func matches(_ found: [UInt16], _ wanted: [UInt16]) -> Bool {
        found.count == wanted.count
            && zip(found, wanted).allSatisfy { pair in
                pair.0 < 0x80 ? UInt16(lowercase(UInt8(pair.0))) == pair.1 : pair.0 == pair.1
            }
    }

    private static func longPart(_ content: DiskBytes, _ entry: Int) -> [UInt16] {
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
        let letters = places.map { UInt16(content.little16(entry + $0)) }
        return Array(letters.prefix { $0 != 0 && $0 != 0xFFFF })
    }

    private static func shortName(_ content: DiskBytes, _ entry: Int) -> [UInt16] {
        func trimmed(_ part: ArraySlice<UInt8>) -> [UInt16] {
            part[..<(part.lastIndex { $0 != 0x20 }.map { $0 + 1 } ?? part.startIndex)].map { UInt16($0) }
        }
        let (name, type) = (trimmed(content.part(entry, 8)), trimmed(content.part(entry + 8, 3)))
        return type.isEmpty ? name : name + [0x2E] + type
    }
}
