// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// VirtualBox's images. Numbers are little-endian.
enum VDIHeader {
    static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) -> DiskHeader {
        if start.count < 512 { throw DiskFault(.truncated, "its VDI header is cut off") }
        guard start.little32(68) == 0x1_0001 else {
            throw DiskFault(.unsupported, "its VDI version is 0x\(String(start.little32(68), radix: 16)), not 1.1")
        }
        let type = start.little32(76)
        guard type == 1 || type == 2, start.isZero(424, 32) else {
            throw DiskFault(
                .backingFile, "it is a difference to another image", hint: "VBoxManage clonemedium joins them")
        }
        let (size, block, blocks) = (start.little64(368), UInt64(start.little32(376)), UInt64(start.little32(384)))
        // The only size of a block that VirtualBox and QEMU make.
        guard block == 1 << 20, start.little32(360) == 512 else {
            throw DiskFault(.unsupported, "its blocks are of \(block) bytes, not 1 MiB")
        }
        // QEMU's own limit, 2^29 - 128 KiB of blocks: the map is within 2 GiB.
        guard size <= blocks * block, blocks <= 0x1FFF_FFF8 else {
            throw DiskFault(.damaged, "its \(blocks) blocks cannot hold \(size) bytes")
        }
        let (map, data) = (UInt64(start.little32(340)), UInt64(start.little32(344)))
        let used = UInt64(start.little32(388))
        guard map >= 400, map % 512 == 0, data % 512 == 0, used <= blocks else {
            throw DiskFault(.damaged, "its map of blocks makes no sense")
        }
        if !fits(map, blocks, of: 4, in: file.size) {
            throw DiskFault(.truncated, "its map of blocks lies beyond the end of the file")
        }
        // The last block may be shorter.
        if used > 0, !fits(data + (used - 1) * block, 1, in: file.size) {
            throw DiskFault(.truncated, "of its \(used) blocks some lie beyond the end of the file")
        }
        return try DiskHeader(.vdi, size: size, of: file.size)
    }
}

/// Virtual PC's and Hyper-V's first images, VHD. Numbers are big-endian.
enum VPCHeader {
    private static let length = 512

    /// An image that grows has a copy of its footer at the beginning.
    static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) -> DiskHeader {
        if start.count < length { throw DiskFault(.truncated, "its VHD header is cut off") }
        let size = try checkFooter(DiskBytes(Array(start.part(0, length))))
        guard start.big32(60) == 3 else { throw DiskFault(.unsupported, "its VHD type is \(start.big32(60))") }
        guard let place = Int64(exactly: start.big64(16)), place >= Int64(length) else {
            throw DiskFault(.damaged, "its VHD header points into itself")
        }
        let header = try file.bytes(at: place, 1024)
        guard header.count == 1024 else { throw DiskFault(.truncated, "its second header lies beyond its end") }
        guard header.has("cxsparse", at: 0) else { throw DiskFault(.damaged, "its second header is missing") }
        let (entries, block) = (UInt64(header.big32(28)), UInt64(header.big32(32)))
        guard block >= 512, block & (block - 1) == 0, block <= 1 << 30 else {
            throw DiskFault(.damaged, "its blocks are of \(block) bytes")
        }
        if entries * block < size { throw DiskFault(.damaged, "its \(entries) blocks cannot hold \(size) bytes") }
        if !fits(header.big64(16), entries, of: 4, in: file.size) {
            throw DiskFault(.truncated, "its map of blocks lies beyond the end of the file")
        }
        let footer = try file.bytes(at: file.size - Int64(length), 8)
        // QEMU would do with the copy.
        guard footer.has("conectix", at: 0) else { throw DiskFault(.truncated, "the footer at its end is missing") }
        return try DiskHeader(.vpc, size: size, of: file.size)
    }

    /// An image of fixed size is plain content with a footer; nil where there is none. The sum is compared before, as the
    /// last sector of a disk is its guest's.
    static func readFixed(_ file: inout some DiskReader & ~Copyable) throws(DiskFault) -> DiskHeader? {
        if file.size <= Int64(length) { return nil }
        let footer = try file.bytes(at: file.size - Int64(length), length)
        guard footer.has("conectix", at: 0), isSummed(footer), footer.big32(60) == 2 else { return nil }
        let size = try checkFooter(footer)
        guard size <= UInt64(file.size) - UInt64(length) else {
            throw DiskFault(.truncated, "it holds \(file.size) bytes, of \(size) and a footer")
        }
        return try DiskHeader(.vpc, size: size, of: file.size)
    }

    /// Returns the virtual size in bytes.
    private static func checkFooter(_ footer: DiskBytes) throws(DiskFault) -> UInt64 {
        if !isSummed(footer) { throw DiskFault(.damaged, "the sum of its VHD header is wrong") }
        guard footer.big32(12) >> 16 == 1 else { throw DiskFault(.unsupported, "its VHD version is not 1") }
        if footer.big32(60) == 4 {
            throw DiskFault(.backingFile, "it is a difference to another image", hint: "Merge-VHD joins them")
        }
        let size = footer.big64(48)
        // The format's own limit is 2040 GiB.
        guard size > 0, size <= 2040 << 30 else { throw DiskFault(.damaged, "its virtual size is \(size) bytes") }
        return size
    }

    private static func isSummed(_ footer: DiskBytes) -> Bool {
        guard footer.count == length else { return false }
        let sum = (0..<length).reduce(UInt32(0)) { (64..<68).contains($1) ? $0 : $0 &+ UInt32(footer[$1]) }
        return UInt64(~sum) == footer.big(64, 4)
    }
}
