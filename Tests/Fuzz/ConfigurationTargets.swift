// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

@testable import CGroups
@testable import Namespaces
@testable import OCI
@testable import Seccomp
@testable import ZoneRuntime

/// Files in JSON: `config.json`, `process.json`, limits for `update`, seccomp profiles, and JSON itself.
let configurationTargets = [
    FuzzTarget(name: "json") { json($0.bytes) },
    FuzzTarget(name: "config") { configuration($0.bytes) },
    FuzzTarget(name: "process") { process($0.bytes) },
    FuzzTarget(name: "resources") { input in
        if let resources: Spec.Resources = record(input.bytes) { check(resources) }
    },
    FuzzTarget(name: "seccomp") { seccomp($0.bytes) },
]

private func json(_ bytes: [UInt8]) {
    guard let value = try? JSON(parsing: bytes) else { return }
    for pretty in [false, true] {
        var writer = JSONWriter(pretty: pretty)
        value.write(to: &writer)
        guard let again = try? JSON(parsing: writer.bytes) else { return expect(false, "what is written can be read") }
        expect(again == value, "the value is the same after writing and reading")
        var second = JSONWriter(pretty: pretty)
        again.write(to: &second)
        expect(second.bytes == writer.bytes, "the text is the same, byte for byte")
    }
}

/// Parses a record, and makes sure that it can be written and read again without a change.
func record<Record: JSONRecord & Equatable>(_ bytes: [UInt8]) -> Record? {
    guard let value = try? Record(parsing: bytes) else { return nil }
    let text = value.serialized()
    for pretty in [false, true] {
        guard let again = try? Record(parsing: value.serialized(pretty: pretty)) else {
            expect(false, "what is written can be read")
            return nil
        }
        expect(again == value, "the record is the same after writing and reading")
        expect(again.serialized() == text, "the text is the same, byte for byte")
    }
    return value
}

private func configuration(_ bytes: [UInt8]) {
    guard let spec: Spec = record(bytes) else { return }
    if (try? SpecRules.check(spec)) != nil {
        expect(spec.linux != nil, "a configuration that passes has linux")
        for name in spec.linux?.sysctl.keys.map({ $0 }) ?? [] { checkParameter(name) }
        for hook in spec.hooks.map({ $0.prestart + $0.poststop }) ?? [] {
            expect(hook.path.utf8.first == 0x2F, "a hook's path is absolute")
        }
    }
    if let process = spec.process { check(process, spec.linux?.personality) }
    for mount in spec.mounts {
        if let options = try? MountOptions(mount.options) { check(options, of: mount.options) }
    }
    if let text = spec.linux?.rootfsPropagation { _ = try? MountPropagation(rootfs: text) }
    for device in spec.linux?.devices ?? [] {
        guard let plan = try? DevicePlanBuilder.plan(device, "device") else { continue }
        expect(plan.path.utf8.first == 0x2F, "a device's path is absolute")
        expect(plan.mode & ~0o7777 == 0, "a device's mode has permission bits only")
    }
    if let resources = spec.linux?.resources { check(resources) }
    for systemd in [false, true] { checkCGroupPath(spec.linux?.cgroupsPath, systemd: systemd) }
    _ = try? SystemdAnnotation.properties(spec.annotations)
    if let filter = spec.linux?.seccomp { compile(filter) }
}

/// A kernel parameter that was let through stays below the folders of the zone's namespaces, byte for byte.
private func checkParameter(_ name: String) {
    let separator = UInt8(ascii: name.utf8.contains(UInt8(ascii: "/")) ? "/" : ".")
    let parts = name.utf8.split(separator: separator)
    expect(!parts.contains { $0.elementsEqual("..".utf8) }, "sysctl \(name) has no ..")
    expect(["net", "kernel", "fs", "user"].contains(parts.first.flatMap(String.init)), "sysctl \(name) is known")
}

private func process(_ bytes: [UInt8]) {
    guard let process: Spec.Process = record(bytes) else { return }
    check(process, nil)
}

private func check(_ process: Spec.Process, _ personality: Spec.Personality?) {
    if (try? SpecRules.check(process)) != nil {
        expect(process.cwd.utf8.first == 0x2F, "the working directory is absolute")
        expect(process.args.first?.isEmpty == false, "there is a program")
    }
    for isAdded in [false, true] {
        guard let plan = try? PlanBuilder.process(process, nil, personality: personality, isAdded: isAdded) else {
            continue
        }
        if case .named(let request) = plan.user { checkUser(request) }
        expect(plan.limits.allSatisfy { $0.soft <= $0.hard }, "soft limits are below hard ones")
        expect(Set(plan.limits.map(\.resource)).count == plan.limits.count, "each limit is given once")
        if let sets = plan.capabilities {
            expect(sets.ambient & ~(sets.permitted & sets.inheritable) == 0, "ambient capabilities are possible")
            expect(sets.effective & ~sets.permitted == 0, "effective capabilities are permitted")
        }
    }
}

private func check(_ resources: Spec.Resources) {
    _ = try? SystemdProperty.limits(resources)
    for controller in CGroups.controllers { _ = controller.isAsked(resources) }
    for limit in resources.hugepageLimits where HugetlbController.isPageSize(limit.pageSize) {
        expect(!limit.pageSize.utf8.contains(0x2F), "a page size is no path")
    }
    let rules = resources.devices
    guard rules.allSatisfy({ (try? DeviceController.verify($0)) != nil }) else { return }
    let program = DeviceProgram(rules).instructions
    expect(program.last.map { $0 & 0xFF } == 0x95, "the program ends with exit")
    for (index, instruction) in program.enumerated() where [0x15, 0x55].contains(instruction & 0xFF) {
        let target = index + 1 + Int(Int16(truncatingIfNeeded: instruction >> 16))
        expect(target > index && target < program.count, "a jump leads forward and stays in the program")
    }
    if let lines = try? DeviceLines(rules).lines {
        for line in lines {
            expect(line.text == "a" || line.text.utf8.count { $0 == 0x20 } == 2, "a line has three words: \(line.text)")
        }
    }
}

private func seccomp(_ bytes: [UInt8]) {
    guard let profile: SeccompProfile = record(bytes) else { return }
    for capabilities in [[], ["CAP_SYS_ADMIN", "CAP_BPF"]] as [Set<String>] {
        if let filter = try? profile.resolve(capabilities: capabilities) { compile(filter) }
    }
}

private func compile(_ filter: Spec.Seccomp) {
    guard let program = try? SeccompProgram(compiling: filter) else { return }
    // struct sock_filter has eight bytes; the kernel takes no more than BPF_MAXINSNS of them, which is its to refuse.
    expect(!program.instructions.isEmpty && program.instructions.count % 8 == 0, "a filter is whole instructions")
}
