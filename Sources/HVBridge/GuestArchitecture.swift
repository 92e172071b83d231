// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A processor architecture that a virtual machine may have.
public enum GuestArchitecture: String, Sendable, Equatable, CaseIterable {
    case amd64 = "x86_64"
    case i386, aarch64, armv7, riscv64, ppc64le, s390x

    /// The architecture that this program was compiled for, `nil` for one that no machine here can have.
    public static var host: GuestArchitecture? {
        #if arch(x86_64)
        .amd64
        #elseif arch(i386)
        .i386
        #elseif arch(arm64)
        .aarch64
        #elseif arch(arm)
        .armv7
        #elseif arch(riscv64)
        .riscv64
        #elseif arch(powerpc64le)
        .ppc64le
        #elseif arch(s390x)
        .s390x
        #else
        nil
        #endif
    }

    /// The name that image configurations use, Go's GOARCH.
    public var ociName: String {
        switch self {
        case .amd64: "amd64"
        case .i386: "386"
        case .aarch64: "arm64"
        case .armv7: "arm"
        case .riscv64: "riscv64"
        case .ppc64le: "ppc64le"
        case .s390x: "s390x"
        }
    }

    /// `nil` for names of architectures that no machine here can have.
    public init?(ociName: String) {
        guard let found = GuestArchitecture.allCases.first(where: { $0.ociName == ociName }) else { return nil }
        self = found
    }

    /// The emulator's name; it is in /usr/bin, or wherever the host's programs are.
    public var program: String {
        switch self {
        case .amd64: "qemu-system-x86_64"
        case .i386: "qemu-system-i386"
        case .aarch64: "qemu-system-aarch64"
        case .armv7: "qemu-system-arm"
        case .riscv64: "qemu-system-riscv64"
        case .ppc64le: "qemu-system-ppc64"
        case .s390x: "qemu-system-s390x"
        }
    }

    /// Debian's package that has ``program``.
    public var programPackage: String {
        switch self {
        case .amd64, .i386: "qemu-system-x86"
        case .aarch64, .armv7: "qemu-system-arm"
        case .ppc64le: "qemu-system-ppc"
        case .riscv64, .s390x: "qemu-system-misc"
        }
    }

    /// Debian's package of the firmware that starts a system from a disk; UEFI where the architecture has it.
    public var firmwarePackage: String {
        switch self {
        case .amd64: "ovmf"
        case .i386: "ovmf-ia32"
        case .aarch64: "qemu-efi-aarch64"
        case .armv7: "qemu-efi-arm"
        case .riscv64: "u-boot-qemu"
        case .ppc64le, .s390x: "qemu-system-data"
        }
    }

    /// The board of a full machine, with firmware and disks.
    public var board: MachineBoard {
        switch self {
        case .amd64, .i386: .q35
        case .aarch64, .armv7, .riscv64: .virt
        case .ppc64le: .pseries
        case .s390x: .s390ccw
        }
    }

    /// The board that enters a kernel soonest.
    public var microBoard: MachineBoard {
        isX86 ? .microvm : board
    }

    /// Whether this is x86 with 32 or 64 bits.
    public var isX86: Bool { self == .amd64 || self == .i386 }

    /// Whether the processor of a `host` can run a guest of this architecture by itself. An x86-64 runs i386 guests; not
    /// every 64-bit ARM runs 32-bit kernels, so that none is trusted to.
    public func runsNatively(on host: GuestArchitecture?) -> Bool {
        host == self || host == .amd64 && self == .i386
    }
}

/// What QEMU calls a machine: the devices that are soldered on, and the buses for others.
public enum MachineBoard: String, Sendable, Equatable, CaseIterable {
    /// A PC with PCI Express.
    case q35
    /// x86 without PCI: virtio devices in memory, nothing else.
    case microvm
    /// The board of ARM and RISC-V guests.
    case virt
    /// POWER below a hypervisor.
    case pseries
    /// IBM Z with virtio on channels.
    case s390ccw

    /// QEMU's name, which stands for the newest version of the board that it has.
    public var name: String { self == .s390ccw ? "s390-ccw-virtio" : rawValue }

    /// How names of fixed versions begin: `pc-q35-7.2`. `nil`: the board has none.
    public var versionPrefix: String? {
        switch self {
        case .q35: "pc-q35-"
        case .microvm: nil
        case .virt: "virt-"
        case .pseries: "pseries-"
        case .s390ccw: "s390-ccw-virtio-"
        }
    }
}
