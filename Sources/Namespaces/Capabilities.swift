// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CCap
import CLinux
import Glibc
import LinuxSystem

/// Sets of capabilities as masks, bit n for capability n; see capabilities(7).
public struct CapabilityPlan: Sendable, Equatable {
    public var bounding: UInt64 = 0
    public var effective: UInt64 = 0
    public var permitted: UInt64 = 0
    public var inheritable: UInt64 = 0
    public var ambient: UInt64 = 0

    public init() {}
}

extension CapabilityPlan {
    /// What execve(2) leaves to a user; to others than root only what is ambient. Taken at once, so that the working
    /// directory is entered and the program found with that user's rights.
    func of(_ identity: Identity) -> CapabilityPlan {
        var plan = self
        if identity.uid == 0 { return plan }
        plan.effective &= ambient
        plan.permitted &= ambient
        return plan
    }
}

/// Names and numbers of capabilities.
public enum Capability {
    /// The number of a name such as `CAP_CHOWN` or `chown`; `nil` for one that libcap does not know.
    public static func number(of name: String) -> Int? {
        // Outside of ASCII there are letters, such as the sign of Kelvin, whose small letter is in it.
        guard name.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        let lower = name.lowercased()
        let full = lower.after("cap_") == nil ? "cap_" + lower : lower
        var value: cap_value_t = 0
        // libcap stops at the first character that is in no name: "chown,kill" would be chown alone.
        guard full.utf8.allSatisfy({ $0 >= 0x61 && $0 <= 0x7A || $0 == 0x5F }), cap_from_name(full, &value) == 0,
            value < 64
        else { return nil }
        return Int(value)
    }

    /// The name, `CAP_CHOWN` for 0.
    public static func name(of number: Int) -> String? {
        guard let text = cap_to_name(cap_value_t(number)) else { return nil }
        defer { cap_free(text) }
        return String(cString: text).uppercased()
    }

    /// Every capability that the running kernel has.
    public static var all: UInt64 {
        (0..<64).filter { zn_prctl(23 /* PR_CAPBSET_READ */, UInt($0), 0, 0, 0) >= 0 }.reduce(0) {
            $0 | 1 << UInt64($1)
        }
    }

    /// Whether the calling process may use one.
    public static func isEffective(_ number: CInt) -> Bool {
        guard let state = cap_get_proc() else { return false }
        defer { cap_free(UnsafeMutableRawPointer(state)) }
        var value = CAP_CLEAR
        return cap_get_flag(state, cap_value_t(number), CAP_EFFECTIVE, &value) == 0 && value == CAP_SET
    }

    /// CAP_SYS_RESOURCE, which some machines do not have at all.
    public static var mayOverrideLimits: Bool { isEffective(CAP_SYS_RESOURCE) }

    /// Those that the calling process may give to others (its bounding set).
    public static var available: UInt64 {
        var result: UInt64 = 0
        for number in 0..<64 {
            let answer = zn_prctl(23 /* PR_CAPBSET_READ */, UInt(number), 0, 0, 0)
            // The kernel knows no capability from here on.
            if answer < 0 { break }
            if answer == 1 { result |= 1 << UInt64(number) }
        }
        return result
    }
}

/// Gives up what the program must not have.
enum Privileges {
    static func setLimits(_ process: ProcessPlan) throws(LaunchFailure) {
        for (index, limit) in process.limits.enumerated() where try !isForLater(limit) {
            try attempt(.limit, zn_setrlimit(limit.resource, limit.soft, limit.hard), index: index)
        }
    }

    /// Lowers the number of descriptors, which stops even the set-up from opening anything.
    static func setDescriptorLimit(_ process: ProcessPlan) throws(LaunchFailure) {
        for (index, limit) in process.limits.enumerated() where try isForLater(limit) {
            try attempt(.limit, zn_setrlimit(limit.resource, limit.soft, limit.hard), index: index)
        }
    }

    private static func isForLater(_ limit: LimitPlan) throws(LaunchFailure) -> Bool {
        guard limit.resource == 7 /* RLIMIT_NOFILE */ else { return false }
        var soft: UInt64 = 0
        var hard: UInt64 = 0
        try attempt(.limit, zn_getrlimit(limit.resource, &soft, &hard))
        // Raising needs a right that is gone by then.
        return limit.hard <= hard
    }

    /// Changes to the user and reduces the capabilities to the plan's; only the right to load a filter stays, dormant,
    /// where ``settle(_:_:_:)`` will need it.
    static func drop(_ process: ProcessPlan, _ identity: Identity) throws(LaunchFailure) {
        // Keep permitted capabilities across the change of uid; execve clears the flag.
        try attempt(.setIdentity, zn_prctl(8 /* PR_SET_KEEPCAPS */, 1, 0, 0, 0))
        if let plan = process.capabilities { try dropBounding(plan) }
        try setGroups(identity.groups)
        try attempt(.setIdentity, zn_setresgid(identity.gid))
        try attempt(.setIdentity, zn_setresuid(identity.uid))
        if var plan = process.capabilities?.of(identity) {
            if needsRightToFilter(process) {
                plan.permitted |= rightToFilter
                plan.ambient = 0
            }
            try set(plan)
        }
        if process.setsNoNewPrivileges {
            try attempt(.noNewPrivileges, zn_prctl(38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0))
        }
    }

    /// Where an ordinary user mapped only the own group the kernel refuses to change the groups, even to none
    /// (user_namespaces(7)): then they stay, and mean nothing more than they did to that user.
    private static func setGroups(_ groups: [UInt32]) throws(LaunchFailure) {
        let result = zn_setgroups(groups.count, groups)
        if result == -EPERM, groups.isEmpty, hasEffective(CAP_SETGID) { return }
        try attempt(.groups, result)
    }

    private static func hasEffective(_ number: CInt) -> Bool { Capability.isEffective(number) }

    private static let rightToFilter: UInt64 = 1 << UInt64(CAP_SYS_ADMIN)

    /// Without no_new_privs a filter can only be loaded with CAP_SYS_ADMIN: seccomp(2).
    private static func needsRightToFilter(_ process: ProcessPlan) -> Bool {
        !process.setsNoNewPrivileges && process.seccomp != nil
    }

    /// The last of all rights go and the filter comes: nothing that a filter might refuse is done afterwards but what
    /// every runtime does then (capset, prctl, execve).
    static func settle(
        _ process: ProcessPlan,
        _ identity: Identity,
        _ channel: borrowing Channel
    ) throws(LaunchFailure) {
        guard needsRightToFilter(process) else { return try loadFilter(process, channel) }
        let plan = process.capabilities?.of(identity)
        var loading = plan ?? CapabilityPlan()
        loading.effective = rightToFilter
        loading.permitted |= rightToFilter
        loading.ambient = 0
        try set(loading)
        try loadFilter(process, channel)
        if let plan { try set(plan) }
    }

    /// Loads the filter. The descriptor of its notifications, if it has some, goes to the listener by way of the parent;
    /// so no filter may notify about sendmsg(2): ``SeccompProgram`` refuses those that do.
    private static func loadFilter(_ process: ProcessPlan, _ channel: borrowing Channel) throws(LaunchFailure) {
        guard let filter = process.seccomp else { return }
        let result = filter.instructions.withUnsafeBytes { bytes in
            // 8 bytes an instruction; the kernel's own limit is 4096 of them.
            bytes.baseAddress.map { zn_seccomp_filter($0, UInt16(clamping: bytes.count / 8), filter.flags) } ?? 0
        }
        try attempt(.seccomp, result)
        guard filter.flags & SeccompListener.filterFlag != 0 else { return }
        let notifications = Descriptor(owning: result)
        var message = Message(.notifications)
        do throws(SystemError) {
            try withUnsafeBytes(of: &message) { (bytes) throws(SystemError) in
                try channel.send(bytes, descriptor: notifications.raw)
            }
        } catch {
            throw LaunchFailure(.seccomp, error.errno)
        }
    }

    private static func dropBounding(_ plan: CapabilityPlan) throws(LaunchFailure) {
        for number in 0..<64 where plan.bounding >> UInt64(number) & 1 == 0 {
            let result = zn_prctl(24 /* PR_CAPBSET_DROP */, UInt(number), 0, 0, 0)
            // The kernel's last capability is behind us.
            if result == -EINVAL { return }
            try attempt(.boundingSet, result, index: number)
        }
    }

    private static func set(_ plan: CapabilityPlan) throws(LaunchFailure) {
        guard let state = cap_init() else { throw LaunchFailure(.capabilities, .noMemory) }
        defer { cap_free(UnsafeMutableRawPointer(state)) }
        for (flag, mask) in [
            (CAP_EFFECTIVE, plan.effective), (CAP_PERMITTED, plan.permitted), (CAP_INHERITABLE, plan.inheritable),
        ] {
            let numbers = (0..<64).filter { mask >> UInt64($0) & 1 == 1 }.map { cap_value_t($0) }
            if !numbers.isEmpty, cap_set_flag(state, flag, CInt(numbers.count), numbers, CAP_SET) != 0 {
                throw LaunchFailure(.capabilities, .invalid)
            }
        }
        let result = cap_set_proc(state)
        if result != 0 { throw LaunchFailure(.capabilities, Errno(rawValue: Glibc.errno)) }
        for number in 0..<64 where plan.ambient >> UInt64(number) & 1 == 1 {
            let raised = zn_prctl(47 /* PR_CAP_AMBIENT */, 2 /* PR_CAP_AMBIENT_RAISE */, UInt(number), 0, 0)
            try attempt(.capabilities, raised, index: number)
        }
    }
}
