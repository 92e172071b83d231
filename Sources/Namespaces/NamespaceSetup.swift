// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Which namespaces the kernel makes with the child, and which the child joins and makes itself.
struct NamespaceSetup {
    private let new: NamespaceSet
    private let hasJoins: Bool
    private let joinsPid: Bool
    private let joinsUser: Bool

    init(_ plan: borrowing LaunchPlan) {
        new = plan.newNamespaces
        hasJoins = !plan.joins.isEmpty
        joinsPid = plan.joins.contains { $0.kinds.contains(.pid) }
        joinsUser = plan.joins.contains { $0.kinds.contains(.user) }
    }

    /// Whether the child makes all new ones itself. What exists is joined with the host's rights before a new user
    /// namespace takes them away; and what is new must belong to the user namespace that is joined.
    private var isStaged: Bool { joinsUser || hasJoins && new.contains(.user) }

    /// For clone3(2). A new cgroup namespace takes the caller's groups as its root, so the child makes it once it is in
    /// them; offsets of a new time namespace can only be set while nobody is in it.
    var forClone: NamespaceSet { isStaged ? [] : new.subtracting([.cgroup, .time]) }

    /// A pid namespace is entered by being born in it.
    private var needsBirth: Bool { joinsPid || isStaged && new.contains(.pid) }

    /// In the child: joins and makes namespaces, with what the parent has to do in between, and returns in the process
    /// that is in all of them.
    func enter(_ plan: borrowing LaunchPlan, _ channel: borrowing Channel) throws(LaunchFailure) {
        try join(plan)
        if isStaged, new.contains(.user) { try attempt(.namespaces, zn_unshare(NamespaceSet.user.flags)) }
        if new.contains(.time) { try attempt(.namespaces, zn_unshare(NamespaceSet.time.flags)) }
        if plan.needsParent {
            // Until the parent has written the maps, which it can only do for one that it may look into.
            try ChildSetup.ask(.unshared, channel)
        }
        hide()
        if new.contains(.user) || joinsUser && !plan.entersRunningZone { try becomeRoot() }
        if new.contains(.time) { try enterTime() }
        let rest = isStaged ? new.subtracting([.user, .time]) : new.intersection(.cgroup)
        if !rest.isEmpty { try attempt(.namespaces, zn_unshare(rest.flags)) }
        if needsBirth, !plan.entersRunningZone {
            try ChildSetup.handOver(channel)
        }
    }

    /// No process of the zone may look into this one: until execve it still is the host's program.
    func hide() {
        _ = zn_prctl(4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0)
    }

    /// Joins what exists. The user namespace decides what may be done to the others: it comes first for those that
    /// belong to it, but after those that only the host's root may join. The mount namespace comes last, as it changes
    /// what paths mean.
    private func join(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        var waiting: [Int] = []
        for (index, join) in plan.joins.enumerated() where !join.kinds.contains(.user) {
            // For `exec` the pid namespace comes last of all: see ChildSetup.
            let kinds = plan.entersRunningZone ? join.kinds.subtracting(.pid) : join.kinds
            if kinds.isEmpty { continue }
            let result = zn_setns(join.descriptor, kinds.flags)
            if result == -EPERM, joinsUser {
                waiting.append(index)
            } else {
                try attempt(.joinNamespace, result, index: index)
            }
        }
        for (index, join) in plan.joins.enumerated() where join.kinds.contains(.user) {
            let kinds = plan.entersRunningZone ? join.kinds.subtracting(.pid) : join.kinds
            var result = zn_setns(join.descriptor, kinds.flags)
            if result == -EINVAL {
                // The kernel refuses the user namespace that one is in already.
                let others = kinds.subtracting(.user)
                if others.isEmpty { continue }
                result = zn_setns(join.descriptor, others.flags)
            }
            try attempt(.joinNamespace, result, index: index)
        }
        for index in waiting {
            let join = plan.joins[index]
            try attempt(.joinNamespace, zn_setns(join.descriptor, join.kinds.flags), index: index)
        }
    }

    /// The caller's ids mean nothing in the zone's user namespace.
    private func becomeRoot() throws(LaunchFailure) {
        let groups: [gid_t] = []
        let result = zn_setgroups(0, groups)
        // Denied to who mapped only the own group, who keeps the groups: user_namespaces(7).
        if result != -EPERM { try attempt(.becomeRoot, result) }
        try attempt(.becomeRoot, zn_setresgid(0))
        try attempt(.becomeRoot, zn_setresuid(0))
    }

    private func enterTime() throws(LaunchFailure) {
        // The host's procfs still is at /proc: its root has not been left.
        let flags = OpenFlags([.readOnly, .closeOnExec]).rawValue
        let raw = zn_openat(AT_FDCWD, "/proc/self/ns/time_for_children", flags, 0)
        let namespace = Descriptor(owning: try attempt(.namespaces, raw))
        try attempt(.namespaces, zn_setns(namespace.raw, NamespaceSet.time.flags))
    }
}
