// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Namespaces
import OCI

/// What a zone gets unless told otherwise: docker's sets, because images are made for them.
enum DefaultProfile {
    static let capabilities = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
        "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]

    static let maskedPaths = [
        "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]

    static let readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

    static let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    static let namespaces: [Spec.Namespace] = [
        .init(.pid), .init(.network), .init(.ipc), .init(.uts), .init(.mount), .init(.cgroup),
    ]

    static let mounts: [Spec.Mount] = [
        .init(destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"]),
        .init(
            destination: "/dev", type: "tmpfs", source: "tmpfs",
            options: ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        .init(
            destination: "/dev/pts", type: "devpts", source: "devpts",
            options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        .init(
            destination: "/dev/shm", type: "tmpfs", source: "shm",
            options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        .init(
            destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"]),
        .init(
            destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"]),
        .init(
            destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup",
            options: ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]

    /// The same for an ordinary user, who has no control groups to show, may mount sysfs only for a network namespace of
    /// one's own, and may lack the group 5 of terminals.
    static func mountsOfUsers(sharesNetwork: Bool, hasTerminalGroup: Bool) -> [Spec.Mount] {
        mounts.filter { $0.type != "cgroup" }.map { mount in
            var mount = mount
            if mount.type == "sysfs", sharesNetwork {
                mount = .init(
                    destination: "/sys", type: "none", source: "/sys",
                    options: ["rbind", "nosuid", "noexec", "nodev", "ro"])
            }
            if mount.type == "devpts", !hasTerminalGroup { mount.options.removeAll { $0.hasPrefix("gid=") } }
            return mount
        }
    }

    /// The nodes that the runtime specification demands, config-linux.md "Default Devices".
    static let devices: [DevicePlan] = [
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    ].map { name, major, minor in
        DevicePlan(path: "/dev/\(name)", major: major, minor: minor, isDefault: true)
    }

    /// Deny everything, then allow making any node and using the harmless ones and terminals.
    static let deviceRules: [Spec.DeviceRule] = [.init(allow: false, access: "rwm")] + harmlessDevices

    private static let harmlessDevices: [Spec.DeviceRule] =
        [.init(allow: true, type: "c", access: "m"), .init(allow: true, type: "b", access: "m")]
        + [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1)].map { major, minor in
            .init(allow: true, type: "c", major: major, minor: minor, access: "rwm")
        }

    /// A bundle's rules: what they do not allow is denied, except what every zone must have, as in runc.
    static func completed(_ rules: [Spec.DeviceRule]) -> [Spec.DeviceRule] {
        [.init(allow: false, access: "rwm")] + rules + harmlessDevices
    }
}
