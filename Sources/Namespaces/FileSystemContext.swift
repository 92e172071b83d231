// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
public import LinuxSystem

/// A file system that is being made, see fsopen(2), or changed, see fspick(2).
public struct FileSystemContext: ~Copyable {
    private let context: Descriptor
    private let type: String

    /// Starts a new instance. `source` is a device, or what mount(8) will show in place of one; else the type. Throws
    /// `ENODEV` where the kernel does not know the type.
    public init(_ type: String, source: String? = nil) throws(SystemError) {
        let opened = Descriptor(owning: try check(zn_fsopen(type, 0), "fsopen", type))
        try check(zn_fsconfig_string(opened.raw, "source", source ?? type), "mount \(type)", "source")
        context = opened
        self.type = type
    }

    /// Starts to change the instance that is mounted at a descriptor.
    init(mountedAt mount: CInt) throws(SystemError) {
        context = Descriptor(owning: try check(zn_fspick(mount), "fspick"))
        type = "again"
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

    /// Lets what was set take effect on an instance that is in use.
    consuming func reconfigure() throws(SystemError) {
        try check(zn_fsconfig_reconfigure(context.raw), "mount \(type)", message())
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
    /// Clones the mount at a host path into a detached one, which is private to the zone unless `changes` say how
    /// mounts are to spread between it and the host's. The corresponding system call is `open_tree`.
    public static func cloneTree(
        _ path: String,
        recursive: Bool,
        changes: MountChanges = MountChanges()
    ) throws(SystemError) -> Descriptor {
        let tree = Descriptor(owning: try check(zn_open_tree(-100, path, recursive), "bind mount", path))
        // A clone is a peer of the original where that is shared, as it is on most hosts.
        let propagation = changes.propagation ?? MountPropagation(.private)
        try check(propagation.applyToClone(tree.raw), "mount_setattr", path)
        try check(changes.applyAttributes(to: tree.raw), "mount_setattr", path)
        return tree
    }

    /// Sets the propagation of a mount. The corresponding system call is `mount_setattr`.
    public func setPropagation(_ propagation: MountPropagation) throws(SystemError) {
        try check(propagation.apply(to: raw), "mount_setattr")
    }

    /// Lets a detached mount show ids as a user namespace maps them. The corresponding system call is `mount_setattr`
    /// with `MOUNT_ATTR_IDMAP`.
    public func mapIDs(by userNamespace: borrowing Descriptor, recursive: Bool, _ path: String) throws(SystemError) {
        try check(zn_mount_setattr_idmap(raw, recursive, userNamespace.raw), "id-mapped mount", path)
    }
}
