// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import LinuxSystem

/// Address translation and names.
enum DoctorNetwork {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [
            tables(host),
            DoctorTools.tool("network.dnsmasq", "dnsmasq", "dnsmasq-base", "names and addresses for networks", host),
        ] + obstacles(host)
    }

    /// What rules of others do to the networks that there are.
    static func obstacles(_ host: DoctorHost) -> [DoctorFinding] {
        guard host.isRoot, host.program("nft") != nil else { return [] }
        let store = NetworkStore(host.folders)
        return ((try? store.list()) ?? []).flatMap { network in
            NetworkBridge(store).found(network).map { obstacle in
                .warning(
                    "network.rules", "network \(network.name): \(obstacle.detail)", affects: "zones of that network",
                    fix: obstacle.hint)
            }
        }
    }

    static func tables(_ host: DoctorHost) -> DoctorFinding {
        let check = "network.nftables"
        let affects = "published ports, networks of zones' own"
        guard host.program("nft") != nil else {
            return .warning(check, "nft is not installed", affects: affects, fix: host.install("nftables"))
        }
        if !host.isRoot { return .skipped(check, "nft is installed; only root may ask the kernel") }
        // Lists, and changes nothing.
        guard host.succeeds("nft", ["list", "tables"]) else {
            return .warning(
                check, "nft is installed, but the kernel does not answer it", affects: affects,
                fix: "modprobe nf_tables, or boot a kernel with CONFIG_NF_TABLES; in a container give it CAP_NET_ADMIN")
        }
        return .ok(check, "nft is installed, and the kernel answers it")
    }
}

/// Virtual machines.
enum DoctorMachines {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [
            kvm(KVMSupport.probe(), host),
            DoctorTools.tool("machines.qemu", emulator, "qemu-system-\(package)", "virtual machines", host),
            DoctorTools.tool("machines.qemu-img", "qemu-img", "qemu-utils", "disk images of virtual machines", host),
            DoctorTools.tool("machines.swtpm", "swtpm", "swtpm", "virtual machines with a TPM", host),
        ]
    }

    #if arch(arm64)
    private static let (emulator, package) = ("qemu-system-aarch64", "arm")
    #else
    private static let (emulator, package) = ("qemu-system-x86_64", "x86")
    #endif

    static func kvm(_ support: KVMSupport, _ host: DoctorHost) -> DoctorFinding {
        let check = "machines.kvm"
        let affects = "virtual machines are emulated, many times slower"
        switch support {
        case .usable: return .ok(check, "KVM runs guests")
        case .absent:
            return .warning(
                check, "there is no /dev/kvm", affects: affects,
                fix:
                    "turn on VT-x or AMD-V in the firmware, in a virtual machine nested virtualisation, in a container "
                    + "--device /dev/kvm; then modprobe kvm_intel or kvm_amd")
        case .notPermitted:
            return .warning(
                check, "/dev/kvm is there, but you may not open it", affects: affects,
                fix: "as root: usermod -aG kvm \(host.userName); then log in again")
        case .unusable(let reason):
            return .warning(
                check, "/dev/kvm is there, but does not run guests: \(reason)", affects: affects,
                fix: "use a machine whose KVM has hardware behind it; until then emulation is used")
        }
    }
}

/// Programs that do one thing each, and are asked for by that thing only.
enum DoctorTools {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [
            tool("tools.skopeo", "skopeo", "skopeo", "images from registries", host),
            tool("tools.igzip", "igzip", "isal", "images are unpacked in twice the time", host),
            tool("tools.criu", "criu", "criu", "checkpoint and restore", host), lxcfs(host),
        ]
    }

    static func tool(
        _ check: String, _ program: String, _ package: String, _ affects: String, _ host: DoctorHost
    ) -> DoctorFinding {
        if let path = host.program(program) { return .ok(check, path) }
        return .warning(check, "\(program) is not installed", affects: affects, fix: host.install(package))
    }

    /// It is of use only while it is mounted.
    static func lxcfs(_ host: DoctorHost) -> DoctorFinding {
        let check = "tools.lxcfs"
        let affects = "zones see the host's memory and load in /proc, not their own"
        if host.text("/var/lib/lxcfs/proc/uptime") != nil { return .ok(check, "LXCFS is mounted at /var/lib/lxcfs") }
        if host.program("lxcfs") == nil {
            return .warning(check, "lxcfs is not installed", affects: affects, fix: host.install("lxcfs"))
        }
        return .warning(
            check, "lxcfs is installed and does not run", affects: affects,
            fix: "systemctl start lxcfs; without systemd: lxcfs /var/lib/lxcfs")
    }
}
