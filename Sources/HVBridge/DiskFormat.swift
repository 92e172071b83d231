// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// How a disk's content is laid out in its file. It is found out once and recorded: a guest writes what its disk begins
/// with, so whoever looks again and believes it lets the guest choose which files of the host's are opened.
public enum DiskFormat: String, Sendable, Equatable, CaseIterable {
    case raw, qcow2, vmdk, vdi, vhdx, vpc, qed, luks, iso

    /// What QEMU calls it. A CD's image is plain content to it.
    public var driver: String { self == .iso ? "raw" : rawValue }

    /// Whether the file holds the content as it is, so that no program has to read it for us.
    public var isPlain: Bool { self == .raw || self == .iso }

    /// By the name on a command line; `vhd`, `img` and `cdrom` are other names.
    public init?(name: String) {
        switch name {
        case "vhd": self = .vpc
        case "img": self = .raw
        case "cdrom": self = .iso
        default: self.init(rawValue: name)
        }
    }
}

/// Why a disk is not taken, and what can be done about it.
public struct DiskFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// What callers branch on.
    public enum Code: Sendable, Equatable {
        /// Nothing is in it.
        case empty
        /// The file is shorter than what its header tells of.
        case truncated
        case encrypted
        /// The content of another file shows through.
        case backingFile
        /// The content, or a part of it, is in other files.
        case otherFiles
        /// A version or a feature that is not known here.
        case unsupported
        /// The header contradicts itself, or says that the image is damaged.
        case damaged
        /// A log has to be replayed before it can be read.
        case unclean
        /// Nothing that is in it is known.
        case unknown
        /// It is several things at once.
        case ambiguous
        /// It is not of the format that was named.
        case otherFormat
        /// A program is not installed.
        case noProgram
        /// A program failed, or took too long.
        case failed
        /// The kernel said no.
        case system
    }

    public let code: Code
    public let detail: String
    /// What the user can do; nil where that is plain or nothing.
    public let hint: String?

    public init(_ code: Code, _ detail: String, hint: String? = nil) {
        self.code = code
        self.detail = detail
        self.hint = hint
    }

    public init(_ error: SystemError) {
        self.init(.system, "\(error)")
    }

    public var description: String { hint.map { "\(detail) (\($0))" } ?? detail }
}
