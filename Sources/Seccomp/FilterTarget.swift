// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// The machine that a profile is resolved for: profiles may say different things for different machines and kernels.
public struct FilterTarget: Sendable, Equatable {
    /// The name in `includes.arches` of a profile, which is Go's, such as `amd64`.
    public var architecture: String
    /// libseccomp's name in a profile's `archMap`, such as `SCMP_ARCH_X86_64`.
    public var token: String
    public var kernel: KernelVersion

    public init(architecture: String, token: String, kernel: KernelVersion) {
        self.architecture = architecture
        self.token = token
        self.kernel = kernel
    }

    /// The running machine.
    public static var current: FilterTarget {
        #if arch(x86_64)
        FilterTarget(architecture: "amd64", token: "SCMP_ARCH_X86_64", kernel: .running)
        #elseif arch(arm64)
        FilterTarget(architecture: "arm64", token: "SCMP_ARCH_AARCH64", kernel: .running)
        #elseif arch(riscv64)
        FilterTarget(architecture: "riscv64", token: "SCMP_ARCH_RISCV64", kernel: .running)
        #elseif arch(powerpc64le)
        FilterTarget(architecture: "ppc64le", token: "SCMP_ARCH_PPC64LE", kernel: .running)
        #elseif arch(s390x)
        FilterTarget(architecture: "s390x", token: "SCMP_ARCH_S390X", kernel: .running)
        #endif
    }
}
