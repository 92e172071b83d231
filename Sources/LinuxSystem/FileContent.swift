// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

extension Descriptor {
    /// Whether files in this directory can share their blocks, so that a copy takes neither time nor room (FICLONE).
    public var sharesBlocks: Bool {
        // O_TMPFILE, which glibc shows only to GNU sources: files without names.
        let flags = OpenFlags(rawValue: OpenFlags([.readWrite, .directory]).rawValue | 0o20_000_000)
        guard let from = try? open(".", flags, mode: 0o600, resolve: .beneath),
            let to = try? open(".", flags, mode: 0o600, resolve: .beneath)
        else { return false }
        return zn_clone_content(to.raw, from.raw) >= 0
    }
}

/// Copies what is in files: shared where the file system can (FICLONE), else piece by piece, with holes as holes.
struct FileContent: ~Copyable {
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)
    /// Off once the two file systems have refused to share.
    private var mayShare = true
    /// Bytes of a file that says it has none, as those of the kernel's do.
    private static let largestUnknown: Int64 = 64 << 20

    init() {}

    /// Copies `size` bytes, which the source had when it was looked at: one that grows all the time does not keep us.
    mutating func copy(_ from: CInt, to: CInt, size: Int64) throws(SystemError) {
        if mayShare, size > 0 {
            let result = zn_clone_content(to, from)
            if result >= 0 { return }
            // Of a file that cannot, such as one whose writes are not to be copied, nothing follows for others.
            if result == -EXDEV || result == -EOPNOTSUPP || result == -ENOTTY { mayShare = false }
        }
        if size == 0 {
            _ = try copyPiece(from, to: to, at: 0, end: FileContent.largestUnknown)
            return
        }
        var place: Int64 = 0
        while place < size {
            let data = zn_lseek(from, place, CInt(ZN_SEEK_DATA))
            // Nothing but a hole until the end.
            if data == -Int64(ENXIO) { break }
            // A file system that knows no holes has data everywhere.
            let start = data < 0 ? place : data
            let hole = data < 0 ? size : zn_lseek(from, start, CInt(ZN_SEEK_HOLE))
            let end = min(hole < 0 ? size : hole, size)
            if start >= end { break }
            place = try copyPiece(from, to: to, at: start, end: end)
            // It has become shorter meanwhile.
            if place < end { return }
        }
        try check(zn_ftruncate(to, Int(size)), "truncate")
    }

    /// Returns where the file ended, or `end`.
    private mutating func copyPiece(_ from: CInt, to: CInt, at start: Int64, end: Int64) throws(SystemError) -> Int64 {
        var place = start
        while place < end {
            let wanted = Int(min(Int64(buffer.count), end - place))
            let size = buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_pread(from, $0, wanted, Int(place)) } ?? 0
            }
            let count = try check(size, "read")
            if count == 0 { return place }
            var done = 0
            while done < count {
                let written = buffer.withUnsafeBytes { bytes in
                    bytes.baseAddress.map { zn_pwrite(to, $0 + done, count - done, Int(place) + done) } ?? 0
                }
                done += try check(written, "write")
            }
            place += Int64(count)
        }
        return place
    }
}
