// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// What copies of files keep of the originals, and what they may replace.
public struct CopyPolicy: Sendable {
    /// Whose the copies are; `nil`: as in the source, with what goes with an owner: set-id bits and file capabilities.
    public var owner: (uid: UInt32, gid: UInt32)?
    /// Every extended attribute is kept, overlayfs's own too, and one that cannot be is an error.
    public var keepsAllAttributes = false
    /// Whether names in the target may be taken: directories are gone into, files are replaced.
    public var merges = true
    /// Whether device nodes and sockets are made.
    public var makesNodes = false
    /// The marks of a layer that is put upon what is there, so that the result stands for both: what it replaces or hides
    /// goes, whatever it was. `nil`: no layer.
    public var layerMarks: LayerMarks?
    /// Whether the result of that lies on nothing else, and needs no marks of its own.
    public var flattens = false
    /// Whether regular files become second names of those that are copied, where that can be: the source is to go.
    public var sharesFiles = false

    public init() {}

    /// A layer upon another one: an overlay's upper layer, or an image's.
    public static func layer(_ marks: LayerMarks, flattens: Bool = false) -> CopyPolicy {
        var policy = exact
        policy.merges = true
        policy.layerMarks = marks
        policy.flattens = flattens
        return policy
    }

    /// A tree as it is, overlayfs's marks included, into a place where nothing is yet.
    public static var exact: CopyPolicy {
        var policy = CopyPolicy()
        policy.keepsAllAttributes = true
        policy.merges = false
        policy.makesNodes = true
        return policy
    }
}

/// An extended attribute, xattr(7).
public struct ExtendedAttribute: Sendable, Equatable {
    public let name: String
    public let value: [UInt8]

    public init(name: String, value: [UInt8]) {
        self.name = name
        self.value = value
    }
}

/// Owner, mode, time and extended attributes of a file.
public struct FileAttributes: Sendable, Equatable {
    /// Permission bits, set-id bits and sticky bit.
    public var mode: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// Of the last change, since 1970.
    public var seconds: Int64
    public var nanoseconds: Int64
    public var extended: [ExtendedAttribute]

    public init(
        mode: UInt32, uid: UInt32, gid: UInt32, seconds: Int64, nanoseconds: Int64, extended: [ExtendedAttribute]
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.seconds = seconds
        self.nanoseconds = nanoseconds
        self.extended = extended
    }

    /// Reads those of an open file, which may be open for its path only.
    public init(of file: borrowing Descriptor, _ status: FileStatus) throws(SystemError) {
        // Rounded down: before 1970 times are negative.
        let seconds = status.modified >= 0 ? status.modified / 1_000_000_000 : (status.modified + 1) / 1_000_000_000 - 1
        self.init(
            mode: status.mode, uid: status.uid, gid: status.gid, seconds: seconds,
            nanoseconds: status.modified - seconds * 1_000_000_000, extended: try file.extendedAttributes())
    }
}

extension Descriptor {
    /// Opens what a name in this directory is, without following a link or doing anything with it (`O_PATH`); `nil`
    /// where nothing has the name any more. The name ends with a NUL.
    public func openEntry(_ name: [CChar]) throws(SystemError) -> Descriptor? {
        let flags = OpenFlags([.path, .noFollow, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks, .noMagicLinks])
        let raw = zn_openat2(self.raw, name, UInt64(flags.rawValue), 0, resolve.rawValue)
        if raw == -ENOENT { return nil }
        return Descriptor(owning: try check(raw, "open", name.shown))
    }

    /// Opens the very file that is open already, for reading or writing it. For regular files and directories only:
    /// opening a device does something.
    public func reopen(_ flags: OpenFlags) throws(SystemError) -> Descriptor {
        let all = flags.union([.closeOnExec, .nonBlocking, .noControllingTerminal])
        return Descriptor(owning: try check(zn_openat(AT_FDCWD, procPath, all.rawValue, 0), "open"))
    }

    /// Where calls find this file that take paths only.
    var procPath: String { "/proc/self/fd/\(raw)" }

    /// All extended attributes that the caller may see.
    public func extendedAttributes() throws(SystemError) -> [ExtendedAttribute] {
        let path = procPath
        let size = zn_listxattr(path, nil, 0)
        if size == 0 || size == -Int(EOPNOTSUPP) { return [] }
        // They may become more between the two calls.
        var names = [CChar](repeating: 0, count: try check(size, "listxattr") + 4096)
        let listed = try check(zn_listxattr(path, &names, names.count), "listxattr")
        var result: [ExtendedAttribute] = []
        // As long as the kernel lets them be, xattr(7).
        var value = [UInt8](repeating: 0, count: 64 << 10)
        for bytes in names[..<listed].split(separator: 0) {
            let name = String(decoding: bytes.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let length = zn_getxattr(path, name, &value, value.count)
            if length == -Int(ENODATA) { continue }
            result.append(.init(name: name, value: Array(value[..<(try check(length, "getxattr", name))])))
        }
        return result
    }
}

extension [CChar] {
    /// A name that ends with a NUL, for people.
    public var shown: String {
        String(decoding: prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Makes files in directories that somebody else may be changing at the same time, one name at a time: no link is
/// followed, and what has a name already is replaced by rename.
public struct EntryMaker: Sendable {
    let policy: CopyPolicy

    public init(_ policy: CopyPolicy) {
        self.policy = policy
    }

    /// An entry that was made and is not finished.
    public struct Made: ~Copyable {
        /// Open for writing, or, of what has no content, for its path only.
        public let file: Descriptor
        let name: [CChar]
        /// The name that it has until it is finished, where ``name`` was taken.
        let temporary: [CChar]?
    }

    /// A directory to put things into. `isNew`: its attributes are for the caller to set, when all is in it.
    public struct Directory: ~Copyable {
        public let file: Descriptor
        public let isNew: Bool
    }

    /// Opens the directory of this name; makes it where there is none.
    public func directory(_ name: [CChar], in parent: borrowing Descriptor) throws(SystemError) -> Directory {
        var result = zn_mkdirat(parent.raw, name, 0o700)
        if result == -EEXIST, policy.merges {
            if let found = try parent.openEntry(name), try found.stat().kind == .directory {
                return Directory(file: found, isNew: false)
            }
            try remove(name, in: parent)
            result = zn_mkdirat(parent.raw, name, 0o700)
        }
        try check(result, "mkdir", name.shown)
        guard let made = try parent.openEntry(name), try made.stat().kind == .directory else {
            throw SystemError("mkdir", name.shown, .noEntry)
        }
        return Directory(file: made, isNew: true)
    }

    /// Makes an empty regular file.
    public func file(_ name: [CChar], in parent: borrowing Descriptor) throws(SystemError) -> Made {
        let flags = OpenFlags([.writeOnly, .create, .exclusive, .noFollow, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks])
        var raw: CInt = -1
        let temporary = try make(name, in: parent, "create") { name in
            raw = zn_openat2(parent.raw, name, UInt64(flags.rawValue), 0o600, resolve.rawValue)
            return raw
        }
        return Made(file: Descriptor(owning: raw), name: name, temporary: temporary)
    }

    /// Makes a symbolic link; `text` ends with a NUL.
    public func symlink(_ name: [CChar], to text: [CChar], in parent: borrowing Descriptor) throws(SystemError) -> Made
    {
        let temporary = try make(name, in: parent, "symlink") { zn_symlinkat(text, parent.raw, $0) }
        return try opened(name, temporary, in: parent)
    }

    /// Makes a fifo, a socket or a device node.
    public func node(
        _ name: [CChar], _ kind: FileStatus.Kind, major: UInt32, minor: UInt32, in parent: borrowing Descriptor
    ) throws(SystemError) -> Made {
        let type: mode_t =
            switch kind {
            case .characterDevice: S_IFCHR
            case .blockDevice: S_IFBLK
            case .socket: S_IFSOCK
            default: S_IFIFO
            }
        let temporary = try make(name, in: parent, "mknod") { zn_mknodat(parent.raw, $0, type | 0o600, major, minor) }
        return try opened(name, temporary, in: parent)
    }

    /// Makes a second name of a file; `false` where that cannot be, and the file is to be copied once more.
    public func hardLink(
        _ name: [CChar], to target: [CChar], of folder: borrowing Descriptor, in parent: borrowing Descriptor
    ) throws(SystemError) -> Bool {
        var isGone = false
        let temporary = try make(name, in: parent, "link") { name in
            let result = zn_linkat(folder.raw, target, parent.raw, name, 0)
            isGone = result == -ENOENT || result == -EXDEV || result == -EMLINK || result == -EPERM
            return isGone ? 0 : result
        }
        if isGone { return false }
        if let temporary {
            try settle(temporary, name, in: parent)
            // Where both names are of one file already, rename(2) leaves both.
            _ = zn_unlinkat(parent.raw, temporary, 0)
        }
        return true
    }

    /// Makes a second name of an open file, which may be open for its path only; `false` where that cannot be.
    func hardLink(_ name: [CChar], toOpen file: borrowing Descriptor, in parent: borrowing Descriptor) -> Bool {
        let follow: CInt = 0x400  // AT_SYMLINK_FOLLOW
        var result = zn_linkat(AT_FDCWD, file.procPath, parent.raw, name, follow)
        if result == -EEXIST, policy.merges, zn_unlinkat(parent.raw, name, 0) >= 0 {
            result = zn_linkat(AT_FDCWD, file.procPath, parent.raw, name, follow)
        }
        return result >= 0
    }

    /// Sets the attributes and gives the entry its name.
    public func finish(
        _ made: borrowing Made, _ attributes: FileAttributes, _ kind: FileStatus.Kind, in parent: borrowing Descriptor
    ) throws(SystemError) {
        do throws(SystemError) {
            try set(attributes, of: made.file, kind, made.name)
            guard let temporary = made.temporary else { return }
            if zn_renameat2(parent.raw, temporary, parent.raw, made.name, 0) >= 0 { return }
            try settle(temporary, made.name, in: parent)
        } catch {
            discard(made, in: parent)
            throw error
        }
    }

    /// Removes what is not to be finished.
    public func discard(_ made: borrowing Made, in parent: borrowing Descriptor) {
        _ = zn_unlinkat(parent.raw, made.temporary ?? made.name, 0)
    }

    /// Sets owner, attributes, mode and time, in this order: a change of owner clears set-id bits and capabilities, and
    /// each of them counts as a change.
    public func set(
        _ attributes: FileAttributes, of file: borrowing Descriptor, _ kind: FileStatus.Kind, _ name: [CChar]
    ) throws(SystemError) {
        let owner = policy.owner ?? (attributes.uid, attributes.gid)
        try check(zn_fchownat(file.raw, "", owner.uid, owner.gid, atEmptyPath), "chown", name.shown)
        let path = file.procPath
        for attribute in attributes.extended where keeps(attribute) {
            let result = zn_setxattr(path, attribute.name, attribute.value, attribute.value.count)
            if result < 0, !policy.keepsAllAttributes { continue }
            try check(result, "setxattr \(attribute.name)", name.shown)
        }
        if kind != .symlink {
            let mode = policy.owner == nil ? attributes.mode : attributes.mode & (kind == .directory ? 0o1777 : 0o777)
            try check(zn_fchmodat(AT_FDCWD, path, mode), "chmod", name.shown)
        }
        try check(
            zn_utimensat(file.raw, "", attributes.seconds, attributes.nanoseconds, atEmptyPath), "utimensat", name.shown
        )
    }

    private func keeps(_ attribute: ExtendedAttribute) -> Bool {
        if policy.keepsAllAttributes || attribute.name.hasPrefix("user.") { return true }
        return policy.owner == nil
            && (attribute.name == "security.capability" || attribute.name.hasPrefix("system.posix_acl_"))
    }

    // MARK: Names

    /// Makes something under its name, or, where that is taken, under another that is returned.
    private func make(
        _ name: [CChar], in parent: borrowing Descriptor, _ operation: String, _ call: ([CChar]) -> CInt
    ) throws(SystemError) -> [CChar]? {
        let result = call(name)
        guard result == -EEXIST, policy.merges else {
            try check(result, operation, name.shown)
            return nil
        }
        if let found = try parent.openEntry(name), try found.stat().kind == .directory {
            throw SystemError("replace", name.shown, .isDirectory)
        }
        for number in 0..<1000 {
            let temporary = ".zonectl-\(getpid())-\(number)".utf8CString.map { $0 }
            let result = call(temporary)
            if result == -EEXIST { continue }
            try check(result, operation, name.shown)
            return temporary
        }
        throw SystemError(operation, name.shown, .exists)
    }

    private func opened(
        _ name: [CChar], _ temporary: [CChar]?, in parent: borrowing Descriptor
    ) throws(SystemError) -> Made {
        guard let file = try parent.openEntry(temporary ?? name) else {
            throw SystemError("open", name.shown, .noEntry)
        }
        return Made(file: file, name: name, temporary: temporary)
    }

    /// Puts a file in the place of another; one that is mounted there can only be written to.
    private func settle(_ temporary: [CChar], _ name: [CChar], in parent: borrowing Descriptor) throws(SystemError) {
        let result = zn_renameat2(parent.raw, temporary, parent.raw, name, 0)
        if result == -EBUSY, let source = try parent.openEntry(temporary), let target = try parent.openEntry(name),
            try source.stat().kind == .regular, try target.stat().kind == .regular
        {
            var content = FileContent()
            let from = try source.reopen([.readOnly])
            try content.copy(from.raw, to: try target.reopen([.writeOnly, .truncate]).raw, size: try from.stat().size)
            _ = zn_unlinkat(parent.raw, temporary, 0)
            return
        }
        if result < 0 { _ = zn_unlinkat(parent.raw, temporary, 0) }
        try check(result, "replace", name.shown)
    }

    private func remove(_ name: [CChar], in parent: borrowing Descriptor) throws(SystemError) {
        let result = zn_unlinkat(parent.raw, name, 0)
        if result != -ENOENT { try check(result, "replace", name.shown) }
    }
}
