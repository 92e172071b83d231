// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

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

/// The two numbers of a kernel's release that profiles know.
public struct KernelVersion: Sendable, Equatable, Comparable {
    public var major: Int
    public var minor: Int

    public init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Parses `4.8`; `nil` for anything else, also for `4` and `4.8.1`.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { part in
            part.allSatisfy { $0.isASCII && $0.isNumber } ? Int(part) : nil
        }
        guard parts.count == 2, let major = parts[0], let minor = parts[1] else { return nil }
        self.init(major, minor)
    }

    /// The running kernel's version.
    static var running: KernelVersion {
        var name = utsname()
        guard uname(&name) == 0 else { return KernelVersion(0, 0) }
        return withUnsafeBytes(of: name.release) { KernelVersion(release: $0.prefix { $0 != 0 }) }
    }

    /// Takes the leading numbers of a release such as `6.18.44-1-amd64`.
    init(release: some Sequence<UInt8>) {
        var numbers = [0, 0]
        var index = 0
        for byte in release {
            if byte == UInt8(ascii: "."), index == 0 {
                index = 1
            } else if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), numbers[index] < 1_000_000 {
                numbers[index] = numbers[index] * 10 + Int(byte - UInt8(ascii: "0"))
            } else {
                break
            }
        }
        self.init(numbers[0], numbers[1])
    }

    public static func < (left: KernelVersion, right: KernelVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }
}
