// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CArchive
import CLinux
import Glibc
import LinuxSystem
import OCI

/// A blob's bytes, decompressed, with the digests of both forms taken in the same pass.
final class BlobStream {
    /// What was read, once all of it was.
    struct Totals {
        let blob: Digest
        let blobSize: Int64
        let content: Digest
        let contentSize: Int64
    }

    private let archive: OpaquePointer
    private let source: Source
    /// Decompresses in the place of libarchive.
    private let helper: FastGzip?
    private let limits: UnpackLimits
    private var hash = SHA256()
    private(set) var contentSize: Int64 = 0

    /// Compressed bytes taken so far.
    var blobSize: Int64 { helper?.taken ?? source.size }

    /// Reads `file` from its current position to its end. `decompress` off gives the bytes as they are. `mayHelp`: another
    /// program may decompress them; whatever fails then is to be done again without, for a true word about the reason.
    init(
        _ file: consuming Descriptor, decompress: Bool = true, mayHelp: Bool = false, limits: UnpackLimits
    ) throws(ImageError) {
        guard let archive = archive_read_new() else { throw ImageError(.system, "no memory for libarchive") }
        self.archive = archive
        self.limits = limits
        var decompressed: Descriptor?
        helper = decompress && mayHelp ? FastGzip.start(on: file, output: &decompressed) : nil
        if let decompressed = decompressed.take() {
            source = Source(decompressed, takesDigest: false)
        } else {
            source = Source(file)
        }
        if decompress, helper == nil {
            archive_read_support_filter_gzip(archive)
            archive_read_support_filter_zstd(archive)
            archive_read_support_filter_bzip2(archive)
            archive_read_support_filter_xz(archive)
        }
        // "raw": one member that is the decompressed stream itself.
        archive_read_support_format_raw(archive)
        let result = archive_read_open(
            archive, Unmanaged.passUnretained(source).toOpaque(), nil,
            { _, client, block in
                guard let client, let block else { return -1 }
                return Unmanaged<Source>.fromOpaque(client).takeUnretainedValue().next(block)
            }, nil)
        guard result == ARCHIVE_OK else { throw failure() }
        var entry: OpaquePointer?
        switch archive_read_next_header(archive, &entry) {
        case ARCHIVE_OK: break
        case ARCHIVE_EOF: throw ImageError(.invalid, "is empty")
        default: throw failure()
        }
        // The last filter is the "none" that reads our blocks. More than one above it is compression of compressed
        // data, which no tool makes but an attacker.
        guard archive_filter_count(archive) <= 2 else { throw ImageError(.invalid, "is compressed more than once") }
    }

    deinit {
        archive_read_free(archive)
    }

    /// Whether another program decompresses.
    var isHelped: Bool { helper != nil }

    /// How the blob is compressed.
    var compression: Compression {
        if helper != nil { return .gzip }
        return switch archive_filter_code(archive, 0) {
        case ARCHIVE_FILTER_NONE: .none
        case ARCHIVE_FILTER_GZIP: .gzip
        case ARCHIVE_FILTER_ZSTD: .zstd
        default: .other
        }
    }

    enum Compression {
        case none, gzip, zstd
        /// bzip2 or xz, which OCI layers may not use.
        case other
    }

    /// Returns the next bytes, valid until the next call; `nil` at the end.
    func next() throws(ImageError) -> UnsafeRawBufferPointer? {
        var base: UnsafeRawPointer?
        var size = 0
        var offset: Int64 = 0
        switch archive_read_data_block(archive, &base, &size, &offset) {
        case ARCHIVE_OK: break
        case ARCHIVE_EOF: return nil
        default: throw failure()
        }
        let bytes = UnsafeRawBufferPointer(start: base, count: size)
        contentSize += Int64(size)
        let taken = blobSize
        let (product, overflow) = taken.multipliedReportingOverflow(by: limits.ratio)
        guard contentSize <= limits.bytes, overflow || contentSize - limits.slack <= product else {
            throw ImageError(
                .invalid, "\(taken) bytes that unpack to more than \(contentSize): refused as a bomb")
        }
        hash.update(bytes)
        let zeros = bytes.reversed().prefix(BlobStream.mostZeros).prefix { $0 == 0 }.count
        trailingZeros = zeros == bytes.count ? trailingZeros + zeros : zeros
        return bytes
    }

    /// Zero bytes at the end of what has been decompressed, or more than matter: a tar archive ends with 1024, tar(5).
    private(set) var trailingZeros = 0
    private static let mostZeros = 1024

    /// Reads what is left, also what follows the compressed data, and returns the digests of everything.
    func finish() throws(ImageError) -> Totals {
        while try next() != nil {}
        try source.drain()
        if let helper {
            let blob = try helper.finish()
            return Totals(blob: blob.digest, blobSize: blob.size, content: hash.finish(), contentSize: contentSize)
        }
        return Totals(
            blob: source.hash.finish(), blobSize: source.size, content: hash.finish(), contentSize: contentSize)
    }

    private func failure() -> ImageError {
        if let failure = source.failure { return ImageError("read", failure) }
        return ImageError(.invalid, ArchiveMessage.text(archive) ?? "cannot be decompressed")
    }

    /// The file, as libarchive's read callback wants it.
    private final class Source {
        private let file: Descriptor
        private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
        private let takesDigest: Bool
        var hash = SHA256()
        var size: Int64 = 0
        var failure: SystemError?

        init(_ file: consuming Descriptor, takesDigest: Bool = true) {
            self.file = file
            self.takesDigest = takesDigest
        }

        deinit {
            buffer.deallocate()
        }

        func next(_ block: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
            guard let base = buffer.baseAddress else { return -1 }
            let count = zn_read(file.raw, base, buffer.count)
            if count < 0 {
                failure = SystemError("read", "", Errno(rawValue: CInt(truncatingIfNeeded: -count)))
                return -1
            }
            if takesDigest { hash.update(UnsafeRawBufferPointer(start: base, count: count)) }
            size += Int64(count)
            block.pointee = UnsafeRawPointer(base)
            return count
        }

        func drain() throws(ImageError) {
            var block: UnsafeRawPointer?
            while next(&block) > 0 {}
            if let failure { throw ImageError("read", failure) }
        }
    }
}

/// libarchive's own words for what went wrong.
enum ArchiveMessage {
    static func text(_ archive: OpaquePointer) -> String? {
        guard let text = archive_error_string(archive) else { return nil }
        var message = String(cString: text)
        // Their sentences begin with a capital and some end with a full stop; ours do neither.
        if message.hasSuffix(".") { message.removeLast() }
        return message.prefix(1).lowercased() + message.dropFirst()
    }
}
