// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem
import OCI

/// Writes trees into a tar archive. Others may be changing them meanwhile: names are opened once, as ``TreeTransfer`` does.
public struct TreeArchiver: ~Copyable {
    private static let maximumDepth = 400

    private let writer: TarWriter
    private let report: (String) -> Void
    /// Files with several names, and their first name in the archive.
    private var linked: [FileNumber: [UInt8]] = [:]
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)
    /// How the tree says what is gone, where it is a layer that becomes one of an image.
    private let marks: LayerMarks?
    private var isLayer: Bool { marks != nil }

    private struct FileNumber: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    /// Writes to a descriptor that stays the caller's. `report` gets lines about what is left out.
    public init(to raw: CInt, report: @escaping (String) -> Void = { _ in }) throws(ImageError) {
        writer = try TarWriter(to: raw)
        self.report = report
        marks = nil
    }

    /// The same for the upper layer of a zone: its marks become those of the image specification, "layer.md".
    init(layerTo raw: CInt, _ marks: LayerMarks) throws(ImageError) {
        writer = try TarWriter(to: raw)
        report = { _ in }
        self.marks = marks
    }

    /// Adds an open file, which may be open for its path only, with all that is below it.
    public mutating func add(_ file: borrowing Descriptor, as name: String) throws(ImageError) {
        try add(file, Array(name.utf8), depth: 0, device: nil)
    }

    /// Ends the archive.
    public consuming func finish() throws(ImageError) {
        _ = try writer.finish()
    }

    /// Ends the archive. Returns the digest and the size of all that was written.
    consuming func finishLayer() throws(ImageError) -> (digest: Digest, size: Int64) {
        try writer.finish()
    }

    private mutating func add(
        _ file: borrowing Descriptor, _ path: [UInt8], depth: Int, device: UInt64?
    ) throws(ImageError) {
        let shown = TarEntry.shown(path)
        let status = try attempting(shown) { () throws(SystemError) in try file.stat() }
        let isKernels = device.map { status.device != $0 && KernelFiles.holds(file) } ?? false
        if isKernels, status.kind != .directory { return }
        var attributes = try attempting(shown) { () throws(SystemError) in try FileAttributes(of: file, status) }
        let isOpaque = isLayer && LayerMarks.isOpaque(attributes.extended)
        if isLayer { try TreeArchiver.verify(path, attributes.extended) }
        attributes.extended.removeAll { !TreeArchiver.isKept($0.name) }
        if status.kind != .directory, status.links > 1 {
            let number = FileNumber(device: status.device, inode: status.inode)
            if let first = linked[number] { return try writer.begin(path, .hardLink, attributes, link: first) }
            linked[number] = path
        }
        switch status.kind {
        case .directory:
            guard depth < TreeArchiver.maximumDepth else {
                throw ImageError(.unsupported, "\(shown): more than \(depth) directories inside one another")
            }
            try writer.begin(path, .directory, attributes)
            if isOpaque { try mark(path, LayerMarks.opaqueName) }
            // Of /proc and its like only the place is kept.
            let names = isKernels ? [] : try attempting(shown) { () throws(SystemError) in try file.rawEntries() }
            for name in names {
                let entry = try attempting(shown) { () throws(SystemError) in try file.openEntry(name) }
                // What vanishes meanwhile is not there.
                guard let entry else { continue }
                let bytes = name.dropLast().map { UInt8(bitPattern: $0) }
                if let marks {
                    // Names that are marks mean the same in the archive.
                    if marks.meaning(of: name) != .itself {
                        try mark(path, bytes)
                        continue
                    }
                    if (try? entry.stat()).map(LayerMarks.isWhiteout) == true {
                        try mark(path, LayerMarks.prefix + bytes)
                        continue
                    }
                }
                let below = path + [UInt8(ascii: "/")] + bytes
                try add(entry, below, depth: depth + 1, device: status.device)
            }
        case .regular:
            let content = try attempting(shown) { () throws(SystemError) in try file.reopen([.readOnly]) }
            try writer.begin(path, .regular, attributes, size: status.size)
            try writeContent(content, size: status.size, shown)
        case .symlink:
            let text = try attempting(shown) { () throws(SystemError) in try file.linkText() }
            try writer.begin(path, .symlink, attributes, link: text.dropLast().map { UInt8(bitPattern: $0) })
        case .fifo: try writer.begin(path, .fifo, attributes)
        case .characterDevice:
            try writer.begin(path, .characterDevice, attributes, major: status.major, minor: status.minor)
        case .blockDevice:
            try writer.begin(path, .blockDevice, attributes, major: status.major, minor: status.minor)
        case .socket: report("\(shown) is left out: a socket")
        }
    }

    /// Attributes that mean the same elsewhere; as unpacking takes them.
    private static func isKept(_ name: String) -> Bool {
        name.hasPrefix("user.") && !name.hasPrefix("user.overlay.") || name == "security.capability"
    }

    /// Adds the empty file that says something about its folder.
    private func mark(_ folder: [UInt8], _ name: [UInt8]) throws(ImageError) {
        let attributes = FileAttributes(mode: 0o644, uid: 0, gid: 0, seconds: 0, nanoseconds: 0, extended: [])
        try writer.begin(folder + [UInt8(ascii: "/")] + name, .regular, attributes)
    }

    /// As many bytes as the header has promised: a file that grows is cut there, one that shrinks is filled with zeros.
    private mutating func writeContent(
        _ file: borrowing Descriptor, size: Int64, _ shown: String
    ) throws(ImageError) {
        var place: Int64 = 0
        var isOver = false
        while place < size {
            let wanted = Int(min(Int64(buffer.count), size - place))
            var count = 0
            if !isOver {
                let result = buffer.withUnsafeMutableBytes { bytes in
                    bytes.baseAddress.map { zn_pread(file.raw, $0, wanted, Int(place)) } ?? 0
                }
                count = Int(try attempting(shown) { () throws(SystemError) in try check(result, "read") })
            }
            if count == 0 {
                isOver = true
                count = wanted
                for index in 0..<wanted { buffer[index] = 0 }
            }
            let bytes = buffer.prefix(count)
            var failure: ImageError?
            bytes.withUnsafeBytes { bytes in
                do throws(ImageError) { try writer.write(bytes) } catch { failure = error }
            }
            if let failure { throw failure }
            place += Int64(count)
        }
    }

    /// Refuses what a layer of an image cannot say.
    private static func verify(_ path: [UInt8], _ attributes: [ExtendedAttribute]) throws(ImageError) {
        func has(_ name: String) -> Bool {
            attributes.contains { $0.name == "trusted.overlay.\(name)" || $0.name == "user.overlay.\(name)" }
        }
        if has("redirect") || has("metacopy") {
            throw ImageError(
                .unsupported,
                "\(TarEntry.shown(path)): overlayfs has noted here only what differs from the image (redirect_dir, metacopy)"
            )
        }
        let slash = path.lastIndex(of: UInt8(ascii: "/"))
        if path[(slash.map { $0 + 1 } ?? 0)...].starts(with: LayerMarks.prefix) {
            throw ImageError(
                .unsupported, "\(TarEntry.shown(path)): to an image this name means that something is gone")
        }
    }
}
