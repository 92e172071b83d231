// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem
import OCI

/// Which device nodes may be opened and made: `devices` on version 1, an eBPF program on version 2.
struct DeviceController: Controller {
    let name = "devices"
    /// Version 2 has no such controller that would have to be there.
    var unifiedName: String? { nil }

    func isAsked(_ resources: Spec.Resources) -> Bool { !resources.devices.isEmpty }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if resources.devices.isEmpty { return }
        for rule in resources.devices { try DeviceController.verify(rule) }
        let program = DeviceProgram(resources.devices)
        let loaded = program.instructions.withUnsafeBytes { bytes in
            bytes.baseAddress.map { zn_bpf_load_device($0, UInt32(program.instructions.count)) } ?? 0
        }
        let descriptor = Descriptor(owning: try check(loaded, "load device program", group.path))
        // bpf(2) wants a readable directory, not an O_PATH descriptor.
        let directory = try Descriptor.open(group.path, [.readOnly, .directory])
        // All programs of a group must allow: one that stayed would still deny what the new rules allow.
        var former = group.isNew ? [] : try DeviceController.programs(directory)
        let replaced = former.popLast().map { Descriptor(owning: $0) }
        for other in former {
            let other = Descriptor(owning: other)
            try check(zn_bpf_detach_device(directory.raw, other.raw), "detach device program", group.path)
        }
        // In place of the last, at once: no moment without a filter.
        let number = Descriptor.number(of: replaced) ?? -1
        try check(zn_bpf_attach_device(directory.raw, descriptor.raw, number), "attach device program", group.path)
    }

    /// Opens the programs that an earlier call attached; those of others, such as systemd's, stay.
    static func programs(_ directory: borrowing Descriptor) throws(SystemError) -> [CInt] {
        var ids = [UInt32](repeating: 0, count: 64)
        let count = try check(zn_bpf_device_programs(directory.raw, &ids, 64), "query device programs")
        var found: [CInt] = []
        for id in ids.prefix(Int(count)) {
            var isOurs = false
            let program = zn_bpf_open_program(id, &isOurs)
            if program < 0 { continue }
            if isOurs { found.append(program) } else { _ = Descriptor(owning: program) }
        }
        return found
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        if resources.devices.isEmpty { return }
        let lines = try DeviceLines(resources.devices).lines
        let allow = try group.directory.open("devices.allow", [.writeOnly], resolve: .beneath)
        let deny = try group.directory.open("devices.deny", [.writeOnly], resolve: .beneath)
        for line in lines {
            if line.allow {
                try allow.writeOnce(line.text, "\(group.path)/devices.allow")
            } else {
                try deny.writeOnce(line.text, "\(group.path)/devices.deny")
            }
        }
    }

    /// Refuses what neither version could express, instead of filtering something else than was meant.
    static func verify(_ rule: Spec.DeviceRule) throws(SystemError) {
        let type = rule.type ?? "a"
        guard ["a", "b", "c", "u"].contains(type) else {
            throw SystemError("limit", "devices: type \"\(type)\" is none of a, b, c, u", .invalid)
        }
        for number in [rule.major, rule.minor] {
            if let number, number < -1 || number > Int64(UInt32.max) {
                throw SystemError("limit", "devices: \(number) is no device number", .invalid)
            }
        }
        if let access = rule.access, access.isEmpty || !access.utf8.allSatisfy({ "rwm".utf8.contains($0) }) {
            throw SystemError("limit", "devices: access \"\(access)\" is not of r, w and m", .invalid)
        }
    }
}
