// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CArchive
import CLinux
import Glibc
import OCI

/// One member of a tar archive, as the archive says it: nothing is checked but that numbers are in range.
struct TarEntry {
    enum Kind {
        case regular, directory, symlink, hardLink, characterDevice, blockDevice, fifo
    }

    let kind: Kind
    /// Any bytes but NUL, at which libarchive ends every name.
    let path: [UInt8]
    /// The target of a symbolic or hard link.
    let link: [UInt8]
    let mode: UInt32
    let uid: UInt32
    let gid: UInt32
    let size: Int64
    let time: Time
    let major: UInt32
    let minor: UInt32
    let attributes: [Attribute]

    struct Time {
        let seconds: Int64
        let nanoseconds: Int64
    }

    struct Attribute {
        let name: String
        let value: [UInt8]

        var shownName: String { TarEntry.shown(Array(name.utf8)) }
    }

    /// The path for people: unprintable bytes are replaced, so that no archive writes to a terminal.
    var shownPath: String { TarEntry.shown(path) }

    static func shown(_ path: [UInt8]) -> String {
        let text = String(decoding: path.prefix(512), as: UTF8.self)
        return String(
            String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
    }
}

/// Reads the members of a tar archive out of a stream of bytes: the old, ustar, GNU and pax forms.
final class TarReader {
    let stream: BlobStream
    private let archive: OpaquePointer
    private let limits: UnpackLimits
    private var failure: ImageError?
    /// Bytes given out since the last member's data ended: headers.
    private var headerBytes = 0
    private var isInHeader = true

    init(_ stream: BlobStream, limits: UnpackLimits) throws(ImageError) {
        guard let archive = archive_read_new() else { throw ImageError(.system, "no memory for libarchive") }
        self.archive = archive
        self.stream = stream
        self.limits = limits
        archive_read_support_format_tar(archive)
        // Self is unretained: the callback runs only inside calls that this object makes.
        let result = archive_read_open(
            archive, Unmanaged.passUnretained(self).toOpaque(), nil,
            { _, client, block in
                guard let client, let block else { return -1 }
                return Unmanaged<TarReader>.fromOpaque(client).takeUnretainedValue().feed(block)
            }, nil)
        guard result == ARCHIVE_OK else { throw error() }
    }

    deinit {
        archive_read_free(archive)
    }

    private func feed(_ block: UnsafeMutablePointer<UnsafeRawPointer?>) -> Int {
        do throws(ImageError) {
            guard let bytes = try stream.next() else { return 0 }
            if isInHeader {
                headerBytes += bytes.count
                // libarchive keeps lists (sparse maps, attributes) that grow with the header.
                guard headerBytes <= limits.header else {
                    throw ImageError(.invalid, "a header of more than \(limits.header >> 20) MiB")
                }
            }
            block.pointee = bytes.baseAddress
            return bytes.count
        } catch {
            failure = error
            return -1
        }
    }

    /// Returns the next member, `nil` at the archive's end. Data of the last one that was not read is skipped.
    func next() throws(ImageError) -> TarEntry? {
        // Skipped data must not count as header.
        while try nextData() != nil {}
        isInHeader = true
        headerBytes = 0
        defer { isInHeader = false }
        var entry: OpaquePointer?
        switch archive_read_next_header(archive, &entry) {
        case ARCHIVE_OK: break
        case ARCHIVE_EOF: return nil
        case ARCHIVE_WARN:
            // Outside a UTF-8 locale libarchive cannot convert a pax name and keeps its bytes, which is what we want.
            // Every other warning is about a header that says something odd.
            guard let text = archive_error_string(archive), strstr(text, "can't be converted") != nil else {
                throw error()
            }
        default: throw error()
        }
        guard let entry else { throw error() }
        hasData = true
        return try read(entry)
    }

    /// Whether a member's data may be asked for.
    private var hasData = false

    /// Returns the member's next bytes and where in the file they belong, valid until the next call; `nil` at its end.
    func nextData() throws(ImageError) -> (offset: Int64, bytes: UnsafeRawBufferPointer)? {
        guard hasData else { return nil }
        var base: UnsafeRawPointer?
        var size = 0
        var offset: Int64 = 0
        switch archive_read_data_block(archive, &base, &size, &offset) {
        case ARCHIVE_OK: return (offset, UnsafeRawBufferPointer(start: base, count: size))
        case ARCHIVE_EOF:
            hasData = false
            return nil
        default: throw error()
        }
    }

    private func error() -> ImageError {
        failure ?? ImageError(.invalid, ArchiveMessage.text(archive) ?? "no tar archive")
    }

    private func read(_ entry: OpaquePointer) throws(ImageError) -> TarEntry {
        let path = bytes(archive_entry_pathname(entry))
        func refuse(_ reason: String) -> ImageError { ImageError(.invalid, "\(TarEntry.shown(path)): \(reason)") }

        let kind: TarEntry.Kind
        var link: [UInt8] = []
        if let target = archive_entry_hardlink(entry) {
            kind = .hardLink
            link = bytes(target)
        } else {
            switch UInt32(archive_entry_filetype(entry)) {
            case S_IFREG: kind = .regular
            case S_IFDIR: kind = .directory
            case S_IFCHR: kind = .characterDevice
            case S_IFBLK: kind = .blockDevice
            case S_IFIFO: kind = .fifo
            case S_IFLNK:
                kind = .symlink
                link = bytes(archive_entry_symlink(entry))
            default: throw refuse("neither file, directory, link nor device")
            }
        }
        // The highest number means "leave it" to chown(2).
        guard let uid = UInt32(exactly: archive_entry_uid(entry)), uid < .max,
            let gid = UInt32(exactly: archive_entry_gid(entry)), gid < .max
        else { throw refuse("owner \(archive_entry_uid(entry)):\(archive_entry_gid(entry)) is out of range") }
        let size = archive_entry_size(entry)
        guard (0...limits.fileSize).contains(size) else { throw refuse("size \(size) is out of range") }
        // The kernel's own bounds, 12 and 20 bits; see makedev(3) and mknod(2).
        let (major, minor) = (archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry))
        guard major < 1 << 12, minor < 1 << 20 else { throw refuse("device \(major):\(minor) is out of range") }
        return TarEntry(
            kind: kind, path: path, link: link, mode: UInt32(archive_entry_perm(entry)) & 0o7777, uid: uid, gid: gid,
            size: size,
            time: .init(
                seconds: Int64(archive_entry_mtime(entry)), nanoseconds: Int64(archive_entry_mtime_nsec(entry))),
            major: UInt32(major), minor: UInt32(minor), attributes: attributes(entry))
    }

    private func attributes(_ entry: OpaquePointer) -> [TarEntry.Attribute] {
        var result: [TarEntry.Attribute] = []
        archive_entry_xattr_reset(entry)
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK {
            guard let name else { continue }
            let bytes = UnsafeRawBufferPointer(start: value, count: value == nil ? 0 : size)
            result.append(.init(name: String(cString: name), value: Array(bytes)))
        }
        return result
    }

    private func bytes(_ text: UnsafePointer<CChar>?) -> [UInt8] {
        guard let text else { return [] }
        return Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }
}
