// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// An open file descriptor that closes itself; always close-on-exec.
public struct Descriptor: ~Copyable, Sendable {
    /// The number, valid as long as this value lives. For system calls only.
    public let raw: CInt

    /// Takes ownership of `raw`, which must be open.
    public init(owning raw: CInt) {
        self.raw = raw
    }

    deinit {
        _ = zn_close(raw)
    }

    /// Gives up ownership: the caller closes it.
    public consuming func release() -> CInt {
        let raw = raw
        discard self
        return raw
    }

    /// Returns a second descriptor for the same open file.
    public func duplicate() throws(SystemError) -> Descriptor {
        Descriptor(owning: try check(zn_fcntl(raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor"))
    }
}

extension Descriptor {
    /// The number of a descriptor that may be missing.
    public static func number(of descriptor: borrowing Descriptor?) -> CInt? {
        switch descriptor {
        case .some(let owner): owner.raw
        case .none: nil
        }
    }

    /// Returns a descriptor for the open file of a number that somebody else owns.
    public static func duplicate(of raw: CInt) throws(SystemError) -> Descriptor {
        Descriptor(owning: try check(zn_fcntl(raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor"))
    }

    /// Whether a number that somebody else owns is open.
    public static func isOpen(_ raw: CInt) -> Bool {
        zn_fcntl(raw, F_GETFD, 0) >= 0
    }

    /// Makes reads and writes return at once (`O_NONBLOCK`). For open files that nobody else shares.
    public static func setNonBlocking(_ raw: CInt) {
        let flags = zn_fcntl(raw, F_GETFL, 0)
        if flags >= 0 { _ = zn_fcntl(raw, F_SETFL, Int(flags | O_NONBLOCK)) }
    }
}

/// Flags of `open(2)`; `O_CLOEXEC` is always added.
public struct OpenFlags: OptionSet, Sendable {
    public let rawValue: CInt

    public init(rawValue: CInt) {
        self.rawValue = rawValue
    }

    public static let readOnly = OpenFlags([])
    /// The corresponding C constant is `O_WRONLY`.
    public static let writeOnly = OpenFlags(rawValue: O_WRONLY)
    /// The corresponding C constant is `O_RDWR`.
    public static let readWrite = OpenFlags(rawValue: O_RDWR)
    /// The corresponding C constant is `O_CREAT`.
    public static let create = OpenFlags(rawValue: O_CREAT)
    /// The corresponding C constant is `O_EXCL`.
    public static let exclusive = OpenFlags(rawValue: O_EXCL)
    /// The corresponding C constant is `O_TRUNC`.
    public static let truncate = OpenFlags(rawValue: O_TRUNC)
    /// The corresponding C constant is `O_APPEND`.
    public static let append = OpenFlags(rawValue: O_APPEND)
    /// The corresponding C constant is `O_PATH`.
    public static let path = OpenFlags(rawValue: 0o10000000)
    /// The corresponding C constant is `O_DIRECTORY`.
    public static let directory = OpenFlags(rawValue: 0o200000)
    /// The corresponding C constant is `O_NOFOLLOW`.
    public static let noFollow = OpenFlags(rawValue: 0o400000)
    /// The corresponding C constant is `O_NONBLOCK`.
    public static let nonBlocking = OpenFlags(rawValue: O_NONBLOCK)
    /// The corresponding C constant is `O_NOCTTY`.
    public static let noControllingTerminal = OpenFlags(rawValue: O_NOCTTY)
    /// The corresponding C constant is `O_CLOEXEC`.
    public static let closeOnExec = OpenFlags(rawValue: 0o2000000)
}

/// How `openat2(2)` may resolve a path.
public struct ResolveFlags: OptionSet, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Symbolic links and `..` stay below the directory, as after `chroot(2)`. `RESOLVE_IN_ROOT`.
    public static let inRoot = ResolveFlags(rawValue: UInt64(ZN_RESOLVE_IN_ROOT))
    /// Any way out of the directory is an error. `RESOLVE_BENEATH`.
    public static let beneath = ResolveFlags(rawValue: UInt64(ZN_RESOLVE_BENEATH))
    /// `/proc/PID/fd` and its kin are not followed. `RESOLVE_NO_MAGICLINKS`.
    public static let noMagicLinks = ResolveFlags(rawValue: UInt64(ZN_RESOLVE_NO_MAGICLINKS))
    /// No symbolic link at all is followed. `RESOLVE_NO_SYMLINKS`.
    public static let noSymlinks = ResolveFlags(rawValue: UInt64(ZN_RESOLVE_NO_SYMLINKS))
    /// Mount points are not crossed. `RESOLVE_NO_XDEV`.
    public static let noCrossing = ResolveFlags(rawValue: UInt64(ZN_RESOLVE_NO_XDEV))

    /// The way every path inside a zone's root is resolved.
    public static let zone: ResolveFlags = [.inRoot, .noMagicLinks]
}

extension Descriptor {
    /// Opens a path of the host's. The corresponding system call is `openat`.
    public static func open(_ path: String, _ flags: OpenFlags, mode: UInt32 = 0) throws(SystemError) -> Descriptor {
        Descriptor(owning: try check(zn_openat(AT_FDCWD, path, flags.union(.closeOnExec).rawValue, mode), "open", path))
    }

    /// Opens a path below this directory. The corresponding system call is `openat2`.
    public func open(
        _ path: String,
        _ flags: OpenFlags,
        mode: UInt32 = 0,
        resolve: ResolveFlags
    ) throws(SystemError) -> Descriptor {
        let raw = openRaw(path, flags, mode: mode, resolve: resolve)
        // Where the call itself is missing, its name tells more than what it was for.
        return Descriptor(owning: try check(raw, raw == -ENOSYS ? "openat2" : "open", path))
    }

    /// As ``open(_:_:mode:resolve:)``, but returns the descriptor's number or `-errno`, for callers that build no error.
    public func openRaw(_ path: String, _ flags: OpenFlags, mode: UInt32 = 0, resolve: ResolveFlags) -> CInt {
        zn_openat2(raw, path, UInt64(flags.union(.closeOnExec).rawValue), UInt64(mode), resolve.rawValue)
    }
}
