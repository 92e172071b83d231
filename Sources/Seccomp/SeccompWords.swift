// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CSeccomp

/// The words of a profile that are known here, for who asks what a runtime supports.
extension SeccompProgram {
    public static let actions = [
        "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
    ]

    public static let operators = [
        "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
    ]

    public static let knownFlags = [
        "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]

    /// What the kernel is asked for by a flag; nil where it is not asked.
    public static func bits(ofFlag name: String) -> UInt32? {
        switch name {
        case "SECCOMP_FILTER_FLAG_LOG": FilterFlag.log
        case "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FilterFlag.allowSpeculation
        // Only known together with the listener that it is about.
        case "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FilterFlag.waitKillable | FilterFlag.newListener
        default: nil
        }
    }

    /// Those of the specification's that this libseccomp knows.
    public static var architectures: [String] {
        let names = [
            "AARCH64", "ARM", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64",
            "PPC64LE", "RISCV64", "S390", "S390X", "X32", "X86", "X86_64",
        ]
        return names.filter { seccomp_arch_resolve_name($0.lowercased()) != 0 }.map { "SCMP_ARCH_" + $0 }
    }
}
