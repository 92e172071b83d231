// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CArchive
import CLinux
import Glibc
import LinuxSystem
import OCI

/// Writes the members of a tar archive, in the pax form where the old one has no room, and takes its digest.
final class TarWriter {
    private let archive: OpaquePointer
    private let sink: Sink

    /// Writes to a descriptor that stays the caller's.
    init(to raw: CInt) throws(ImageError) {
        guard let archive = archive_write_new() else { throw ImageError(.system, "no memory for libarchive") }
        self.archive = archive
        sink = Sink(raw)
        archive_write_set_format_pax_restricted(archive)
        archive_write_add_filter_none(archive)
        // The form that tar(1) and other engines read; the default writes each attribute twice.
        archive_write_set_format_option(archive, "pax", "xattrheader", "SCHILY")
        let result = archive_write_open(
            archive, Unmanaged.passUnretained(sink).toOpaque(), nil,
            { _, client, bytes, count in
                guard let client, let bytes else { return -1 }
                return Unmanaged<Sink>.fromOpaque(client).takeUnretainedValue().write(bytes, count)
            }, nil)
        guard result == ARCHIVE_OK else { throw failure() }
    }

    deinit {
        archive_write_free(archive)
    }

    /// Begins a member; `size` bytes of data follow for a regular file.
    func begin(
        _ path: [UInt8], _ kind: TarEntry.Kind, _ attributes: FileAttributes, size: Int64 = 0, link: [UInt8] = [],
        major: UInt32 = 0, minor: UInt32 = 0
    ) throws(ImageError) {
        guard let entry = archive_entry_new2(archive) else { throw ImageError(.system, "no memory for libarchive") }
        defer { archive_entry_free(entry) }
        TarWriter.withText(path) { archive_entry_set_pathname(entry, $0) }
        let type: UInt32 =
            switch kind {
            case .directory: S_IFDIR
            case .symlink: S_IFLNK
            case .characterDevice: S_IFCHR
            case .blockDevice: S_IFBLK
            case .fifo: S_IFIFO
            case .regular, .hardLink: S_IFREG
            }
        archive_entry_set_filetype(entry, type)
        archive_entry_set_perm(entry, mode_t(attributes.mode))
        archive_entry_set_uid(entry, la_int64_t(attributes.uid))
        archive_entry_set_gid(entry, la_int64_t(attributes.gid))
        archive_entry_set_mtime(entry, Int(attributes.seconds), Int(attributes.nanoseconds))
        archive_entry_set_size(entry, size)
        switch kind {
        case .symlink: TarWriter.withText(link) { archive_entry_set_symlink(entry, $0) }
        case .hardLink: TarWriter.withText(link) { archive_entry_set_hardlink(entry, $0) }
        case .characterDevice, .blockDevice:
            archive_entry_set_rdevmajor(entry, dev_t(major))
            archive_entry_set_rdevminor(entry, dev_t(minor))
        case .regular, .directory, .fifo: break
        }
        for attribute in attributes.extended {
            attribute.value.withUnsafeBytes { bytes in
                archive_entry_xattr_add_entry(entry, attribute.name, bytes.baseAddress, bytes.count)
            }
        }
        let result = archive_write_header(archive, entry)
        // A warning: a name that is no UTF-8 goes in as its bytes, which is what we want.
        guard result == ARCHIVE_OK || result == ARCHIVE_WARN else { throw failure() }
    }

    /// Writes the next bytes of the member's data.
    func write(_ bytes: UnsafeRawBufferPointer) throws(ImageError) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        guard archive_write_data(archive, base, bytes.count) == bytes.count else { throw failure() }
    }

    /// Ends the archive. Returns the digest and the size of all that was written.
    func finish() throws(ImageError) -> (digest: Digest, size: Int64) {
        guard archive_write_close(archive) == ARCHIVE_OK else { throw failure() }
        return (sink.hash.finish(), sink.size)
    }

    private func failure() -> ImageError {
        if let failure = sink.failure { return ImageError("write the archive", failure) }
        return ImageError(
            .system, "write the archive: \(ArchiveMessage.text(archive) ?? "libarchive does not say why")")
    }

    private static func withText(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Void) {
        let text = bytes.map { CChar(bitPattern: $0) } + [0]
        text.withUnsafeBufferPointer { if let base = $0.baseAddress { body(base) } }
    }

    /// Where libarchive's blocks go.
    private final class Sink {
        private let raw: CInt
        var hash = SHA256()
        var size: Int64 = 0
        var failure: SystemError?

        init(_ raw: CInt) {
            self.raw = raw
        }

        func write(_ bytes: UnsafeRawPointer, _ count: Int) -> Int {
            let written = zn_write(raw, bytes, count)
            if written < 0 {
                failure = SystemError("write", "", Errno(rawValue: CInt(truncatingIfNeeded: -written)))
                return -1
            }
            hash.update(UnsafeRawBufferPointer(start: bytes, count: written))
            size += Int64(written)
            return written
        }
    }
}
