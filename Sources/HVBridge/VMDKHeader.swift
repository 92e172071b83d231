// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// VMware's images: those whose content and description are one file (monolithicSparse, streamOptimized). A description
/// that is a file of its own names the files with the content, any that whoever runs QEMU may read: it is refused.
enum VMDKHeader {
    /// Sectors at the description's place in which QEMU looks for a parent, whatever the header says of its size.
    private static let described = 20

    /// Whether the file is a description, with or without the line that VMware's begin with.
    static func isDescriptor(_ start: DiskBytes) -> Bool {
        if DiskBytes(Array(start.part(0, 21))).holds("# Disk DescriptorFile") { return true }
        guard [0x23, 0x20, 0x0A, 0x0D, 0x76].contains(start[0]) else { return false }
        // As QEMU's probe has it: comments and empty lines, then the version.
        var rest = start.bytes[...]
        while let line = rest.split(separator: 0x0A, maxSplits: 1, omittingEmptySubsequences: false).first {
            let isComment = line.first == UInt8(ascii: "#")
            let isBlank = line.allSatisfy { $0 == 0x20 || $0 == 0x0D }
            if !isComment && !isBlank { return line.starts(with: "version=".utf8) }
            rest = rest.dropFirst(line.count + 1)
            if rest.isEmpty { return false }
        }
        return false
    }

    static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) -> DiskHeader {
        let hint = "qemu-img convert -f vmdk -O qcow2 makes one image of it, where all its files are trusted"
        if isDescriptor(start) {
            throw DiskFault(.otherFiles, "it is a description that names the files with the content", hint: hint)
        }
        if start.has("COWD", at: 0) { throw DiskFault(.unsupported, "it is an ESX server's sparse VMDK", hint: hint) }
        if start.count < 512 { throw DiskFault(.truncated, "its VMDK header is cut off") }
        let version = start.little32(4)
        guard (1...3).contains(version) else { throw DiskFault(.unsupported, "its VMDK version is \(version)") }
        // A transfer by ASCII FTP changes these.
        guard start.has([0x0A, 0x20, 0x0D, 0x0A], at: 73) else {
            throw DiskFault(.damaged, "line ends in its header were changed")
        }
        // Without a size of its own, QEMU takes the description in it for that of other files.
        if start.little64(12) == 0 {
            throw DiskFault(.otherFiles, "it holds a description of other files only", hint: hint)
        }
        try checkDescription(&file, start)
        // A stream's writer knows the directory's place only at the end.
        let isStream = start.little64(56) == UInt64.max
        let header = isStream ? try footer(&file) : start
        let size = try checkTables(header, file.size)
        if header.little64(28) != start.little64(28) || header.little64(12) != start.little64(12) {
            throw DiskFault(.damaged, "its header and its footer differ")
        }
        return try DiskHeader(.vmdk, size: size, of: file.size)
    }

    private static func checkDescription(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) {
        let (place, sectors) = (start.little64(28), start.little64(36))
        guard place > 0, fits(place, 1, of: 512, in: file.size), sectors <= 2048 else {
            throw DiskFault(.truncated, "its description lies beyond the end of the file")
        }
        // Where the product is too large, `fits` has said so.
        let text = try file.bytes(at: Int64(place) * 512, max(Int(sectors), described) * 512)
        if text.holds("parentFileNameHint") {
            throw DiskFault(.backingFile, "it shows the content of another file (parentFileNameHint)")
        }
        let lines = text.bytes.prefix { $0 != 0 }.split { $0 == 0x0A || $0 == 0x0D }
        var extents = 0
        for line in lines {
            let line = DiskBytes(Array(line).filter { $0 != 0x20 })
            if DiskBytes(Array(line.part(0, 10))).holds("parentCID="), !line.holds("=ffffffff") {
                throw DiskFault(.backingFile, "it has a parent (parentCID)")
            }
            if DiskBytes(Array(line.part(0, 11))).holds("createType="), !line.holds("\"monolithicSparse\""),
                !line.holds("\"streamOptimized\"")
            {
                throw DiskFault(.otherFiles, "it is a VMDK of several files: \(line.text(0, 60))")
            }
            if line.has("RW", at: 0) || line.has("RDONLY", at: 0) || line.has("NOACCESS", at: 0) { extents += 1 }
        }
        if extents > 1 { throw DiskFault(.otherFiles, "its description names \(extents) files") }
    }

    private static func footer(_ file: inout some DiskReader & ~Copyable) throws(DiskFault) -> DiskBytes {
        let footer = try file.bytes(at: file.size - 1024, 512)
        guard footer.count == 512, footer.has("KDMV", at: 0) else {
            throw DiskFault(.truncated, "the footer at its end is missing")
        }
        return footer
    }

    /// Returns the virtual size in bytes.
    private static func checkTables(_ header: DiskBytes, _ file: Int64) throws(DiskFault) -> UInt64 {
        let (sectors, grain, entries) = (header.little64(12), header.little64(20), UInt64(header.little32(44)))
        if sectors > DiskHeader.largest / 512 { throw DiskFault(.damaged, "it has \(sectors) sectors") }
        guard (1...262_144).contains(grain), grain & (grain - 1) == 0, (1...512).contains(entries) else {
            throw DiskFault(.damaged, "its grains are of \(grain) sectors, \(entries) to a table")
        }
        let tables = sectors / (grain * entries) + 1
        let directory = header.little64(56)
        guard directory <= DiskHeader.largest / 512, fits(directory * 512, tables - 1, of: 4, in: file) else {
            throw DiskFault(.truncated, "its grain directory lies beyond the end of the file")
        }
        // Content begins there, after all that describes it.
        if header.little64(64) > UInt64(file) / 512 { throw DiskFault(.truncated, "it ends within its own tables") }
        return sectors * 512
    }
}
