// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// Copies trees between directories that others may be changing meanwhile, with what a ``CopyPolicy`` keeps.
///
/// Each name is opened once, without following links and without opening what it is (`O_PATH`); only what is known to be
/// a regular file or a directory is opened then, by that very descriptor. So neither a link nor a device that is put in
/// a file's place does anything.
public struct TreeTransfer: ~Copyable {
    /// Directories inside one another; each level holds two descriptors.
    private static let maximumDepth = 400

    private let policy: CopyPolicy
    private let maker: EntryMaker
    /// Gets lines about what was left out.
    private let report: (String) -> Void
    private var content = FileContent()
    /// Files with several names, by their numbers in the source, and where they are in the copy.
    private var linked: [FileNumber: [CChar]] = [:]
    /// The directory below which hard links are found again.
    private var top: CInt = -1
    /// The first directory of the copy: where it lies in what is copied, it is not copied into itself without end.
    private var beginning: FileNumber?

    private struct FileNumber: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    public init(_ policy: CopyPolicy, report: @escaping (String) -> Void = { _ in }) {
        self.policy = policy
        maker = EntryMaker(policy)
        self.report = report
    }

    /// Copies an open file, which may be open for its path only, under a name that ends with a NUL.
    public mutating func copy(
        _ entry: borrowing Descriptor, to parent: borrowing Descriptor, as name: [CChar]
    ) throws(SystemError) {
        top = parent.raw
        linked = [:]
        beginning = nil
        try copy(entry, to: parent, name, path: [], depth: 0, device: nil)
    }

    /// Copies what a directory holds into another one.
    public mutating func copyContent(
        of source: borrowing Descriptor, to target: borrowing Descriptor
    ) throws(SystemError) {
        top = target.raw
        linked = [:]
        let status = try target.stat()
        beginning = FileNumber(device: status.device, inode: status.inode)
        try copyContent(of: source, to: target, path: [], depth: 0, device: try source.stat().device)
    }

    /// `path` is that of the target below ``top``; empty or with a slash at its end.
    private mutating func copyContent(
        of source: borrowing Descriptor, to target: borrowing Descriptor, path: [CChar], depth: Int, device: UInt64
    ) throws(SystemError) {
        guard depth < TreeTransfer.maximumDepth else { throw SystemError("copy", shown(path, []), .loop) }
        for name in try source.rawEntries() {
            // What vanishes meanwhile is not there.
            guard let entry = try source.openEntry(name) else { continue }
            if try isTaken(name, entry, in: target) { continue }
            try copy(entry, to: target, name, path: path, depth: depth, device: device)
        }
    }

    /// Takes away what a mark of a layer's hides. `true`: the mark itself is not copied.
    private func isTaken(
        _ name: [CChar], _ entry: borrowing Descriptor, in target: borrowing Descriptor
    ) throws(SystemError) -> Bool {
        guard let marks = policy.layerMarks else { return false }
        switch marks.meaning(of: name) {
        case .itself:
            guard policy.flattens, LayerMarks.isWhiteout(try entry.stat()) else { return false }
            try target.removeTree(rawName: name)
        case .hides(let hidden): try target.removeTree(rawName: hidden)
        case .opaque: break
        }
        return policy.flattens
    }

    private mutating func copy(
        _ entry: borrowing Descriptor, to parent: borrowing Descriptor, _ name: [CChar], path: [CChar], depth: Int,
        device: UInt64?
    ) throws(SystemError) {
        let status = try entry.stat()
        let isKernels = device.map { status.device != $0 && KernelFiles.holds(entry) } ?? false
        if isKernels, status.kind != .directory { return }
        let number = FileNumber(device: status.device, inode: status.inode)
        if number == beginning { return }
        do throws(SystemError) {
            let wasHidden = try clear(name, in: parent, for: entry, status.kind)
            if status.kind != .directory, status.links > 1 {
                if let first = linked[number], try link(name, to: first, in: parent) { return }
                linked[number] = path + name
            }
            var attributes = try FileAttributes(of: entry, status)
            if policy.flattens {
                if attributes.extended.contains(where: LayerMarks.isReference) {
                    throw SystemError(
                        "copy",
                        "\(shown(path, name)): overlayfs has left what belongs here elsewhere (redirect_dir, metacopy)",
                        .notSupported)
                }
                attributes.extended.removeAll(where: LayerMarks.isOverlayfs)
            }
            switch status.kind {
            case .directory:
                let directory = try maker.directory(name, in: parent)
                if beginning == nil {
                    let made = try directory.file.stat()
                    beginning = FileNumber(device: made.device, inode: made.inode)
                }
                // Of /proc and its like only the place is kept.
                if !isKernels {
                    try copyContent(
                        of: entry, to: directory.file, path: path + name.dropLast() + [slash], depth: depth + 1,
                        device: status.device)
                }
                if wasHidden, !policy.flattens { try policy.layerMarks?.makeOpaque(directory.file) }
                if directory.isNew || policy.layerMarks != nil {
                    try maker.set(attributes, of: directory.file, .directory, name)
                }
            case .regular where policy.sharesFiles && maker.hardLink(name, toOpen: entry, in: parent): break
            case .regular:
                let from = try entry.reopen([.readOnly])
                let made = try maker.file(name, in: parent)
                do throws(SystemError) { try content.copy(from.raw, to: made.file.raw, size: status.size) } catch {
                    maker.discard(made, in: parent)
                    throw error
                }
                try maker.finish(made, attributes, .regular, in: parent)
            case .symlink:
                let made = try maker.symlink(name, to: try entry.linkText(), in: parent)
                try maker.finish(made, attributes, .symlink, in: parent)
            case .fifo, .socket, .characterDevice, .blockDevice:
                if !policy.makesNodes, status.kind != .fifo {
                    report("\(shown(path, name)) is left out: a \(status.kind == .socket ? "socket" : "device node")")
                    return
                }
                let made = try maker.node(name, status.kind, major: status.major, minor: status.minor, in: parent)
                try maker.finish(made, attributes, status.kind, in: parent)
            }
        } catch {
            // The innermost name is in the error; the first that has a path makes it whole.
            throw error.subject.contains("/") ? error : error.during(error.operation, shown(path, name))
        }
    }

    /// Removes a directory that a layer replaces by something else, or by one through which nothing shows, and the mark that
    /// the name was gone. `true`: there was that mark, and what it has hidden must not show through a directory now.
    private func clear(
        _ name: [CChar], in parent: borrowing Descriptor, for entry: borrowing Descriptor, _ kind: FileStatus.Kind
    ) throws(SystemError) -> Bool {
        guard let marks = policy.layerMarks else { return false }
        var wasHidden = false
        if case .names = marks, marks.meaning(of: name) == .itself {
            wasHidden = zn_unlinkat(parent.raw, LayerMarks.file(hiding: name), 0) >= 0
        }
        guard let found = try parent.openEntry(name) else { return wasHidden }
        let status = try found.stat()
        if LayerMarks.isWhiteout(status) { return true }
        guard status.kind == .directory else { return wasHidden }
        let replaces = kind == .directory ? try marks.isOpaque(entry) : true
        if replaces { try parent.removeTree(rawName: name) }
        return wasHidden
    }

    private mutating func link(
        _ name: [CChar], to first: [CChar], in parent: borrowing Descriptor
    ) throws(SystemError) -> Bool {
        // The folder is looked up without links: who changes the target meanwhile gets no file of another's linked there.
        let end = first.lastIndex(of: slash)
        let folder: [CChar] = end.map { first[..<$0] + [0] } ?? [CChar(bitPattern: UInt8(ascii: ".")), 0]
        let last: [CChar] = end.map { Array(first[($0 + 1)...]) } ?? first
        let flags = OpenFlags([.path, .directory, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks])
        let raw = zn_openat2(top, folder, UInt64(flags.rawValue), 0, resolve.rawValue)
        if raw < 0 { return false }
        return try maker.hardLink(name, to: last, of: Descriptor(owning: raw), in: parent)
    }

    private let slash = CChar(bitPattern: UInt8(ascii: "/"))

    private func shown(_ path: [CChar], _ name: [CChar]) -> String {
        "/" + (path + name).shown
    }
}

extension Descriptor {
    /// The text of a symbolic link that is open for its path only, with a NUL at its end.
    public func linkText() throws(SystemError) -> [CChar] {
        var text = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = try check(zn_readlinkat(raw, "", &text, text.count - 1), "readlink")
        return text[..<count] + [0]
    }
}

/// File systems whose files the kernel makes up: nothing of them is copied with the tree that they are mounted in.
public enum KernelFiles {
    /// proc, sysfs, control groups of both versions, mqueue, devpts, securityfs, debugfs, tracefs, bpf: statfs(2).
    private static let magics: [Int64] = [
        0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1980_0202, 0x1cd1, 0x7363_6673, 0x6462_6720, 0x7472_6163,
        0xcafe_4a11,
    ]

    /// Whether an open file is on such a file system.
    public static func holds(_ file: borrowing Descriptor) -> Bool {
        var magic: Int64 = 0
        return zn_fstatfs_magic(file.raw, &magic) >= 0 && magics.contains(magic)
    }
}
