// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
public import LinuxSystem

/// Attributes of one mount, see mount_setattr(2).
public struct MountAttributes: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The corresponding C constant is `MOUNT_ATTR_RDONLY`.
    public static let readOnly = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_RDONLY))
    /// The corresponding C constant is `MOUNT_ATTR_NOSUID`.
    public static let noSuid = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NOSUID))
    /// The corresponding C constant is `MOUNT_ATTR_NODEV`.
    public static let noDevices = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NODEV))
    /// The corresponding C constant is `MOUNT_ATTR_NOEXEC`.
    public static let noExecution = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NOEXEC))
    /// The corresponding C constant is `MOUNT_ATTR_NOATIME`.
    public static let noAccessTime = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NOATIME))
    /// The corresponding C constant is `MOUNT_ATTR_STRICTATIME`.
    public static let strictAccessTime = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_STRICTATIME))
    /// The corresponding C constant is `MOUNT_ATTR_NODIRATIME`.
    public static let noDirectoryAccessTime = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NODIRATIME))
    /// The corresponding C constant is `MOUNT_ATTR_NOSYMFOLLOW`.
    public static let noSymlinks = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_NOSYMFOLLOW))
}

/// One mount beside the root.
public struct MountPlan: Sendable {
    public enum Source: Sendable {
        /// A detached mount that the parent prepared; `isDirectory` tells what the target must be.
        case tree(CInt, isDirectory: Bool)
        /// A new instance of a file system, made in the zone's namespaces. Options without a value are flags.
        case fileSystem(type: String, options: [(key: String, value: String?)])
    }

    /// Absolute inside the zone.
    public var target: String
    public var source: Source
    public var attributes: MountAttributes
    /// Becomes read-only only after everything is mounted below it.
    public var sealsAtEnd: Bool

    public init(target: String, source: Source, attributes: MountAttributes = [], sealsAtEnd: Bool = false) {
        self.target = target
        self.source = source
        self.attributes = attributes
        self.sealsAtEnd = sealsAtEnd
    }

    /// Whether the way to the target may follow symbolic links of the image's. Kernel file systems and everything in
    /// /proc, /sys and /dev may not: an image that redirects them would decide what the zone's own tools and our masks
    /// work on (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).
    var refusesSymlinks: Bool {
        if case .fileSystem(let type, _) = source, type != "tmpfs" { return true }
        return target.pathComponents.first.map(["proc", "sys", "dev"].contains) ?? false
    }
}

/// A file system that is being made, see fsopen(2).
public struct FileSystemContext: ~Copyable {
    private let context: Descriptor
    private let type: String

    /// Starts a new instance, which mount(8) will show with its type as the source. Throws `ENODEV` where the kernel
    /// does not know the type.
    public init(_ type: String) throws(SystemError) {
        let opened = Descriptor(owning: try check(zn_fsopen(type, 0), "fsopen", type))
        try check(zn_fsconfig_string(opened.raw, "source", type), "mount \(type)", "source")
        context = opened
        self.type = type
    }

    /// Sets an option; one without a value is a flag.
    public func set(_ key: String, _ value: String? = nil) throws(SystemError) {
        let result =
            value.map { zn_fsconfig_string(context.raw, key, $0) } ?? zn_fsconfig_flag(context.raw, key)
        try check(result, "mount \(type)", "option \(key)\(value.map { "=" + $0 } ?? "")")
    }

    /// Makes the instance and returns it as a detached mount.
    public consuming func mount(_ attributes: MountAttributes = []) throws(SystemError) -> Descriptor {
        let created = zn_fsconfig_create(context.raw)
        // An existing instance (one sysfs per network namespace, for example) is shared, and says so with EBUSY.
        if created != -Errno.busy.rawValue { try check(created, "mount \(type)", message()) }
        let raw = zn_fsmount(context.raw, UInt32(truncatingIfNeeded: attributes.rawValue))
        return Descriptor(owning: try check(raw, "mount \(type)"))
    }

    /// What the kernel had to say, for example `overlay: upperdir is in-use`; empty if nothing.
    private func message() -> String {
        // One line a read, such as "e overlay: …"; ENODATA at the end.
        guard let line = try? context.read(upTo: 512), line.count > 2 else { return "" }
        return String(decoding: line.dropFirst(2), as: UTF8.self).trimmingNewline
    }
}

extension String {
    fileprivate var trimmingNewline: String {
        last == "\n" ? String(dropLast()) : self
    }
}

extension Descriptor {
    /// Clones the mount at a host path into a detached one. The corresponding system call is `open_tree`.
    public static func cloneTree(
        _ path: String,
        recursive: Bool,
        attributes: MountAttributes = []
    ) throws(SystemError) -> Descriptor {
        let tree = Descriptor(owning: try check(zn_open_tree(-100, path, recursive), "bind mount", path))
        if !attributes.isEmpty {
            let result = zn_mount_setattr(tree.raw, recursive, attributes.rawValue, attributes.accessTimeMask, 0)
            try check(result, "mount_setattr", path)
        }
        return tree
    }
}

extension MountAttributes {
    /// Which bits to clear so that an access time mode can be set: it is a field, not a flag.
    var accessTimeMask: UInt64 {
        let mask = UInt64(ZN_MOUNT_ATTR_ATIME_MASK)
        return rawValue & mask == 0 ? 0 : mask
    }
}
