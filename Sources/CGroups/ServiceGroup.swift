// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// The control group of the systemd service that the calling process belongs to.
public struct ServiceGroup: Sendable {
    /// The hierarchy's mount point.
    private let root: String
    /// Relative to the hierarchy's root.
    public let path: String

    /// The unit whose process the caller is, such as `zone@web.service`; nil outside services.
    public static func unit() throws(SystemError) -> String? {
        unit(try CGroupMembership(of: getpid()))
    }

    static func unit(_ membership: CGroupMembership) -> String? {
        // On hybrid hosts the version 2 hierarchy is systemd's own as well, or else the named one of version 1.
        for controllers in [[], ["name=systemd"]] {
            let parts = membership.path(in: controllers)?.fields("/") ?? []
            if let unit = parts.last(where: { $0.hasSuffix(".service") }) { return unit }
        }
        return nil
    }

    /// The caller's group, if it is a service's that systemd has given to the service: then groups below it are ours to
    /// make. Only where version 2 is alone; nil elsewhere.
    public static func delegated(_ layout: CGroupLayout) throws(SystemError) -> ServiceGroup? {
        guard layout.isUnified, let root = layout.unified,
            let path = try CGroupMembership(of: getpid()).path(in: []).flatMap({ delegatedPart($0) })
        else { return nil }
        let group = try Descriptor.open("\(root)/\(path)", [.readOnly, .directory])
        guard isMarked(group) else { return nil }
        return ServiceGroup(root: root, path: path)
    }

    /// The part of a group's path down to the service's own: a keeper that is executed again is below it already.
    static func delegatedPart(_ path: String) -> String? {
        let parts = path.fields("/")
        guard let index = parts.lastIndex(where: { $0.hasSuffix(".service") }), !parts.contains("..") else {
            return nil
        }
        return parts[...index].joined(separator: "/")
    }

    /// Whether systemd has marked the group as given away; the second name since systemd 251, see
    /// https://systemd.io/CGROUP_DELEGATION.
    private static func isMarked(_ group: borrowing Descriptor) -> Bool {
        for name in ["trusted.delegate", "user.delegate"] {
            var value: [UInt8] = [0, 0]
            if zn_fgetxattr(group.raw, name, &value, value.count) == 1, value[0] == UInt8(ascii: "1") { return true }
        }
        return false
    }

    /// Moves the caller into a group below this one, which has no process of its own then.
    public func enter(_ name: String) throws(SystemError) {
        let target = "\(root)/\(path)/\(name)"
        try CGroupFiles.make(target)
        try CGroupFiles(target).write("cgroup.procs", "0")
    }
}
