// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// One mount beside the root, or a change to one.
public struct MountPlan: Sendable {
    public enum Source: Sendable {
        /// A detached mount that the parent prepared; `isDirectory` tells what the target must be.
        case tree(CInt, isDirectory: Bool)
        /// A new instance of a file system, made in the zone's namespaces. Options without a value are flags.
        case fileSystem(type: String, options: [(key: String, value: String?)])
        /// A symbolic link in place of a mount: its text.
        case symlink(String)
        /// Changes what is mounted on the target already: the mount, and with options its file system too.
        case remount(options: [(key: String, value: String?)])
    }

    /// Absolute inside the zone.
    public var target: String
    public var source: Source
    /// Attributes of a new file system, and what a remount changes. A tree has them already.
    public var changes: MountChanges
    /// Becomes read-only only after everything is mounted below it.
    public var sealsAtEnd: Bool
    /// A directory's tree that shows up in /proc/PID/mountinfo in the plan's order, which readers of configurations
    /// expect. Since Linux 6.8 mounts are listed by their age, and what the parent opened is older than what the child
    /// makes: so the child attaches a copy.
    public var keepsOrder = false
    /// What /proc/mounts shows as the source of a new file system; nil for its type.
    public var device: String?
    /// A new tmpfs begins with a copy of what it covers.
    public var copiesUp = false

    public init(target: String, source: Source, changes: MountChanges = MountChanges(), sealsAtEnd: Bool = false) {
        self.target = target
        self.source = source
        self.changes = changes
        self.sealsAtEnd = sealsAtEnd
    }

    /// Whether the way to the target may follow symbolic links of the image's. Kernel file systems and everything in
    /// /proc, /sys and /dev may not: an image that redirects them would decide what the zone's own tools and our masks
    /// work on (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).
    var refusesSymlinks: Bool {
        if case .fileSystem(let type, _) = source, type != "tmpfs" { return true }
        return target.pathComponents.first.map(["proc", "sys", "dev"].contains) ?? false
    }

    /// For errors.
    var description: String {
        switch source {
        case .tree, .symlink: target
        case .fileSystem(let type, _): "\(target) (\(type))"
        case .remount: "\(target) (remount)"
        }
    }
}
