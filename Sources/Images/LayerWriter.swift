// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Writes a layer's members into its directory.
///
/// The archive is hostile. Every member is made by its last name in a parent that was opened below the layer's own
/// descriptor, never by a path of the host's; the kernel refuses what would lead out.
struct LayerWriter: ~Copyable {
    let layer: LayerDirectory
    /// Whether the layer lies on no other.
    private let isLowest: Bool
    private let marks: LayerMarks
    private let limits: UnpackLimits
    /// Set at the end, as every member made in a directory changes its time.
    private var directoryTimes: [[CChar]: TarEntry.Time] = [:]
    /// The names that whiteouts take away from lower layers.
    private var hidden: [LayerPath] = []
    /// The directories that were made because members lie in them, with their inodes.
    private var implied: [[CChar]: UInt64] = [:]
    private var entries = 0
    /// Whether the layer lists its own root.
    private var hasRoot = false

    init(_ layer: LayerDirectory, isLowest: Bool, _ marks: LayerMarks, limits: UnpackLimits) {
        self.layer = layer
        self.isLowest = isLowest
        self.marks = marks
        self.limits = limits
    }

    /// Makes one member; a regular file's data is taken from `archive`.
    mutating func write(_ entry: TarEntry, from archive: TarReader) throws(ImageError) {
        entries += 1
        guard entries <= limits.entries else {
            throw ImageError(.invalid, "more than \(limits.entries) members: refused as a bomb")
        }
        let path = try LayerPath(entry.path)
        switch try LayerMark(path) {
        case .ignored: break
        case .opaque: try hideAll(path)
        case .whiteout(let name): if !isLowest { hidden.append(path.sibling(name)) }
        case .none:
            switch entry.kind {
            case .directory: try makeDirectory(entry, path)
            case .regular: try makeFile(entry, path, archive)
            case .hardLink: try makeHardLink(entry, path)
            default: try makeNode(entry, path)
            }
        }
    }

    /// Does what can be done only after the last member, and only then looks at the layers that this one lies on: until
    /// here they may be written at the same time.
    mutating func finish(on below: LowerLayers) throws(ImageError) {
        for path in hidden { try hide(path, of: below) }
        for (whole, inode) in implied {
            guard let status = below.directory(LayerPath(splitting: whole)), let directory = try layer.existing(whole)
            else { continue }
            // A later member may have put something else in its place.
            let now = try attempting("unpack") { () throws(SystemError) in try directory.descriptor.stat().inode }
            if now == inode { try setAttributes(of: whole, as: status) }
        }
        if !hasRoot, let status = below.root { try setAttributes(of: LayerPath.root, as: status) }
        for (whole, time) in directoryTimes {
            // A later member may have replaced the directory.
            guard let directory = try layer.existing(whole) else { continue }
            try verify(
                zn_utimensat(directory.raw, "", time.seconds, time.nanoseconds, atEmptyPath), "utimensat",
                LayerPath(splitting: whole))
        }
    }

    // MARK: Members

    private mutating func makeDirectory(_ entry: TarEntry, _ path: LayerPath) throws(ImageError) {
        if path.isRoot {
            hasRoot = true
        } else {
            let parent = try parent(of: path)
            let result = zn_mkdirat(parent.raw, path.name, 0o700)
            if result == -EEXIST {
                if try status(path, in: parent).kind != .directory {
                    try replace(path, in: parent)
                    try verify(zn_mkdirat(parent.raw, path.name, 0o700), "mkdir", path)
                }
            } else {
                try verify(result, "mkdir", path)
            }
        }
        let directory = try layer.open(path.whole)
        try finish(directory.raw, entry, path, setTime: false)
        directoryTimes[path.whole] = entry.time
        implied[path.whole] = nil
    }

    private mutating func makeFile(_ entry: TarEntry, _ path: LayerPath, _ archive: TarReader) throws(ImageError) {
        let parent = try parent(of: path)
        let flags = OpenFlags([.writeOnly, .create, .exclusive, .noFollow, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks])
        let file = Descriptor(
            owning: try make(path, in: parent, "create") {
                zn_openat2(parent.raw, path.name, UInt64(flags.rawValue), 0o600, resolve.rawValue)
            })
        var end: Int64 = 0
        while let (offset, bytes) = try archive.nextData() {
            // A sparse file's pieces come with their places; libarchive leaves it to us that they make sense.
            guard offset >= 0, offset <= entry.size, Int64(bytes.count) <= entry.size - offset else {
                throw ImageError(.invalid, "\(path.shown): data beyond the file's end")
            }
            try write(bytes, at: offset, to: file.raw, path)
            end = max(end, offset + Int64(bytes.count))
        }
        if end < entry.size { try verify(zn_ftruncate(file.raw, Int(entry.size)), "truncate", path) }
        try finish(file.raw, entry, path, setTime: true)
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64, to file: CInt, _ path: LayerPath)
        throws(ImageError)
    {
        guard let base = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            let count = zn_pwrite(file, base + done, bytes.count - done, Int(offset) + done)
            done += Int(try verify(CInt(clamping: count), "write", path))
        }
    }

    private mutating func makeHardLink(_ entry: TarEntry, _ path: LayerPath) throws(ImageError) {
        let target = try LayerPath(entry.link)
        if target == path { throw ImageError(.invalid, "\(path.shown): a hard link to itself") }
        if target.isRoot { throw ImageError(.invalid, "\(path.shown): a hard link to the layer's root") }
        let from = try layer.open(target.parent, for: "\(path.shown): a hard link to \(target.shown), which")
        let parent = try parent(of: path)
        // Not AT_SYMLINK_FOLLOW: a link to a symbolic link is one more name of that link.
        let result = try makeResult(path, in: parent) { zn_linkat(from.raw, target.name, parent.raw, path.name, 0) }
        switch -result {
        case ENOENT:
            throw ImageError(.invalid, "\(path.shown): a hard link to \(target.shown), which is not in this layer")
        case EPERM: throw ImageError(.invalid, "\(path.shown): a hard link to \(target.shown), which is a directory")
        default: try verify(result, "link", path)
        }
    }

    /// Symbolic links, devices and fifos: what has no content and cannot be opened.
    private mutating func makeNode(_ entry: TarEntry, _ path: LayerPath) throws(ImageError) {
        let parent = try parent(of: path)
        switch entry.kind {
        case .symlink:
            guard !entry.link.isEmpty, entry.link.count < PATH_MAX else {
                throw ImageError(.invalid, "\(path.shown): a symbolic link of \(entry.link.count) bytes")
            }
            let target = LayerPath.terminated(entry.link)
            try make(path, in: parent, "symlink") { zn_symlinkat(target, parent.raw, path.name) }
        case .characterDevice, .blockDevice, .fifo:
            let type: mode_t = entry.kind == .fifo ? S_IFIFO : entry.kind == .blockDevice ? S_IFBLK : S_IFCHR
            // Character device 0:0 is overlayfs's whiteout; in a layer of an image it can mean nothing else.
            try make(path, in: parent, "mknod") {
                zn_mknodat(parent.raw, path.name, type | 0o600, entry.major, entry.minor)
            }
        case .regular, .directory, .hardLink: return
        }
        let noFollow = AT_SYMLINK_NOFOLLOW
        try verify(zn_fchownat(parent.raw, path.name, entry.uid, entry.gid, noFollow), "chown", path)
        // The name was made here a moment ago and is no symbolic link, so that nothing is followed.
        if entry.kind != .symlink { try verify(zn_fchmodat(parent.raw, path.name, entry.mode), "chmod", path) }
        for attribute in try kept(entry, path) {
            // There is no call that takes a parent's descriptor; this path leads through one all the same.
            let name = Array("/proc/self/fd/\(parent.raw)/".utf8CString.dropLast()) + path.name
            try set(attribute, path) { zn_lsetxattr(name, attribute.name, attribute.value, attribute.value.count) }
        }
        let time = entry.time
        try verify(zn_utimensat(parent.raw, path.name, time.seconds, time.nanoseconds, noFollow), "utimensat", path)
    }

    /// Owner, mode, attributes and time of an open file or directory, in this order: a change of owner clears set-id
    /// bits and capabilities, and all of them count as changes.
    private func finish(_ file: CInt, _ entry: TarEntry, _ path: LayerPath, setTime: Bool) throws(ImageError) {
        try verify(zn_fchownat(file, "", entry.uid, entry.gid, atEmptyPath), "chown", path)
        try verify(zn_fchmod(file, entry.mode), "chmod", path)
        for attribute in try kept(entry, path) {
            try set(attribute, path) { zn_fsetxattr(file, attribute.name, attribute.value, attribute.value.count) }
        }
        if setTime {
            try verify(
                zn_utimensat(file, "", entry.time.seconds, entry.time.nanoseconds, atEmptyPath), "utimensat", path)
        }
    }

    // MARK: Extended attributes

    /// The attributes that an image may give: those for programs, and file capabilities. Labels of security modules
    /// belong to the host; overlayfs's own would let a layer rewrite how layers are put together.
    private func kept(_ entry: TarEntry, _ path: LayerPath) throws(ImageError) -> [TarEntry.Attribute] {
        var kept: [TarEntry.Attribute] = []
        for attribute in entry.attributes {
            let name = attribute.name
            if name.hasPrefix("trusted.overlay.") || name.hasPrefix("user.overlay.") {
                throw ImageError(.invalid, "\(path.shown): attribute \(attribute.shownName) is overlayfs's own")
            }
            if name.hasPrefix("user.") || name == "security.capability" { kept.append(attribute) }
        }
        return kept
    }

    private func set(_ attribute: TarEntry.Attribute, _ path: LayerPath, _ call: () -> CInt) throws(ImageError) {
        let result = call()
        // user. attributes do not exist on every file system, nor on links and devices; tools lose them there.
        if attribute.name.hasPrefix("user."), result == -EOPNOTSUPP || result == -EPERM { return }
        try verify(result, "setxattr \(attribute.shownName)", path)
    }

    // MARK: Whiteouts

    /// Makes a name of lower layers disappear. What this layer itself has there stays, in whatever order the two came.
    private mutating func hide(_ path: LayerPath, of below: LowerLayers) throws(ImageError) {
        guard below.contains(path) else { return }
        let parent = try parent(of: path)
        if let own = try? status(path, in: parent) {
            guard own.kind == .directory else { return }
            try makeOpaque(try layer.open(path.whole), path)
            // It is another than the one below.
            implied[path.whole] = nil
            return
        }
        try attempting("unpack \(path.shown)") { () throws(SystemError) in
            try marks.hide(path.name, in: parent.descriptor)
        }
    }

    /// Hides what lower layers have in the directory that `path` lies in.
    private mutating func hideAll(_ path: LayerPath) throws(ImageError) {
        let parent = try parent(of: path)
        if !isLowest { try makeOpaque(parent, path) }
    }

    private func makeOpaque(_ directory: LayerDirectory.Handle, _ path: LayerPath) throws(ImageError) {
        try attempting("unpack \(path.shown)") { () throws(SystemError) in try marks.makeOpaque(directory.descriptor) }
    }

    // MARK: Names

    /// Opens the directory that a member lies in; makes those that are missing.
    private mutating func parent(of path: LayerPath) throws(ImageError) -> LayerDirectory.Handle {
        if path.isRoot { throw ImageError(.invalid, "the layer's root is no directory") }
        return try ensure(path.parent)
    }

    private mutating func ensure(_ whole: [CChar]) throws(ImageError) -> LayerDirectory.Handle {
        if let directory = try layer.existing(whole) { return directory }
        let path = LayerPath(splitting: whole)
        // At most as deep as LayerPath allows.
        let parent = try ensure(path.parent)
        let result = zn_mkdirat(parent.raw, path.name, 0o755)
        if result == -EEXIST { return try layer.open(whole) }
        try verify(result, "mkdir", path)
        let directory = try layer.open(whole)
        try verify(zn_fchownat(directory.raw, "", geteuid(), getegid(), atEmptyPath), "chown", path)
        try verify(zn_fchmod(directory.raw, 0o755), "chmod", path)
        if !isLowest {
            implied[whole] = try attempting("unpack") { () throws(SystemError) in
                try directory.descriptor.stat().inode
            }
        }
        return directory
    }

    /// A layer that does not list a directory does not mean to change it: /tmp stays 1777, and its time what it was.
    private mutating func setAttributes(of whole: [CChar], as status: FileStatus) throws(ImageError) {
        let directory = try layer.open(whole)
        let path = LayerPath(splitting: whole)
        try verify(zn_fchownat(directory.raw, "", status.uid, status.gid, atEmptyPath), "chown", path)
        try verify(zn_fchmod(directory.raw, status.mode), "chmod", path)
        let billion: Int64 = 1_000_000_000
        let seconds = status.modified / billion - (status.modified % billion < 0 ? 1 : 0)
        directoryTimes[whole] = .init(seconds: seconds, nanoseconds: status.modified - seconds * billion)
    }

    @discardableResult
    private func make(
        _ path: LayerPath,
        in parent: LayerDirectory.Handle,
        _ operation: String,
        _ call: () -> CInt
    ) throws(ImageError) -> CInt {
        try verify(try makeResult(path, in: parent, call), operation, path)
    }

    /// Makes a name, in place of what an earlier member made there: the later one wins, as with tar.
    private func makeResult(_ path: LayerPath, in parent: LayerDirectory.Handle, _ call: () -> CInt) throws(ImageError)
        -> CInt
    {
        let result = call()
        guard result == -EEXIST else { return result }
        try replace(path, in: parent)
        return call()
    }

    private func replace(_ path: LayerPath, in parent: LayerDirectory.Handle) throws(ImageError) {
        layer.forget()
        try attempting("unpack \(path.shown)") { () throws(SystemError) in
            try parent.descriptor.removeTree(rawName: path.name)
        }
    }

    private func status(_ path: LayerPath, in parent: LayerDirectory.Handle) throws(ImageError) -> FileStatus {
        try attempting("unpack \(path.shown)") { () throws(SystemError) in
            try parent.descriptor.status(rawName: path.name)
        }
    }
}

/// Turns the result of a `zn_` call into a value or an error: the archive's fault where it asks for what no file system
/// has, else the system's.
@discardableResult
func verify(_ result: CInt, _ operation: @autoclosure () -> String, _ path: LayerPath) throws(ImageError) -> CInt {
    if result >= 0 { return result }
    let cause = SystemError(operation(), path.shown, Errno(rawValue: -result))
    switch cause.errno {
    case .nameTooLong, .loop, .crossDevice, .invalid, .notDirectory, .range, .tooBig, Errno(rawValue: EFBIG):
        throw ImageError(.invalid, "cannot be unpacked", cause: cause)
    default: throw ImageError("unpack", cause)
    }
}
