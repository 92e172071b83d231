// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// What a process has besides user, capabilities and limits.
public struct ProcessAttributes: Sendable, Equatable {
    /// For personality(2).
    public var personality: UInt?
    public var scheduler: SchedulerPlan?
    /// For ioprio_set(2): class and priority in one.
    public var ioPriority: CInt?
    /// CPUs before the process is in the zone's control groups, and afterwards.
    public var initialAffinity: CPUSet?
    public var finalAffinity: CPUSet?
    /// AppArmor's profile and SELinux's context that the program gets with its execve(2).
    public var appArmorProfile: String?
    public var selinuxLabel: String?

    public init() {}
}

/// How the kernel schedules a process, see sched_setattr(2).
public struct SchedulerPlan: Sendable, Equatable {
    /// A number such as `SCHED_BATCH`.
    public var policy: UInt32
    /// Bits such as `SCHED_FLAG_RESET_ON_FORK`.
    public var flags: UInt64 = 0
    public var nice: Int32 = 0
    public var priority: UInt32 = 0
    /// Nanoseconds.
    public var runtime: UInt64 = 0
    public var deadline: UInt64 = 0
    public var period: UInt64 = 0

    public init(policy: UInt32) {
        self.policy = policy
    }
}

/// In the child: gives the process its attributes.
struct AttributeSetup: ~Copyable {
    /// The host's procfs, where a label is to be written: a zone's own cannot be trusted, and may not show the caller.
    private let proc: ProcFiles?

    /// To be made while the host's root is still there.
    init(_ attributes: ProcessAttributes) throws(LaunchFailure) {
        if attributes.appArmorProfile == nil, attributes.selinuxLabel == nil {
            proc = nil
        } else {
            proc = try ProcFiles.openHost(.securityLabel)
        }
    }

    /// To be done in the zone's groups, as their sets of CPUs count, and with the host's rights.
    func apply(_ attributes: ProcessAttributes) throws(LaunchFailure) {
        if let cpus = attributes.finalAffinity { try attempt(.affinity, cpus.apply()) }
        if let plan = attributes.scheduler {
            let result = zn_sched_setattr(
                plan.policy, plan.flags, plan.nice, plan.priority, plan.runtime, plan.deadline, plan.period)
            try attempt(.scheduler, result)
        }
        if let priority = attributes.ioPriority { try attempt(.ioPriority, zn_ioprio_set(priority)) }
        if let persona = attributes.personality { try attempt(.personality, zn_personality(persona)) }
        try label(attributes)
    }

    /// The kernel keeps the label for the next execve(2), also across a fork.
    private func label(_ attributes: ProcessAttributes) throws(LaunchFailure) {
        switch proc {
        case .none: return
        case .some(let files):
            if let profile = attributes.appArmorProfile {
                // Linux 5.8 gave AppArmor a folder of its own, so that it can be there beside another module.
                let own = "self/attr/apparmor/exec"
                try files.write(files.has(own) ? own : "self/attr/exec", "exec \(profile)", .securityLabel)
            }
            if let label = attributes.selinuxLabel { try files.write("self/attr/exec", label, .securityLabel) }
        }
    }
}

/// What the parent does for the child, because it keeps the host's rights in the first user namespace.
struct ParentDuties: Sendable {
    private let oomScoreAdjustment: Int?
    private let limits: [LimitPlan]

    init(_ plan: borrowing LaunchPlan) {
        oomScoreAdjustment = plan.process.oomScoreAdjustment
        // Only root of the first user namespace may raise a limit.
        limits = plan.newNamespaces.contains(.user) ? plan.process.limits : []
    }

    /// When the child is in its namespaces and waits: limits that it has no right to raise itself.
    func raiseLimits(of pid: Int32) throws(LaunchError) {
        for limit in limits {
            var soft: UInt64 = 0
            var hard: UInt64 = 0
            // The child has ours.
            guard zn_getrlimit(limit.resource, &soft, &hard) >= 0, limit.hard > hard else { continue }
            let result = zn_prlimit(pid, limit.resource, limit.soft, limit.hard)
            if result < 0 { throw failure(.limit, result, "\(limit.name)=\(limit.soft):\(limit.hard)") }
        }
    }

    /// When the child is ready. Whatever is mounted at the zone's /proc has no part in it, P8.
    func adjustOOMScore(of pid: Int32) throws(LaunchError) {
        guard let value = oomScoreAdjustment else { return }
        do throws(LaunchFailure) {
            try ProcFiles.openHost(.oomScore).write("\(pid)/oom_score_adj", String(value), .oomScore)
        } catch {
            throw failure(.oomScore, -error.errno.rawValue, "to \(value)")
        }
    }

    private func failure(_ step: LaunchStep, _ result: CInt, _ subject: String) -> LaunchError {
        let errno = Errno(rawValue: -result)
        let reason = errno == .notPermitted || errno == .accessDenied ? " (this needs CAP_SYS_RESOURCE)" : ""
        return LaunchError(
            step: step, errno: errno, sentence: "\(step.attempt) \(subject): \(errno.message.lowercased())\(reason)")
    }
}
