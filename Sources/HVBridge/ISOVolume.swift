// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A CD's image: ISO 9660 (ECMA-119) with what a machine boots from it (the El Torito specification, 1.0).
///
/// UDF is not read. Windows' own discs have all of their files there, and one text in the ISO tree: they are known by
/// their publisher or their name.
struct ISOVolume {
    static let sector: Int64 = 2048
    private static let firstDescriptor: Int64 = 16
    private static let mostOfDirectory = 1 << 20

    let name: String
    let publisher: String
    /// Whether a UDF tree is there as well.
    let hasUDF: Bool
    let bootEntries: [BootEntry]
    private let root: Entry

    /// One way to boot: what kind of firmware may take it, and where its content is.
    struct BootEntry: Equatable {
        /// 0 for a BIOS, 0xEF for EFI.
        let platform: UInt8
        /// First byte.
        let place: Int64
    }

    /// A file or a folder: first byte and size in bytes.
    struct Entry: Equatable {
        let isFolder: Bool
        let place: Int64
        let size: Int64
    }

    static func isThere(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) -> Bool {
        let start = try disk.bytes(at: firstDescriptor * sector, 7)
        return start.has("CD001", at: 1) && start[0] <= 3
    }

    /// Throws where the disc is longer than its image.
    static func checkSize(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) {
        guard let primary = try descriptors(&disk).first(where: { $0[0] == 1 }) else {
            throw DiskFault(.damaged, "its first volume descriptor is missing")
        }
        let (blocks, width) = (UInt64(primary.little32(80)), UInt64(primary.little16(128)))
        if fits(0, blocks, of: width, in: disk.size) { return }
        throw DiskFault(.truncated, "the disc has \(blocks * width) bytes, its image \(disk.size)")
    }

    /// Volume descriptors, one a sector; those of UDF follow them.
    private static func descriptors(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) -> [DiskBytes] {
        var found: [DiskBytes] = []
        for index: Int64 in 0..<32 {
            let descriptor = try disk.bytes(at: (firstDescriptor + index) * sector, Int(sector))
            guard descriptor.count == Int(sector), DiskBytes(Array(descriptor.part(1, 5))).isDescriptor else { break }
            found.append(descriptor)
        }
        return found
    }

    /// Nil where there is no ISO 9660.
    init?(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) {
        let descriptors = try ISOVolume.descriptors(&disk)
        guard let primary = descriptors.first(where: { $0[0] == 1 && $0.has("CD001", at: 1) }) else { return nil }
        name = primary.text(40, 32)
        publisher = primary.text(318, 128)
        hasUDF = descriptors.contains { $0.has("NSR0", at: 1) }
        root = ISOVolume.entry(primary, 156)
        if let boot = descriptors.first(where: { $0[0] == 0 && $0.has("CD001\u{1}EL TORITO SPECIFICATION", at: 1) }) {
            bootEntries = try ISOVolume.catalog(&disk, at: boot.little32(71) * ISOVolume.sector)
        } else {
            bootEntries = []
        }
    }

    // MARK: El Torito

    /// The boot catalog; one of more than 64 entries is cut off.
    private static func catalog(
        _ disk: inout some DiskReader & ~Copyable, at place: Int64
    ) throws(DiskFault) -> [BootEntry] {
        let catalog = try disk.bytes(at: place, Int(sector))
        guard catalog[0] == 1, catalog.has([0x55, 0xAA], at: 30) else { return [] }
        var platform = catalog[1]
        var found: [BootEntry] = []
        for entry in stride(from: 32, to: catalog.count - 31, by: 32) {
            switch catalog[entry] {
            case 0x90, 0x91: platform = catalog[entry + 1]
            case 0x88: found.append(BootEntry(platform: platform, place: catalog.little32(entry + 8) * sector))
            // Not to be booted, or an extension of the entry before.
            case 0x44: continue
            default:
                if entry > 32 || catalog[entry] != 0 { return found }
            }
        }
        return found
    }

    // MARK: Files

    /// Looks a path up, letters of either case being the same; nil where it is not there.
    func lookUp(_ disk: inout some DiskReader & ~Copyable, _ path: [String]) throws(DiskFault) -> Entry? {
        var found = root
        for name in path {
            guard found.isFolder else { return nil }
            let size = Int(min(found.size, Int64(ISOVolume.mostOfDirectory)))
            let content = try disk.bytes(at: found.place, size)
            guard let next = ISOVolume.find(name, in: content) else { return nil }
            found = next
        }
        return found
    }

    /// Looks for a name among directory records; none goes over the end of a sector.
    static func find(_ name: String, in content: DiskBytes) -> Entry? {
        let wanted = name.utf8.map(lowercase)
        var place = 0
        while place < content.count {
            let length = Int(content[place])
            if length == 0 {
                place = (place / Int(sector) + 1) * Int(sector)
                continue
            }
            if length < 34 { return nil }
            // The version, and the point of a name without a type.
            var found = content.part(place + 33, Int(content[place + 32])).prefix { $0 != UInt8(ascii: ";") }
            if found.last == UInt8(ascii: ".") { found.removeLast() }
            if found.map(lowercase) == wanted { return entry(content, place) }
            place += length
        }
        return nil
    }

    private static func entry(_ content: DiskBytes, _ place: Int) -> Entry {
        Entry(
            isFolder: content[place + 25] & 2 != 0, place: content.little32(place + 2) * sector,
            size: content.little32(place + 10))
    }
}

extension DiskBytes {
    /// Whether these five bytes name a volume descriptor, ECMA-167 2/9.1.2.
    fileprivate var isDescriptor: Bool {
        ["CD001", "BEA01", "NSR02", "NSR03", "BOOT2", "TEA01"].contains { has($0, at: 0) }
    }
}
