// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// What a disk's own header says, and the refusal of all that would make QEMU open more than this one file (P19).
///
/// Only the open descriptor is read: names in headers (`json:…`, `nbd:…`, paths) are never followed, they are the reason
/// for a refusal. A format that the caller names is not looked for; what is refused of it is refused all the same.
/// `raw` may be asked for whatever a file begins with: a guest may have put a header there itself, and raw never opens
/// another file. It is said in ``notes``, as it is the wrong choice for an image that somebody else made.
public struct DiskHeader: Sendable, Equatable {
    public let format: DiskFormat
    /// Bytes that a guest sees.
    public let virtualSize: Int64
    /// Bytes of the file or the device.
    public let fileSize: Int64
    /// Whether the image was not closed: QEMU puts it in order when it opens it for writing.
    public let isDirty: Bool
    /// What the user should know, one sentence each.
    public let notes: [String]

    /// The largest disk that is taken, in bytes: 64 PiB.
    static let largest: UInt64 = 1 << 56

    init(
        _ format: DiskFormat, size: UInt64, of file: Int64, isDirty: Bool = false, notes: [String] = []
    ) throws(DiskFault) {
        if size == 0 { throw DiskFault(.empty, "its virtual size is 0") }
        if size > DiskHeader.largest { throw DiskFault(.damaged, "its virtual size is \(size) bytes") }
        self.format = format
        virtualSize = Int64(size)
        fileSize = file
        self.isDirty = isDirty
        self.notes = notes
    }

    /// Reads the header of an open file or block device. `format`: nil for finding it out, which is done only once in a
    /// disk's life.
    public static func read(
        _ descriptor: borrowing Descriptor, as format: DiskFormat? = nil
    ) throws(DiskFault) -> DiskHeader {
        var file = try FileDisk(copyOf: descriptor)
        return try read(&file, as: format)
    }

    static func read(
        _ file: inout some DiskReader & ~Copyable, as format: DiskFormat? = nil
    ) throws(DiskFault) -> DiskHeader {
        if file.size <= 0 { throw DiskFault(.empty, "it is empty") }
        let start = try file.bytes(at: 0, 4096)
        if let format { return try read(&file, start, format) }
        let magic = recognized(start)
        let isCD = try ISOVolume.isThere(&file)
        if let magic, isCD {
            throw DiskFault(
                .ambiguous, "it is a CD and a disk of format \(magic.rawValue) at once",
                hint: "--disk-format says which")
        }
        if let found = isCD ? .iso : magic { return try read(&file, start, found) }
        try refuseForeign(start)
        if let fixed = try VPCHeader.readFixed(&file) { return fixed }
        if try RawContent.isKnown(&file, start) { return try read(&file, start, .raw) }
        throw DiskFault(
            .unknown, "nothing in it is known: no image's header, partition table or file system",
            hint: "--disk-format raw takes it as it is")
    }

    /// The format by the first bytes.
    private static func recognized(_ start: DiskBytes) -> DiskFormat? {
        if start.has([0x51, 0x46, 0x49, 0xFB], at: 0) { return .qcow2 }
        if start.has("QED\0", at: 0) { return .qed }
        if start.has("KDMV", at: 0) || start.has("COWD", at: 0) || VMDKHeader.isDescriptor(start) { return .vmdk }
        if start.has("vhdxfile", at: 0) { return .vhdx }
        if start.has("conectix", at: 0) { return .vpc }
        if start.has([0x7F, 0x10, 0xDA, 0xBE], at: 64) { return .vdi }
        if start.has([0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE], at: 0) { return .luks }
        return nil
    }

    private static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes, _ format: DiskFormat
    ) throws(DiskFault) -> DiskHeader {
        let found = recognized(start)
        switch format {
        case .raw:
            try checkSectors(file.size)
            let notes = found.map {
                ["it begins as an image of format \($0.rawValue) does, and is taken as raw, as was asked for"]
            }
            return try DiskHeader(.raw, size: UInt64(file.size), of: file.size, notes: notes ?? [])
        case .iso:
            guard try ISOVolume.isThere(&file) else { throw DiskFault(.otherFormat, "it is not a CD's image") }
            try ISOVolume.checkSize(&file)
            return try DiskHeader(.iso, size: UInt64(file.size), of: file.size)
        case .vpc where found != .vpc:
            if let fixed = try VPCHeader.readFixed(&file) { return fixed }
        default: break
        }
        guard found == format else {
            throw DiskFault(.otherFormat, "it does not begin as an image of format \(format.rawValue) does")
        }
        return switch format {
        case .qcow2: try QCowHeader.read(&file, start)
        case .qed: try QEDHeader.read(&file, start)
        case .vmdk: try VMDKHeader.read(&file, start)
        case .vdi: try VDIHeader.read(&file, start)
        case .vhdx: try VHDXHeader.read(&file)
        case .vpc: try VPCHeader.read(&file, start)
        case .luks, .raw, .iso:
            throw DiskFault(
                .encrypted, "it is encrypted (LUKS)", hint: "--disk-format raw leaves the key to the guest")
        }
    }

    /// A sector that is cut off is most often a download that was.
    private static func checkSectors(_ size: Int64) throws(DiskFault) {
        if size % 512 == 0 { return }
        throw DiskFault(
            .truncated, "its \(size) bytes are no whole number of sectors of 512",
            hint: "where it is not cut off: truncate -s %512 fills it up")
    }

    /// Other things that people take for disks.
    private static func refuseForeign(_ start: DiskBytes) throws(DiskFault) {
        if start.has([0x55, 0xAA], at: 510) { return }
        let compressed: [([UInt8], String)] = [
            ([0x1F, 0x8B, 0x08], "gunzip"), ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "unxz"),
            ([0x28, 0xB5, 0x2F, 0xFD], "unzstd"), ([0x42, 0x5A, 0x68], "bunzip2"), ([0x50, 0x4B, 3, 4], "unzip"),
        ]
        for (magic, program) in compressed where start.has(magic, at: 0) {
            throw DiskFault(.unsupported, "it is compressed", hint: "\(program) it first")
        }
        if start.has("ustar", at: 257) {
            throw DiskFault(.unsupported, "it is an archive (tar, OVA)", hint: "unpack it and take the disk in it")
        }
        let others = ["WithoutFreeSpace": "parallels", "WithouFreSpacExt": "parallels", "Bochs Virt": "bochs"]
        for (magic, name) in others where start.has(magic, at: 0) {
            throw DiskFault(.unsupported, "it is of format \(name)", hint: "qemu-img convert -O qcow2 changes that")
        }
    }
}

/// What a disk begins with that is no image of another format.
enum RawContent {
    /// Whether the content begins as a disk's does.
    static func isKnown(_ file: inout some DiskReader & ~Copyable, _ start: DiskBytes) throws(DiskFault) -> Bool {
        if start.has([0x55, 0xAA], at: 510) || start.has("EFI PART", at: 512) { return true }
        if start.has("XFSB", at: 0) || start.has("hsqs", at: 0) { return true }
        // ext2 and its successors, erofs, f2fs.
        if start.has([0x53, 0xEF], at: 1080) || start.has([0xE2, 0xE1, 0xF5, 0xE0], at: 1024) { return true }
        if start.has([0x10, 0x20, 0xF5, 0xF2], at: 1024) || start.has("SWAPSPACE2", at: 4086) { return true }
        for sector in 0..<4 where start.has("LABELONE", at: 512 * sector) { return true }
        // Sectors of 4096 bytes.
        if try file.bytes(at: 4096, 8).has("EFI PART", at: 0) { return true }
        return try file.bytes(at: 65600, 8).has("_BHRfS_M", at: 0)
    }
}
