// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux

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
    /// The bits that hold the mode of access times: a field, not flags, and cleared as a whole. All of them cleared is
    /// `relatime`. The corresponding C constant is `MOUNT_ATTR__ATIME`.
    public static let accessTimeField = MountAttributes(rawValue: UInt64(ZN_MOUNT_ATTR_ATIME_MASK))
}

/// How mounts and unmounts below a mount spread, mount_namespaces(7).
public struct MountPropagation: Sendable, Hashable {
    public enum Kind: UInt64, Sendable {
        /// The corresponding C constant is `MS_UNBINDABLE`.
        case unbindable = 0x2_0000
        /// The corresponding C constant is `MS_PRIVATE`.
        case `private` = 0x4_0000
        /// The corresponding C constant is `MS_SLAVE`.
        case slave = 0x8_0000
        /// The corresponding C constant is `MS_SHARED`.
        case shared = 0x10_0000
    }

    public var kind: Kind
    public var isRecursive: Bool

    public init(_ kind: Kind, isRecursive: Bool = false) {
        self.kind = kind
        self.isRecursive = isRecursive
    }

    /// Applies it to a mount by its descriptor; returns 0 or `-errno`.
    func apply(to mount: CInt) -> CInt {
        zn_mount_setattr(mount, isRecursive, 0, 0, kind.rawValue)
    }

    /// Applies it to a fresh clone of mounts, whose members are still peers of what they were cloned from.
    ///
    /// Whatever was not asked for becomes private: what is mounted on a peer in the zone would appear on the host.
    /// `slave` and `shared` are of no use to the mounts below once these have left their group, so they count for all.
    func applyToClone(_ mount: CInt) -> CInt {
        switch kind {
        case .private, .slave, .shared: zn_mount_setattr(mount, true, 0, 0, kind.rawValue)
        case .unbindable where isRecursive: zn_mount_setattr(mount, true, 0, 0, kind.rawValue)
        case .unbindable:
            min(
                zn_mount_setattr(mount, true, 0, 0, Kind.private.rawValue),
                zn_mount_setattr(mount, false, 0, 0, kind.rawValue))
        }
    }
}

/// What is to be different about a mount, as options of mount(8) say it: what is in neither set stays as it is.
public struct MountChanges: Sendable, Hashable {
    /// For the mount itself; goes before what is said for the whole tree.
    public var set: MountAttributes = []
    public var clear: MountAttributes = []
    /// For the mount and all below it.
    public var recursiveSet: MountAttributes = []
    public var recursiveClear: MountAttributes = []
    public var propagation: MountPropagation?

    public init() {}

    /// What a new mount has to begin with.
    public var attributes: MountAttributes {
        recursiveSet.subtracting(clear).union(set)
    }

    /// Says something about attributes of the mount itself. What is said later counts.
    public mutating func change(set added: MountAttributes, clear removed: MountAttributes) {
        set = set.subtracting(removed).union(added)
        // The field of access times is cleared before it is set.
        clear = clear.subtracting(added.subtracting(.accessTimeField)).union(removed)
    }

    /// As ``change(set:clear:)``, for the whole tree.
    public mutating func changeAll(set added: MountAttributes, clear removed: MountAttributes) {
        recursiveSet = recursiveSet.subtracting(removed).union(added)
        recursiveClear = recursiveClear.subtracting(added.subtracting(.accessTimeField)).union(removed)
        // What was said before about the mount itself does not count any more.
        set.subtract(added.union(removed))
        clear.subtract(added.union(removed))
    }

    /// Leaves a mode of access times; one that was asked for besides stays.
    public mutating func leaveAccessTime(_ mode: MountAttributes, isRecursive: Bool) {
        set.subtract(mode)
        if isRecursive {
            recursiveSet.subtract(mode)
            recursiveClear.formUnion(.accessTimeField)
        } else {
            clear.formUnion(.accessTimeField)
        }
    }

    /// Applies the attributes, not the propagation, to a mount by its descriptor; returns 0 or `-errno`.
    func applyAttributes(to mount: CInt) -> CInt {
        if !recursiveSet.isEmpty || !recursiveClear.isEmpty {
            let result = zn_mount_setattr(mount, true, recursiveSet.rawValue, recursiveClear.rawValue, 0)
            if result < 0 { return result }
        }
        if set.isEmpty, clear.isEmpty { return 0 }
        return zn_mount_setattr(mount, false, set.rawValue, clear.rawValue, 0)
    }
}
