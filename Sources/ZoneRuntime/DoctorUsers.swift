// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// What zones of ordinary users need: user namespaces, subordinate ids, the programs that map them. Root needs none of it,
/// so that for root nothing of this is a problem.
enum DoctorUsers {
    static func findings(_ host: DoctorHost) -> [DoctorFinding] {
        [namespaces(host), subordinate(host), programs(host)]
    }

    // MARK: User namespaces

    static func namespaces(_ host: DoctorHost, canMake: () -> Bool = canMakeNamespace) -> DoctorFinding {
        let check = "users.namespaces"
        for (file, refusal, fix) in switches where host.line(file) == refusal {
            let name = file.after("/proc/sys/")?.map { $0 == "/" ? "." : String($0) }.joined() ?? file
            let found = "\(name) is \(refusal): ordinary users may not make user namespaces"
            return refused(host, check, found, "sysctl -w \(fix), and in /etc/sysctl.d for good")
        }
        if !host.isRoot, !canMake() {
            return refused(
                host, check, "the kernel refuses a user namespace to you",
                "look at sysctl user.max_user_namespaces, and whether zonectl is in a container itself")
        }
        return .ok(check, "ordinary users may make user namespaces")
    }

    /// Files, what they hold where they forbid it, and what would allow it.
    private static let switches = [
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        // Debian's and Ubuntu's own.
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
            "kernel.apparmor_restrict_unprivileged_userns=0"
        ),
    ]

    private static func refused(_ host: DoctorHost, _ check: String, _ found: String, _ fix: String) -> DoctorFinding {
        host.isRoot
            ? .warning(check, found, affects: "zones of ordinary users", fix: fix)
            : .problem(check, found, affects: "your zones do not start", fix: fix)
    }

    /// Tried by a process of its own, which ends with it.
    private static func canMakeNamespace() -> Bool {
        let child = zn_fork()
        if child == 0 { _exit(zn_unshare(CLONE_NEWUSER) < 0 ? 1 : 0) }
        guard child > 0, let process = try? ProcessHandle(pid: child), let status = try? process.wait() else {
            return false
        }
        return status == .exited(0)
    }

    // MARK: Subordinate ids

    static func subordinate(_ host: DoctorHost) -> DoctorFinding {
        let check = "users.ids"
        let users = host.text("/etc/subuid") ?? ""
        let groups = host.text("/etc/subgid") ?? ""
        if host.isRoot {
            let names = owners(users).filter(owners(groups).contains)
            if names.isEmpty {
                return .warning(
                    check, "no user has subordinate ids in /etc/subuid and /etc/subgid",
                    affects: "zones of ordinary users have one user only",
                    fix: "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER")
            }
            return .ok(check, "users with subordinate ids: \(names.joined(separator: ", "))")
        }
        let name = SubordinateIDs.name(of: host.uid, in: host.text("/etc/passwd") ?? "")
        // Summed with room: a file may give the whole range many times.
        let counts = [users, groups].map { text in
            SubordinateIDs.ranges(text, user: host.uid, name: name).reduce(into: UInt64(0)) { $0 += UInt64($1.count) }
        }
        let fix = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \(host.userName)"
        guard let fewest = counts.min(), fewest > 0 else {
            return .warning(
                check, "/etc/subuid or /etc/subgid gives \(host.userName) no ids",
                affects: "your zones have one user only", fix: fix)
        }
        if fewest < 65_536 {
            return .warning(
                check, "/etc/subuid and /etc/subgid give \(host.userName) \(fewest) ids",
                affects: "users of images with higher numbers, such as nobody (65534)", fix: fix)
        }
        return .ok(check, "\(host.userName) has \(fewest) subordinate ids")
    }

    private static func owners(_ text: String) -> [String] {
        var names: [String] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 3, !names.contains(String(fields[0])) else { continue }
            names.append(String(fields[0]))
        }
        return names
    }

    static func programs(_ host: DoctorHost) -> DoctorFinding {
        let check = "users.newuidmap"
        let missing = ["newuidmap", "newgidmap"].filter { host.program($0) == nil }
        if missing.isEmpty { return .ok(check, "newuidmap and newgidmap are installed") }
        return .warning(
            check, "not installed: \(missing.joined(separator: ", "))",
            affects: host.isRoot ? "zones of ordinary users have one user only" : "your zones have one user only",
            fix: host.install("uidmap"))
    }
}
