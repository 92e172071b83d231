// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem
import Namespaces
import OCI

/// Turns `linux.namespaces` into what is made and what is joined (config-linux.md "Namespaces").
enum NamespacePlanBuilder {
    /// The corresponding C constants are `NSFS_MAGIC` and `NS_GET_NSTYPE`.
    private static let namespaceMagic: Int64 = 0x6e73_6673
    private static let getType: UInt = 0xb703

    static func add(_ linux: Spec.Linux, to plan: inout LaunchPlan) throws(ZoneError) {
        var seen: NamespaceSet = []
        for (index, namespace) in linux.namespaces.enumerated() {
            let place = "linux.namespaces[\(index)]"
            let kind = kind(namespace.type)
            guard seen.insert(kind).inserted else {
                throw ZoneError(.invalid, "\(place): type \(namespace.type.rawValue) is given twice")
            }
            // Engines write an empty path for a new namespace.
            if let path = namespace.path, !path.isEmpty {
                try join(path, kind, namespace.type.rawValue, place, &plan)
            } else {
                plan.newNamespaces.insert(kind)
            }
        }
        plan.bringsUpLoopback = plan.newNamespaces.contains(.network)
        try checkMaps(linux, plan.newNamespaces.contains(.user))
        if !linux.timeOffsets.isEmpty, !plan.newNamespaces.contains(.time) {
            throw ZoneError(.invalid, "linux.timeOffsets: are given, but linux.namespaces makes no new time namespace")
        }
        plan.isInUserNamespace = Rootless.isInside
        plan.needsParent = plan.newNamespaces.contains(.user) || !linux.timeOffsets.isEmpty
    }

    static func kind(_ type: Spec.Namespace.Kind) -> NamespaceSet {
        switch type {
        case .pid: .pid
        case .network: .network
        case .mount: .mount
        case .ipc: .ipc
        case .uts: .uts
        case .user: .user
        case .cgroup: .cgroup
        case .time: .time
        }
    }

    private static func join(
        _ path: String,
        _ kind: NamespaceSet,
        _ name: String,
        _ place: String,
        _ plan: inout LaunchPlan
    ) throws(ZoneError) {
        guard path.isAbsolutePath else {
            throw ZoneError(.invalid, "\(place).path: \"\(path)\" is not an absolute path")
        }
        let file = try attempting("\(place).path") { () throws(SystemError) in
            // A pipe of that name must not hold us up.
            try Descriptor.open(path, [.readOnly, .nonBlocking])
        }
        var magic: Int64 = 0
        guard zn_fstatfs_magic(file.raw, &magic) >= 0, magic == namespaceMagic,
            zn_ioctl(file.raw, getType, 0) == CInt(truncatingIfNeeded: kind.rawValue)
        else { throw ZoneError(.invalid, "\(place).path: \(path) is no \(name) namespace") }
        plan.joins.append(NamespaceJoin(descriptor: plan.descriptors.adopt(file), kinds: kind, name: path))
    }

    private static func checkMaps(_ linux: Spec.Linux, _ isNew: Bool) throws(ZoneError) {
        let hasMaps = !linux.uidMappings.isEmpty || !linux.gidMappings.isEmpty
        if isNew, linux.uidMappings.isEmpty || linux.gidMappings.isEmpty {
            throw ZoneError(
                .invalid, "linux.uidMappings and linux.gidMappings: a new user namespace needs both",
                hint: "without them nobody in the zone has a name outside of it")
        }
        if hasMaps, !isNew, !linux.namespaces.contains(where: { $0.type == .user }) {
            throw ZoneError(.invalid, "linux.uidMappings: are given, but linux.namespaces has no user namespace")
        }
    }
}
