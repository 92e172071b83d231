// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// An eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` that decides by rules of which the last match wins.
struct DeviceProgram {
    /// One `struct bpf_insn` each.
    private(set) var instructions: [UInt64] = []

    init(_ rules: [Spec.DeviceRule]) {
        // struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor. R1 points to it.
        append(0x61, 2, 1)  // r2 = type, with the access above
        append(0xbf, 3, 2)  // r3 = r2
        append(0x57, 2, immediate: 0xffff)
        append(0x77, 3, immediate: 16)  // r3 = access
        append(0x61, 4, 1, offset: 4)  // r4 = major
        append(0x61, 5, 1, offset: 8)  // r5 = minor
        for rule in rules.reversed() {
            append(rule)
            // It decides everything that is left; the verifier refuses code that is never reached.
            if DeviceProgram.isUnconditional(rule) { return }
        }
        // No rule matches: as a new version 1 group, everything is allowed.
        finish(allow: true)
    }

    private static func isUnconditional(_ rule: Spec.DeviceRule) -> Bool {
        (rule.type ?? "a") == "a" && (rule.major ?? -1) < 0 && (rule.minor ?? -1) < 0 && accessMask(rule.access) == 7
    }

    private mutating func append(_ rule: Spec.DeviceRule) {
        var tests: [(code: UInt8, register: UInt8, value: Int32)] = []
        switch rule.type {
        case "b": tests.append((0x55, 2, 1))  // jne
        case "c", "u": tests.append((0x55, 2, 2))
        default: break
        }
        if let major = rule.major, major >= 0 { tests.append((0x55, 4, Int32(truncatingIfNeeded: major))) }
        if let minor = rule.minor, minor >= 0 { tests.append((0x55, 5, Int32(truncatingIfNeeded: minor))) }
        let mask = DeviceProgram.accessMask(rule.access)
        // Tests on type and numbers, two or three instructions for the access, two for the verdict.
        let accessLength = mask == 7 ? 0 : 3
        let end = tests.count + accessLength + 2
        for (index, test) in tests.enumerated() {
            append(test.code, test.register, offset: Int16(end - index - 1), immediate: test.value)
        }
        if mask != 7 {
            append(0xbf, 6, 3)  // r6 = access
            // Allowed is only what the rule allows whole; denied is what it denies in part.
            append(0x57, 6, immediate: rule.allow ? ~mask : mask)
            append(rule.allow ? 0x55 : 0x15, 6, offset: 2, immediate: 0)
        }
        finish(allow: rule.allow)
    }

    private mutating func finish(allow: Bool) {
        append(0xb7, 0, immediate: allow ? 1 : 0)
        append(0x95, 0)
    }

    private mutating func append(
        _ code: UInt8, _ destination: UInt8, _ source: UInt8 = 0, offset: Int16 = 0, immediate: Int32 = 0
    ) {
        let registers = UInt64(source << 4 | destination)
        instructions.append(
            UInt64(code) | registers << 8 | UInt64(UInt16(bitPattern: offset)) << 16
                | UInt64(UInt32(bitPattern: immediate)) << 32)
    }

    /// `BPF_DEVCG_ACC_MKNOD`, `_READ`, `_WRITE`.
    private static func accessMask(_ access: String?) -> Int32 {
        guard let access else { return 7 }
        return (access.contains("m") ? 1 : 0) | (access.contains("r") ? 2 : 0) | (access.contains("w") ? 4 : 0)
    }
}
