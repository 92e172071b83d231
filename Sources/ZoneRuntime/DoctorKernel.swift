// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// Whether the kernel can do what zones need.
enum DoctorKernel {
    /// mount_setattr(2), without which zonectl cannot protect its own file.
    private static let oldest = KernelVersion(5, 12)

    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [
            version(KernelVersion.running, release: host.line("/proc/sys/kernel/osrelease") ?? "unknown"), calls(),
            namespaces(), overlay(host), seccomp(host), executable(host), capabilities(host), securityModules(host),
        ]
    }

    static func version(_ version: KernelVersion, release: String) -> DoctorFinding {
        let check = "kernel.version"
        if version >= oldest { return .ok(check, "Linux \(release)") }
        return .problem(
            check, "Linux \(release)", affects: "zones do not start",
            fix: "boot Linux \(oldest.major).\(oldest.minor) or newer")
    }

    /// A container's filter may hide calls that the kernel has.
    static func calls(isMissing: (CInt) -> Bool = { zn_needed_call_is_missing($0) }) -> DoctorFinding {
        let check = "kernel.calls"
        var missing: [String] = []
        var index: CInt = 0
        while let name = zn_needed_call(index) {
            if isMissing(index) { missing.append(String(cString: name)) }
            index += 1
        }
        if missing.isEmpty { return .ok(check, "all system calls are there that zones need") }
        let isOld = KernelVersion.running < oldest
        return .problem(
            check, "the kernel does not answer \(missing.joined(separator: ", "))", affects: "zones do not start",
            fix: isOld
                ? "boot Linux \(oldest.major).\(oldest.minor) or newer"
                : "a seccomp filter hides them: start zonectl outside of that container, or allow them in its profile")
    }

    private static func namespaces() -> DoctorFinding {
        let check = "kernel.namespaces"
        let kinds = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"]
        let missing = kinds.filter { (try? FileStatus.of("/proc/self/ns/\($0)", followLinks: false)) == nil }
        if missing.isEmpty { return .ok(check, "all eight namespaces") }
        let options = missing.map { kind in kind == "mnt" ? "CONFIG_NAMESPACES" : "CONFIG_\(kind.uppercased())_NS" }
        let fix = "boot a kernel with \(options.joined(separator: ", "))"
        let found = "the kernel has no namespaces of \(missing.joined(separator: ", "))"
        let needed = missing.filter { ["mnt", "pid", "net", "ipc", "uts"].contains($0) }
        return needed.isEmpty
            ? .warning(check, found, affects: "zones that ask for them, and zones of ordinary users", fix: fix)
            : .problem(check, found, affects: "zones do not start", fix: fix)
    }

    static func overlay(_ host: DoctorHost) -> DoctorFinding {
        let check = "kernel.overlay"
        let known = host.text("/proc/filesystems") ?? ""
        let hasOverlay = known.split(separator: "\n").contains { $0.split(separator: "\t").last == "overlay" }
        if hasOverlay { return .ok(check, "the overlay file system is there") }
        return .warning(
            check, "the kernel does not know the overlay file system", affects: DoctorStorage.copies,
            fix: "modprobe overlay; for good: echo overlay > /etc/modules-load.d/overlay.conf")
    }

    static func seccomp(_ host: DoctorHost) -> DoctorFinding {
        let check = "kernel.seccomp"
        if let actions = host.line("/proc/sys/kernel/seccomp/actions_avail"), actions.holds("errno") {
            return .ok(check, "filters of system calls are there")
        }
        return .problem(
            check, "the kernel has no filters of system calls", affects: "zones start only with seccomp=unconfined",
            fix: "boot a kernel with CONFIG_SECCOMP_FILTER")
    }

    /// The way by which CStart makes its own file read-only: on a copy of the mount that nobody sees.
    private static func executable(_ host: DoctorHost) -> DoctorFinding {
        let check = "kernel.executable"
        guard host.isRoot else { return .skipped(check, "only root can try it: every start of a zone does") }
        let tree = zn_open_tree(AT_FDCWD, "/proc/self/exe", false)
        guard tree >= 0 else { return protectionFails(check, tree) }
        let copy = Descriptor(owning: tree)
        let result = zn_mount_setattr(copy.raw, false, UInt64(ZN_MOUNT_ATTR_RDONLY), 0, 0)
        if result < 0 { return protectionFails(check, result) }
        return .ok(check, "zonectl's own file can be protected from zones")
    }

    private static func protectionFails(_ check: String, _ result: CInt) -> DoctorFinding {
        .problem(
            check, "zonectl's own file cannot be protected from zones: \(Errno(rawValue: -result).message)",
            affects: "zones do not start",
            fix: "this needs CAP_SYS_ADMIN, /proc, and Linux 5.12: in a container start it with these")
    }

    // MARK: Capabilities

    static func capabilities(_ host: DoctorHost) -> DoctorFinding {
        let check = "kernel.capabilities"
        guard host.isRoot else { return .skipped(check, "an ordinary user has them in the zone's user namespace only") }
        guard let set = effective(host.text("/proc/self/status") ?? "") else {
            return .skipped(check, "/proc/self/status does not tell")
        }
        let missing = (0..<64).filter { Capability.all >> UInt64($0) & 1 == 1 || needed.contains($0) }
            .filter { set >> UInt64($0) & 1 == 0 }
        if missing.isEmpty { return .ok(check, "root has all capabilities") }
        let names = missing.map { Capability.name(of: $0) ?? String($0) }
        let found = "root lacks \(names.joined(separator: ", "))"
        let fix = "start zonectl outside of the container that lacks them, or give them to it (--cap-add)"
        let fatal = missing.filter(needed.contains)
        if !fatal.isEmpty { return .problem(check, found, affects: "zones do not start", fix: fix) }
        let affects = missing.map { lost[$0] ?? "zones that ask for \(Capability.name(of: $0) ?? String($0))" }
        return .warning(check, found, affects: affects.joined(separator: "; "), fix: fix)
    }

    // Numbers of linux/capability.h: SYS_ADMIN; SETGID, SETUID, SETPCAP, SYS_CHROOT.
    private static let needed = [21, 6, 7, 8, 18]
    private static let lost = [
        24: "limits above the present hard ones (--ulimit), a lower oom_score_adj",  // SYS_RESOURCE
        27: "devices (--device)",  // MKNOD
        12: "networks of zones' own",  // NET_ADMIN
    ]

    /// The line CapEff of proc_pid_status(5).
    static func effective(_ status: String) -> UInt64? {
        for line in status.split(separator: "\n") {
            guard let value = String(line).after("CapEff:") else { continue }
            return UInt64(value.filter { $0 != "\t" && $0 != " " }, radix: 16)
        }
        return nil
    }

    static func securityModules(_ host: DoctorHost) -> DoctorFinding {
        let check = "kernel.security"
        if host.line("/sys/fs/selinux/enforce") == "1" {
            return .warning(
                check, "SELinux enforces its rules", affects: "zones may be refused files of the host's (-v)",
                fix: "label them: chcon -R -t container_file_t DIR")
        }
        let active = host.line("/sys/kernel/security/lsm") ?? ""
        return .ok(check, active.isEmpty ? "no security module is known to be active" : "active: \(active)")
    }
}
