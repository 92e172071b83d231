// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// Kinds of namespaces, see namespaces(7).
public struct NamespaceSet: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The corresponding C constant is `CLONE_NEWNS`.
    public static let mount = NamespaceSet(rawValue: 0x0002_0000)
    /// The corresponding C constant is `CLONE_NEWCGROUP`.
    public static let cgroup = NamespaceSet(rawValue: 0x0200_0000)
    /// The corresponding C constant is `CLONE_NEWUTS`.
    public static let uts = NamespaceSet(rawValue: 0x0400_0000)
    /// The corresponding C constant is `CLONE_NEWIPC`.
    public static let ipc = NamespaceSet(rawValue: 0x0800_0000)
    /// The corresponding C constant is `CLONE_NEWUSER`.
    public static let user = NamespaceSet(rawValue: 0x1000_0000)
    /// The corresponding C constant is `CLONE_NEWTIME`.
    public static let time = NamespaceSet(rawValue: 0x80)
    /// The corresponding C constant is `CLONE_NEWPID`.
    public static let pid = NamespaceSet(rawValue: 0x2000_0000)
    /// The corresponding C constant is `CLONE_NEWNET`.
    public static let network = NamespaceSet(rawValue: 0x4000_0000)

    /// The value as `setns(2)` and `unshare(2)` take it.
    var flags: CInt { CInt(truncatingIfNeeded: rawValue) }
}
