// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Makes the launch plan for an OCI configuration: opens everything that the zone gets from the host.
struct PlanBuilder {
    let spec: Spec
    /// The bundle's folder, nil for a zone without one.
    var bundle: String?
    /// Gets what could not be done, where the specification wants no error.
    var warn: (String) -> Void = { _ in }

    /// The plan of a zone's first process; without a `root` in a mount namespace that exists already.
    func plan(
        root: RootPlan?,
        cgroups: any CGroupManager,
        seccomp: SeccompProgram?,
        descriptors: consuming DescriptorBag
    ) throws(ZoneError) -> LaunchPlan {
        let process = spec.process ?? Spec.Process()
        var plan = LaunchPlan()
        plan.descriptors = descriptors
        plan.root = root
        plan.hostname = spec.hostname
        plan.domainname = spec.domainname
        let linux = spec.linux ?? Spec.Linux()
        try NamespacePlanBuilder.add(linux, to: &plan)
        try MountPlanBuilder(linux: linux, bundle: bundle, cgroups: cgroups, warn: warn).add(spec.mounts, to: &plan)
        try DevicePlanBuilder.add(spec, to: &plan)
        plan.maskedPaths = linux.maskedPaths
        plan.readonlyPaths = linux.readonlyPaths
        plan.sysctls = linux.sysctl.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
        plan.process = try PlanBuilder.process(
            process, seccomp, personality: linux.personality, ownsUsers: plan.hasUserNamespace, warn: warn)
        return plan
    }

    // MARK: The process

    /// The plan of a process, the zone's first one or one that `exec` adds. `ownsUsers`: it is in a user namespace of
    /// the zone's.
    static func process(
        _ process: Spec.Process,
        _ seccomp: SeccompProgram?,
        personality: Spec.Personality? = nil,
        ownsUsers: Bool = false,
        isAdded: Bool = false,
        warn: (String) -> Void = { _ in }
    ) throws(ZoneError) -> ProcessPlan {
        guard process.cwd.isAbsolutePath else {
            throw ZoneError(.invalid, "process.cwd: \"\(process.cwd)\" is not an absolute path")
        }
        var plan = ProcessPlan()
        plan.arguments = process.args
        plan.environment = process.env
        plan.workingDirectory = process.cwd
        plan.hasTerminal = process.terminal
        plan.terminal = process.consoleSize.map { WindowSize(rows: $0.height, columns: $0.width) }
        plan.umask = process.user.umask ?? 0o022
        plan.setsNoNewPrivileges = process.noNewPrivileges
        plan.oomScoreAdjustment = process.oomScoreAdj
        plan.seccomp = seccomp.map { (instructions: $0.instructions, flags: $0.flags) }
        if let name = process.user.username {
            plan.user = .named(try userRequest(name))
        } else {
            plan.user = .ids(uid: process.user.uid, gid: process.user.gid, groups: process.user.additionalGids)
        }
        // Without any named there are none.
        do {
            let sets = process.capabilities ?? Spec.Capabilities()
            plan.capabilities = CapabilityPlan(sets, ownsUsers: ownsUsers, warn: warn)
        }
        plan.limits = try LimitPlan.limits(process.rlimits)
        plan.attributes = try ProcessAttributesBuilder.attributes(process, personality: personality, isAdded: isAdded)
        return plan
    }

    static func userRequest(_ text: String) throws(ZoneError) -> UserRequest {
        if let request = UserRequest(text) { return request }
        throw ZoneError(
            .invalid, "user \"\(text)\" is not valid",
            hint: "give NAME or UID, with :GROUP or :GID if wanted; numbers from 0 to 4294967294")
    }
}

/// Names of resource limits, see setrlimit(2).
public enum ResourceLimits {
    /// In the order of their numbers.
    private static let names = [
        "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
        "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
    ]

    /// The number of a name such as `RLIMIT_NOFILE`.
    static func number(of name: String) -> CInt? {
        name.after("RLIMIT_").flatMap { names.firstIndex(of: $0) }.map { CInt($0) }
    }

    /// The names without their prefix in lower case, as `--ulimit` takes them.
    public static var shortNames: [String] {
        names.map { $0.lowercased() }.sorted()
    }
}
