// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem

/// The service that a keeper is the main process of: what its supervisor is told, and where the zone's groups go.
struct KeeperService: Sendable {
    /// See ``ZoneLifecycle/staysStopped``.
    static let staysStopped = ZoneLifecycle.staysStopped

    private let notifier: ServiceNotifier?
    /// The unit's name, such as `zone@web.service`; nil where there is none.
    let unit: String?
    /// The group for the zone's, relative to the hierarchy's root; nil for the one where all zones' are.
    let cgroup: String?

    /// Finds out who supervises this process. On a host with version 2 alone, in a group that systemd has given away
    /// (`Delegate=yes`), the keeper moves into a group of its own below it, as groups with controllers have no processes:
    /// limits of the unit then hold for the zone, too.
    static func enter() throws(ZoneError) -> KeeperService {
        let notifier = ServiceNotifier.take()
        // An ordinary user's zone does without groups.
        guard !Rootless.isInside, isMainProcess ?? (notifier != nil) else {
            return KeeperService(notifier: notifier, unit: nil, cgroup: nil)
        }
        do throws(SystemError) {
            let unit = try ServiceGroup.unit()
            guard unit != nil, let group = try ServiceGroup.delegated(CGroupLayout.ofHost()) else {
                return KeeperService(notifier: notifier, unit: unit, cgroup: nil)
            }
            try group.enter("keeper")
            return KeeperService(notifier: notifier, unit: unit, cgroup: group.path + "/zone")
        } catch {
            throw ZoneError("use the service's control group", error)
        }
    }

    /// Whether systemd has executed this very process, and not one above it; nil where it does not say (before 248).
    private static var isMainProcess: Bool? {
        getenv("SYSTEMD_EXEC_PID").map { String(cString: $0) == String(getpid()) }
    }

    // A supervisor that is gone needs no word.

    /// The zone's program runs.
    func ready(_ zone: String, pid: Int32) {
        try? notifier?.send(["READY=1", "STATUS=Zone \(zone) runs, first process \(pid)", "MAINPID=\(getpid())"])
    }

    /// The zone was asked to end, and is killed in so many milliseconds: systemd is to wait that long, and somewhat longer.
    func stopping(_ zone: String, milliseconds: Int64) {
        let microseconds = (milliseconds + 15_000) * 1000
        try? notifier?.send([
            "STOPPING=1", "STATUS=Zone \(zone) is asked to end", "EXTEND_TIMEOUT_USEC=\(microseconds)",
        ])
    }

    /// For `systemctl status`.
    func status(_ text: String) {
        try? notifier?.send(["STATUS=\(text)"])
    }
}
