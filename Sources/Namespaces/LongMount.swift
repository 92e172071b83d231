// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// File systems whose options are longer than fsconfig(2) takes: an overlay's layers are, as engines name them.
public enum LongMount {
    /// Bytes of one value, which fsconfig(2) takes.
    private static let longestValue = 255
    /// Bytes of all options, which mount(2) takes: a page with the zero at its end.
    private static let longestText = 4095

    /// Whether these options need ``make(_:source:options:changes:)``.
    public static func isNeeded(_ options: [(key: String, value: String?)]) -> Bool {
        options.contains { $0.value.map { $0.utf8.count > longestValue } ?? false }
    }

    /// Makes the file system by mount(2), where nobody sees it, and returns it as a detached mount. Throws `E2BIG` when
    /// all options together are longer than a page. Of the kernel's reasons there is only the number.
    public static func make(
        _ type: String,
        source: String?,
        options: [(key: String, value: String?)],
        changes: MountChanges
    ) throws(SystemError) -> Descriptor {
        var flags: UInt = changes.attributes.contains(.readOnly) ? UInt(MS_RDONLY) : 0
        var words: [String] = []
        for option in options {
            if option.value == nil, let flag = flag(option.key) {
                flags |= flag
            } else {
                words.append(option.value.map { "\(option.key)=\($0)" } ?? option.key)
            }
        }
        let text = words.joined(separator: ",")
        guard text.utf8.count <= longestText else {
            throw SystemError("mount \(type)", "options of more than \(longestText) bytes", .tooBig)
        }
        // Any directory will do that is everywhere.
        let place = "/proc"
        let copy = try MountCopy.enter()
        try check(zn_mount(source ?? type, place, type, flags, text), "mount \(type)", text)
        let tree = Descriptor(owning: try check(zn_open_tree(AT_FDCWD, place, false), "open_tree", place))
        try check(changes.applyAttributes(to: tree.raw), "mount_setattr", type)
        copy.leave()
        return tree
    }

    /// What mount(2) takes as a number; 0 for what is so anyway.
    private static func flag(_ name: String) -> UInt? {
        switch name {
        case "sync": UInt(MS_SYNCHRONOUS)
        case "dirsync": UInt(MS_DIRSYNC)
        case "mand": UInt(MS_MANDLOCK)
        case "lazytime": 1 << 25
        case "async", "nomand", "nolazytime": 0
        default: nil
        }
    }
}
