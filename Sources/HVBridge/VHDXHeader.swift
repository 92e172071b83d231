// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Hyper-V's images, [MS-VHDX]. Numbers are little-endian. Sums are QEMU's to compare: it refuses what is wrong.
enum VHDXHeader {
    private enum Item {
        static let map = "2DC27766-F623-4200-9D64-115E9BFD4A08"
        static let metadata = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
        static let parameters = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
        static let size = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
        static let parent = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"
        static let logicalSector = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
        static let physicalSector = "CDA348C7-445D-4471-9CC9-E9885251C556"
        static let identity = "BECA12AB-B2E6-4523-93EF-C309E000C746"
        static let known = [parameters, size, logicalSector, physicalSector, identity]
    }

    static func read(_ file: inout some DiskReader & ~Copyable) throws(DiskFault) -> DiskHeader {
        try checkLog(&file)
        let regions = try regions(&file)
        guard let metadata = regions[Item.metadata], let map = regions[Item.map] else {
            throw DiskFault(.damaged, "its list of regions lacks one")
        }
        let items = try items(&file, metadata)
        guard let size = items[Item.size], let parameters = items[Item.parameters] else {
            throw DiskFault(.damaged, "its metadata lack its size")
        }
        if items[Item.parent] != nil || parameters >> 32 & 2 != 0 {
            throw DiskFault(.backingFile, "it is a difference to another image", hint: "Merge-VHD joins them")
        }
        let block = parameters & 0xFFFF_FFFF
        guard (1 << 20...256 << 20).contains(block), block & (block - 1) == 0 else {
            throw DiskFault(.damaged, "its blocks are of \(block) bytes")
        }
        // 64 TiB is the format's own limit.
        if size > 64 << 40 { throw DiskFault(.damaged, "its virtual size is \(size) bytes") }
        if UInt64(map.length) / 8 < size / block { throw DiskFault(.damaged, "its map of blocks is too small") }
        return try DiskHeader(.vhdx, size: size, of: file.size)
    }

    /// The newer of two headers says whether changes lie in the log that are not yet where they belong.
    private static func checkLog(_ file: inout some DiskReader & ~Copyable) throws(DiskFault) {
        var newest: DiskBytes?
        for place: Int64 in [64 << 10, 128 << 10] {
            let header = try file.bytes(at: place, 80)
            guard header.count == 80, header.has("head", at: 0), header.little16(66) == 1 else { continue }
            if let newest, newest.little64(8) >= header.little64(8) { continue }
            newest = header
        }
        guard let newest else { throw DiskFault(.truncated, "neither of its headers is there") }
        if newest.isZero(48, 16) { return }
        throw DiskFault(
            .unclean, "it was not closed: its log holds changes", hint: "qemu-img check -r all puts it in order")
    }

    private typealias Region = (place: Int64, length: Int64)

    private static func regions(_ file: inout some DiskReader & ~Copyable) throws(DiskFault) -> [String: Region] {
        let table = try file.bytes(at: 192 << 10, 64 << 10)
        guard table.has("regi", at: 0) else { throw DiskFault(.truncated, "its list of regions is missing") }
        let count = table.little32(8)
        guard count <= 2047 else { throw DiskFault(.damaged, "its list of regions is too long") }
        var found: [String: Region] = [:]
        for index in 0..<Int(count) {
            let entry = 16 + 32 * index
            let name = table.guid(entry)
            guard name == Item.map || name == Item.metadata else {
                // The bit says that nobody may ignore it.
                if table.little32(entry + 28) & 1 == 0 { continue }
                throw DiskFault(.unsupported, "it has a region that is not known: \(name)")
            }
            let (place, length) = (table.little64(entry + 16), UInt64(table.little32(entry + 24)))
            // Nothing is within the first MiB but headers.
            guard place >= 1 << 20, found[name] == nil else { throw DiskFault(.damaged, "its regions overlap") }
            guard fits(place, length, in: file.size) else {
                throw DiskFault(.truncated, "one of its regions lies beyond the end of the file")
            }
            found[name] = (Int64(place), Int64(length))
        }
        return found
    }

    /// The values of the metadata, up to eight bytes of each.
    private static func items(
        _ file: inout some DiskReader & ~Copyable, _ region: Region
    ) throws(DiskFault) -> [String: UInt64] {
        let table = try file.bytes(at: region.place, Int(min(region.length, 64 << 10)))
        guard table.has("metadata", at: 0) else { throw DiskFault(.damaged, "its metadata are missing") }
        let count = table.little16(10)
        guard count <= 2047 else { throw DiskFault(.damaged, "its metadata are too many") }
        var found: [String: UInt64] = [:]
        for index in 0..<count {
            let entry = 32 + 32 * index
            let name = table.guid(entry)
            if found[name] != nil { throw DiskFault(.damaged, "one of its metadata is there twice") }
            if name == Item.parent {
                found[name] = 0
                continue
            }
            guard Item.known.contains(name) else {
                if table.little32(entry + 24) & 4 == 0 { continue }
                throw DiskFault(.unsupported, "it has metadata that are not known: \(name)")
            }
            let (offset, length) = (table.little32(entry + 16), table.little32(entry + 20))
            guard offset >= 64 << 10, offset + length <= region.length else {
                throw DiskFault(.damaged, "its metadata lie outside their region")
            }
            found[name] = try file.bytes(at: region.place + offset, Int(min(length, 8))).little64(0)
        }
        return found
    }
}
