// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem

/// Control groups: which there are, what they limit, and who may use them.
enum DoctorGroups {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        let layout = (try? CGroupLayout.ofHost()) ?? CGroupLayout(unified: nil, legacy: [])
        let own = layout.unified.flatMap { host.line("\($0)/cgroup.controllers") }?.fields(" ") ?? []
        return [
            self.layout(layout, controllers: own), controllers(layout, controllers: own),
            delegation(host, layout), systemd(host, layout),
        ]
    }

    static func layout(_ layout: CGroupLayout, controllers: [String]) -> DoctorFinding {
        let check = "cgroups.layout"
        let boot = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
        switch (layout.unified, layout.legacy.isEmpty) {
        case (let path?, true): return .ok(check, "version 2 at \(path)")
        case (let path?, false):
            return .warning(
                check, "hybrid: version 1 with the controllers, version 2 at \(path)",
                affects: "systemd's groups for zones, limits for ordinary users, pressure (PSI)", fix: boot)
        case (nil, false):
            return .warning(
                check, "version 1", affects: "systemd's groups for zones, limits for ordinary users, killing at once",
                fix: boot)
        case (nil, true):
            return .problem(
                check, "no control groups are mounted", affects: "zones do not start",
                fix: "mount -t cgroup2 none /sys/fs/cgroup")
        }
    }

    /// What is limited by which controller.
    private static let uses = [
        ("cpu", "--cpus, --cpu-shares"), ("memory", "--memory"), ("pids", "--pids-limit"),
        ("cpuset", "--cpuset-cpus"), ("io", "limits of disk speed"),
    ]

    static func controllers(_ layout: CGroupLayout, controllers: [String]) -> DoctorFinding {
        let check = "cgroups.controllers"
        if layout.unified == nil, layout.legacy.isEmpty { return .skipped(check, "no control groups are mounted") }
        let legacy = layout.legacy.flatMap(\.controllers).map { $0 == "blkio" ? "io" : $0 }
        let there = controllers + legacy
        let missing = uses.filter { !there.contains($0.0) }
        if missing.isEmpty { return .ok(check, uses.map(\.0).joined(separator: ", ")) }
        let isMemory = missing.contains { $0.0 == "memory" }
        return .warning(
            check, "missing: \(missing.map(\.0).joined(separator: ", "))",
            affects: missing.map(\.1).joined(separator: ", "),
            fix: isMemory
                ? "boot with cgroup_enable=memory on the kernel's command line"
                : "boot a kernel with these controllers, and without cgroup_disable= for them")
    }

    // MARK: Ordinary users

    static func delegation(_ host: DoctorHost, _ layout: CGroupLayout) -> DoctorFinding {
        let check = "cgroups.delegation"
        if host.isRoot { return .skipped(check, "root has all groups") }
        guard let unified = layout.unified, layout.legacy.isEmpty else {
            return .warning(
                check, "version 1 control groups are not for ordinary users", affects: "limits of your zones",
                fix: "boot with version 2, see cgroups.layout")
        }
        let service = "\(unified)/user.slice/user-\(host.uid).slice/user@\(host.uid).service"
        guard let text = host.line("\(service)/cgroup.controllers") else {
            return .warning(
                check, "systemd has no groups for \(host.userName)", affects: "limits of your zones",
                fix: "log in through PAM, or as root: loginctl enable-linger \(host.userName)")
        }
        let delegated = text.fields(" ")
        let missing = uses.filter { !delegated.contains($0.0) }
        if missing.isEmpty { return .ok(check, "delegated to \(host.userName): \(text)") }
        return .warning(
            check, "not delegated to \(host.userName): \(missing.map(\.0).joined(separator: ", "))",
            affects: "for your zones: \(missing.map(\.1).joined(separator: ", "))",
            fix: "as root, write [Service] and Delegate=cpu cpuset io memory pids, on two lines, to "
                + "/etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload; log in again")
    }

    // MARK: systemd

    static func systemd(_ host: DoctorHost, _ layout: CGroupLayout) -> DoctorFinding {
        let check = "systemd.bus"
        // sd_booted(3) looks at the same.
        guard (try? FileStatus.of("/run/systemd/system", followLinks: false))?.kind == .directory else {
            return .skipped(check, "systemd does not run this machine (\(host.line("/proc/1/comm") ?? "unknown") does)")
        }
        let affects = "units for zones, and systemd's groups (--systemd-cgroup)"
        guard host.program("busctl") != nil else {
            return .warning(check, "busctl is not installed", affects: affects, fix: host.install("systemd"))
        }
        let words = ["--system", "--no-pager", "get-property", "org.freedesktop.systemd1"]
        let object = ["/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Version"]
        guard host.succeeds("busctl", words + object) else {
            return .warning(
                check, "systemd does not answer on D-Bus", affects: affects,
                fix: "\(host.install("dbus")); systemctl start dbus.socket")
        }
        return .ok(check, "systemd answers")
    }
}
