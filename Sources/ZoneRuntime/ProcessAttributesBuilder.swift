// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Namespaces
import OCI

/// Plans what a process has besides user, capabilities and limits (config.md "Linux Process"), from names.
enum ProcessAttributesBuilder {
    /// `isAdded`: by `exec`, for which alone CPUs can be chosen.
    static func attributes(
        _ process: Spec.Process,
        personality: Spec.Personality?,
        isAdded: Bool
    ) throws(ZoneError) -> ProcessAttributes {
        var attributes = ProcessAttributes()
        if let personality { attributes.personality = try number(of: personality) }
        if let scheduler = process.scheduler { attributes.scheduler = try plan(scheduler) }
        if let priority = process.ioPriority { attributes.ioPriority = try number(of: priority) }
        if let affinity = process.execCPUAffinity {
            // Checked for every process, so that a mistake shows when the zone is made.
            let initial = try cpus(affinity.initial, "initial")
            let final = try cpus(affinity.final, "final")
            if isAdded { (attributes.initialAffinity, attributes.finalAffinity) = (initial, final) }
        }
        if let profile = process.apparmorProfile, !profile.isEmpty {
            // Without AppArmor every process is what this asks for.
            if profile != "unconfined" { try SecurityModules.requireAppArmor("process.apparmorProfile") }
            if profile != "unconfined" || hasAppArmor { attributes.appArmorProfile = profile }
        }
        if let label = process.selinuxLabel, !label.isEmpty {
            try SecurityModules.requireSELinux("process.selinuxLabel")
            attributes.selinuxLabel = label
        }
        if let score = process.oomScoreAdj, !(-1000...1000).contains(score) {
            throw ZoneError(.invalid, "process.oomScoreAdj: \(score) is not from -1000 to 1000")
        }
        return attributes
    }

    private static var hasAppArmor: Bool {
        (try? SecurityModules.requireAppArmor("")) != nil
    }

    /// The corresponding C constants are `PER_LINUX` and `PER_LINUX32`.
    private static func number(of personality: Spec.Personality) throws(ZoneError) -> UInt {
        if let flag = personality.flags.first {
            throw ZoneError(
                .invalid, "linux.personality.flags: \"\(flag)\" is not known", hint: "there are no flags yet")
        }
        switch personality.domain {
        case "LINUX": return 0
        case "LINUX32": return 8
        default:
            throw ZoneError(
                .invalid, "linux.personality.domain: \"\(personality.domain)\" is not known",
                hint: "there is LINUX and LINUX32")
        }
    }

    /// The corresponding C constants are `SCHED_OTHER` and so on.
    private static let policies: [String: UInt32] = [
        "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
        "SCHED_DEADLINE": 6,
    ]

    private static let schedulerFlags: [String: UInt64] = [
        "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
        "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
        "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
    ]

    private static func plan(_ scheduler: Spec.Scheduler) throws(ZoneError) -> SchedulerPlan {
        guard let policy = policies[scheduler.policy] else {
            throw ZoneError(
                .invalid, "process.scheduler.policy: \"\(scheduler.policy)\" is not known",
                hint: "there is \(policies.keys.sorted().joined(separator: ", "))")
        }
        var plan = SchedulerPlan(policy: policy)
        for flag in scheduler.flags {
            guard let bit = schedulerFlags[flag] else {
                throw ZoneError(
                    .invalid, "process.scheduler.flags: \"\(flag)\" is not known", hint: "sched_setattr(2) lists them")
            }
            plan.flags |= bit
        }
        if let nice = scheduler.nice {
            guard (-20...19).contains(nice) else {
                throw ZoneError(.invalid, "process.scheduler.nice: \(nice) is not from -20 to 19")
            }
            plan.nice = nice
        }
        if let priority = scheduler.priority, priority != 0 {
            guard ["SCHED_FIFO", "SCHED_RR"].contains(scheduler.policy), (1...99).contains(priority) else {
                throw ZoneError(
                    .invalid, "process.scheduler.priority: \(priority) is not possible with \(scheduler.policy)",
                    hint: "SCHED_FIFO and SCHED_RR take 1 to 99")
            }
            plan.priority = UInt32(priority)
        }
        let times = [scheduler.runtime, scheduler.deadline, scheduler.period].compactMap { $0 }
        if scheduler.policy != "SCHED_DEADLINE", times.contains(where: { $0 != 0 }) {
            throw ZoneError(
                .invalid,
                "process.scheduler: runtime, deadline and period are for SCHED_DEADLINE, not for \(scheduler.policy)")
        }
        plan.runtime = scheduler.runtime ?? 0
        plan.deadline = scheduler.deadline ?? 0
        plan.period = scheduler.period ?? 0
        return plan
    }

    /// The corresponding C macro is `IOPRIO_PRIO_VALUE`.
    private static func number(of priority: Spec.IOPriority) throws(ZoneError) -> CInt {
        let classes: [String: CInt] = ["IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3]
        guard let number = classes[priority.priorityClass] else {
            throw ZoneError(
                .invalid, "process.ioPriority.class: \"\(priority.priorityClass)\" is not known",
                hint: "there is \(classes.keys.sorted().joined(separator: ", "))")
        }
        guard (0...7).contains(priority.priority) else {
            throw ZoneError(.invalid, "process.ioPriority.priority: \(priority.priority) is not from 0 to 7")
        }
        return number << 13 | priority.priority
    }

    private static func cpus(_ list: String?, _ name: String) throws(ZoneError) -> CPUSet? {
        guard let list, !list.isEmpty else { return nil }
        if let cpus = CPUSet(list) { return cpus }
        throw ZoneError(
            .invalid, "process.execCPUAffinity.\(name): \"\(list)\" is not a list of CPUs", hint: "such as 0-3,7")
    }
}

extension CapabilityPlan {
    /// Reads the sets. What cannot be given is left out with a warning (config.md "Linux Process"): names that this
    /// kernel does not have, and what zonectl itself may not give, unless `ownsUsers`: a user namespace of the zone's
    /// own has them all.
    init(_ sets: Spec.Capabilities, ownsUsers: Bool, warn: (String) -> Void) {
        self.init()
        var unknown: Set<String> = []
        func mask(_ names: [String]) -> UInt64 {
            var mask: UInt64 = 0
            for name in names {
                if let number = Capability.number(of: name) {
                    mask |= 1 << UInt64(number)
                } else if unknown.insert(name).inserted {
                    warn("process.capabilities: \"\(name)\" is not a capability of this system: it is left out")
                }
            }
            return mask
        }
        bounding = mask(sets.bounding)
        effective = mask(sets.effective)
        permitted = mask(sets.permitted)
        inheritable = mask(sets.inheritable)
        ambient = mask(sets.ambient)
        let all = ownsUsers ? Capability.all : Capability.available
        let missing = (bounding | effective | permitted | inheritable | ambient) & ~all
        for number in 0..<64 where missing >> UInt64(number) & 1 == 1 {
            let name = Capability.name(of: number) ?? "\(number)"
            warn("process.capabilities: \(name) is not zonectl's to give: it is left out")
        }
        bounding &= all
        permitted &= all
        inheritable &= all
        // The kernel's rules, capabilities(7).
        effective &= permitted
        let possible = permitted & inheritable
        // buildah writes an ambient set and an empty inheritable one: it means none, and a line for each at each step
        // of a build would hide the others.
        let impossible = inheritable == 0 ? 0 : ambient & all & ~possible
        for number in 0..<64 where impossible >> UInt64(number) & 1 == 1 {
            let name = Capability.name(of: number) ?? "\(number)"
            warn("process.capabilities.ambient: \(name) is not both permitted and inheritable: it is left out")
        }
        ambient &= possible
    }
}

extension LimitPlan {
    /// Reads `process.rlimits`.
    static func limits(_ limits: [Spec.ResourceLimit]) throws(ZoneError) -> [LimitPlan] {
        var plans: [LimitPlan] = []
        for (index, limit) in limits.enumerated() {
            let place = "process.rlimits[\(index)]"
            guard let resource = ResourceLimits.number(of: limit.type) else {
                throw ZoneError(.invalid, "\(place): \"\(limit.type)\" is not a resource limit")
            }
            guard !plans.contains(where: { $0.resource == resource }) else {
                throw ZoneError(.invalid, "\(place): \(limit.type) is given twice")
            }
            guard limit.soft <= limit.hard else {
                throw ZoneError(.invalid, "\(place): \(limit.type): soft \(limit.soft) is above hard \(limit.hard)")
            }
            plans.append(LimitPlan(name: limit.type, resource: resource, soft: limit.soft, hard: limit.hard))
        }
        return plans
    }
}

extension SeccompListener {
    /// The container process state for `linux.seccomp.listenerPath` (config-linux.md); nil where no listener is named.
    /// `status` is the zone's, `running` for a process that `exec` adds.
    init?(_ seccomp: Spec.Seccomp, _ state: BundleState, status: String = "creating") {
        guard let path = seccomp.listenerPath, !path.isEmpty else { return nil }
        var outer = JSONWriter()
        outer.beginObject()
        outer.name("ociVersion")
        outer.string(state.ociVersion)
        outer.name("fds")
        outer.beginArray()
        outer.string("seccompFd")
        outer.endArray()
        if let metadata = seccomp.listenerMetadata {
            outer.name("metadata")
            outer.string(metadata)
        }
        var inner = JSONWriter()
        inner.beginObject()
        for (name, value) in [
            ("ociVersion", state.ociVersion), ("id", state.id), ("status", status), ("bundle", state.bundle),
        ] {
            inner.name(name)
            inner.string(value)
        }
        if !state.annotations.isEmpty {
            inner.name("annotations")
            state.annotations.write(to: &inner)
        }
        let text = { (writer: JSONWriter) in String(decoding: writer.bytes, as: UTF8.self) }
        self.init(path: path, state: (text(outer) + ",\"pid\":", ",\"state\":" + text(inner) + ",\"pid\":", "}}"))
    }
}
