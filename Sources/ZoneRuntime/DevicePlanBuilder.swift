// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI

/// Plans a zone's device nodes (config-linux.md "Devices").
enum DevicePlanBuilder {
    static func add(_ spec: Spec, to plan: inout LaunchPlan) throws(ZoneError) {
        // A /dev from outside is complete, and perhaps the host's.
        if MountPlanBuilder.bringsDevices(spec.mounts) { return }
        var devices = DefaultProfile.devices
        for (index, device) in (spec.linux?.devices ?? []).enumerated() {
            let plan = try self.plan(device, "linux.devices[\(index)]")
            // Engines repeat the default ones, with owners and modes of their own.
            devices.removeAll { $0.isDefault && $0.path == plan.path }
            devices.append(plan)
        }
        // Nobody may make nodes in a user namespace but the first: there the host's own are bound.
        if plan.hasUserNamespace || !ownsMachine {
            for index in devices.indices where devices[index].kind != .fifo {
                let tree = try hostNode(devices[index])
                devices[index].hostNode = plan.descriptors.adopt(tree)
            }
        }
        plan.devices = devices
    }

    /// Whether zonectl is in the machine's first user namespace.
    private static var ownsMachine: Bool {
        // A kernel without user namespaces has no such file.
        guard let text = try? readHostFile("/proc/self/uid_map", limit: 4096) else { return true }
        return text.split(whereSeparator: { $0 == 0x20 || $0 == 0x0A }) == [
            [0x30], [0x30], Array("4294967295".utf8)[...],
        ]
    }

    static func plan(_ device: Spec.Device, _ place: String) throws(ZoneError) -> DevicePlan {
        guard device.path.isAbsolutePath, !device.path.pathComponents.isEmpty else {
            throw ZoneError(.invalid, "\(place).path: \"\(device.path)\" is not an absolute path")
        }
        let kind: DevicePlan.Kind
        switch device.type {
        case "c", "u": kind = .character
        case "b": kind = .block
        case "p": kind = .fifo
        default:
            throw ZoneError(
                .invalid, "\(place).type: \"\(device.type)\" is not known", hint: "there is c, u, b and p: mknod(1)")
        }
        // Numbers of a fifo mean nothing, and runc writes -1 there.
        guard let major = UInt32(exactly: kind == .fifo ? 0 : device.major), major < 1 << 12,
            let minor = UInt32(exactly: kind == .fifo ? 0 : device.minor), minor < 1 << 20
        else {
            throw ZoneError(
                .invalid, "\(place): \(device.path): \(device.major):\(device.minor) is not a device number",
                hint: "a major number is from 0 to 4095, a minor number from 0 to 1048575")
        }
        return DevicePlan(
            path: device.path, kind: kind, major: major, minor: minor, mode: (device.fileMode ?? 0o666) & 0o7777,
            uid: device.uid ?? 0, gid: device.gid ?? 0)
    }

    /// Finds the host's node of a device, where it has the same name or by its number, and clones a mount of it.
    private static func hostNode(_ device: DevicePlan) throws(ZoneError) -> Descriptor {
        let numbered = "/dev/\(device.kind == .block ? "block" : "char")/\(device.major):\(device.minor)"
        let kind: FileStatus.Kind = device.kind == .block ? .blockDevice : .characterDevice
        for path in [device.path, numbered] {
            guard let tree = try? Descriptor.cloneTree(path, recursive: false), let status = try? tree.stat(),
                status.kind == kind, status.major == device.major, status.minor == device.minor
            else { continue }
            return tree
        }
        throw ZoneError(
            .notFound, "device \(device.path): the host has no node for \(device.major):\(device.minor)",
            hint:
                "a zone with a user namespace gets the host's nodes, and there is none at \(device.path) or \(numbered)"
        )
    }
}

extension LaunchPlan {
    /// Whether the zone is in a user namespace that is not zonectl's.
    var hasUserNamespace: Bool {
        newNamespaces.contains(.user) || joins.contains { $0.kinds.contains(.user) }
    }
}
