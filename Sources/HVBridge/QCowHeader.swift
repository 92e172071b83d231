// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// qcow2, as QEMU's docs/interop/qcow2.txt describes it. Numbers are big-endian.
enum QCowHeader {
    /// Bits of the incompatible features.
    private enum Feature {
        static let dirty: UInt64 = 1
        static let corrupt: UInt64 = 2
        static let dataFile: UInt64 = 4
        static let compression: UInt64 = 8
        static let extendedEntries: UInt64 = 16
        static let known = dirty | corrupt | dataFile | compression | extendedEntries
    }

    static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) -> DiskHeader {
        if start.count < 72 { throw DiskFault(.truncated, "its qcow2 header is cut off") }
        let version = start.big32(4)
        guard version == 2 || version == 3 else {
            throw DiskFault(
                .unsupported, "its qcow version is \(version), not 2 or 3",
                hint: version == 1 ? "qemu-img convert -f qcow -O qcow2 changes that" : nil)
        }
        if version == 3, start.count < 104 { throw DiskFault(.truncated, "its qcow2 header is cut off") }
        let features = version == 3 ? start.big64(72) : 0
        try checkFeatures(features)
        if start.big64(8) != 0 {
            throw DiskFault(
                .backingFile, "it shows the content of another file (a backing file)",
                hint: "qemu-img convert makes one image of both, where both are trusted")
        }
        if start.big32(32) != 0 { throw DiskFault(.encrypted, "it is encrypted (crypt_method \(start.big32(32)))") }
        let clusterBits = start.big32(20)
        guard (9...21).contains(clusterBits) else {
            throw DiskFault(.damaged, "its clusters are of 2^\(clusterBits) bytes")
        }
        if version == 3, start.big32(96) > 6 { throw DiskFault(.damaged, "its reference counts are too wide") }
        try checkExtensions(start, from: version == 3 ? start.big32(100) : 72, cluster: 1 << clusterBits)
        let size = start.big64(24)
        if size > DiskHeader.largest { throw DiskFault(.damaged, "its virtual size is \(size) bytes") }
        try checkTables(start, size, 1 << UInt64(clusterBits), wide: features & Feature.extendedEntries != 0, file.size)
        return try DiskHeader(.qcow2, size: size, of: file.size, isDirty: features & Feature.dirty != 0)
    }

    private static func checkFeatures(_ features: UInt64) throws(DiskFault) {
        if features & Feature.dataFile != 0 {
            throw DiskFault(.otherFiles, "its content is in another file (an external data file)")
        }
        // The dirty bit is no reason: QEMU counts references anew when it opens the image for writing.
        if features & Feature.corrupt != 0 {
            throw DiskFault(.damaged, "it is marked as corrupt", hint: "qemu-img check -r all repairs what can be")
        }
        let unknown = features & ~Feature.known
        if unknown != 0 {
            throw DiskFault(.unsupported, "it needs qcow2 features that are not known: 0x\(String(unknown, radix: 16))")
        }
    }

    /// Header extensions, each with type and length; the first cluster holds all of them.
    private static func checkExtensions(_ start: DiskBytes, from: Int64, cluster: Int64) throws(DiskFault) {
        guard from == 72 || (from >= 104 && from % 8 == 0 && from <= min(cluster, 4096)) else {
            throw DiskFault(.damaged, "its header is \(from) bytes long")
        }
        // QEMU's own take some hundred bytes.
        var place = Int(from)
        let end = Int(min(cluster, 4096))
        while place + 8 <= min(end, start.count) {
            let (type, length) = (start.big32(place), Int(start.big32(place + 4)))
            if type == 0 { return }
            if type == 0x4441_5441 { throw DiskFault(.otherFiles, "it names an external data file") }
            if type == 0x0537_BE77 { throw DiskFault(.encrypted, "it is encrypted (LUKS)") }
            if type == 0xE279_2ACA { throw DiskFault(.backingFile, "it names the format of a backing file") }
            if length > end - place - 8 { throw DiskFault(.damaged, "an extension of its header is too long") }
            place += 8 + (length + 7) / 8 * 8
        }
        // Unread ones could be any of these.
        if end < cluster, place + 8 > end { throw DiskFault(.unsupported, "the extensions of its header are too long") }
    }

    private static func checkTables(
        _ start: DiskBytes, _ size: UInt64, _ cluster: UInt64, wide: Bool, _ file: Int64
    ) throws(DiskFault) {
        let (entries, table) = (UInt64(start.big32(36)), start.big64(40))
        // Bytes that one entry of the first level stands for.
        let reach = cluster * (cluster / (wide ? 16 : 8))
        let needed = size / reach + (size % reach == 0 ? 0 : 1)
        if entries < needed { throw DiskFault(.damaged, "its L1 table is too small for its size") }
        // QEMU takes up to 32 MiB.
        if entries > 4 << 20 { throw DiskFault(.damaged, "its L1 table has \(entries) entries") }
        if entries > 0, table % cluster != 0 || table == 0 {
            throw DiskFault(.damaged, "its L1 table is not at the beginning of a cluster")
        }
        if !fits(table, entries, of: 8, in: file) {
            throw DiskFault(.truncated, "its L1 table lies beyond the end of the file")
        }
        let (counts, clusters) = (start.big64(48), UInt64(start.big32(56)))
        if counts == 0 || counts % cluster != 0 || clusters == 0 || clusters > (8 << 20) / cluster + 1 {
            throw DiskFault(.damaged, "its table of reference counts makes no sense")
        }
        if !fits(counts, clusters, of: cluster, in: file) {
            throw DiskFault(.truncated, "its table of reference counts lies beyond the end of the file")
        }
        let (snapshots, list) = (start.big32(60), start.big64(64))
        if snapshots == 0 { return }
        if snapshots > 65536 || list % cluster != 0 {
            throw DiskFault(.damaged, "its list of snapshots makes no sense")
        }
        if !fits(list, UInt64(snapshots), of: 40, in: file) {
            throw DiskFault(.truncated, "its list of snapshots lies beyond the end of the file")
        }
    }
}

/// QED, qcow2's short-lived rival: QEMU's docs/interop/qed_spec.txt. Numbers are little-endian.
enum QEDHeader {
    static func read(
        _ file: inout some DiskReader & ~Copyable, _ start: DiskBytes
    ) throws(DiskFault) -> DiskHeader {
        if start.count < 64 { throw DiskFault(.truncated, "its QED header is cut off") }
        let features = start.little64(16)
        if features & 1 != 0 || start.little32(56) != 0 {
            throw DiskFault(.backingFile, "it shows the content of another file (a backing file)")
        }
        if features & ~7 != 0 { throw DiskFault(.unsupported, "it needs QED features that are not known") }
        let (cluster, clusters) = (UInt64(start.little32(4)), UInt64(start.little32(8)))
        guard (4096...67_108_864).contains(cluster), cluster & (cluster - 1) == 0, (1...16).contains(clusters) else {
            throw DiskFault(.damaged, "its clusters are of \(cluster) bytes, \(clusters) to a table")
        }
        let table = start.little64(40)
        if table == 0 || table % cluster != 0 { throw DiskFault(.damaged, "its table is at no cluster's beginning") }
        if !fits(table, clusters, of: cluster, in: file.size) {
            throw DiskFault(.truncated, "its table lies beyond the end of the file")
        }
        return try DiskHeader(.qed, size: start.little64(48), of: file.size, isDirty: features & 2 != 0)
    }
}
