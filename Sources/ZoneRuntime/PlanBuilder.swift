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

    /// The plan of a zone's first process; without a `root` in a mount namespace that exists already.
    func plan(
        root: RootPlan?,
        cgroups: any CGroupManager,
        seccomp: SeccompProgram?,
        descriptors: consuming DescriptorBag
    ) throws(ZoneError) -> LaunchPlan {
        guard let process = spec.process else { throw ZoneError(.invalid, "config.json: process: is missing") }
        var plan = LaunchPlan()
        plan.descriptors = descriptors
        plan.root = root
        plan.hostname = spec.hostname
        plan.domainname = spec.domainname
        let linux = spec.linux ?? Spec.Linux()
        try NamespacePlanBuilder.add(linux, to: &plan)
        for (index, mount) in spec.mounts.enumerated() {
            try add(mount, "mounts[\(index)]", cgroups, to: &plan)
        }
        plan.devices = DefaultProfile.devices
        for (index, device) in linux.devices.enumerated() {
            plan.devices.append(try PlanBuilder.device(device, "linux.devices[\(index)]"))
        }
        plan.maskedPaths = linux.maskedPaths
        plan.readonlyPaths = linux.readonlyPaths
        plan.sysctls = linux.sysctl.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
        plan.process = try PlanBuilder.process(process, seccomp)
        return plan
    }

    // MARK: Mounts

    private func add(
        _ mount: Spec.Mount,
        _ place: String,
        _ cgroups: any CGroupManager,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        guard mount.destination.hasPrefix("/") else {
            throw ZoneError(.invalid, "\(place): destination \"\(mount.destination)\" is not an absolute path")
        }
        let options = try MountOptions(mount.options)
        if options.isBind || mount.type == "bind" {
            return try addBind(mount, options, place, to: &plan)
        }
        guard let type = mount.type else { throw ZoneError(.invalid, "\(place): type: is missing") }
        if type == "cgroup" || type == "cgroup2" { return try addGroups(mount, options, cgroups, to: &plan) }
        plan.mounts.append(
            MountPlan(
                target: mount.destination,
                source: .fileSystem(type: type, options: options.data.map { ($0.key, $0.value) }),
                attributes: options.attributes))
    }

    private func addBind(
        _ mount: Spec.Mount,
        _ options: MountOptions,
        _ place: String,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        guard let source = mount.source, source.hasPrefix("/") else {
            throw ZoneError(.invalid, "\(place): source \"\(mount.source ?? "")\" is not an absolute path")
        }
        if let option = options.data.first {
            throw ZoneError(.invalid, "\(place): a bind mount takes no option \"\(option.key)\"")
        }
        do throws(SystemError) {
            let tree = try Descriptor.cloneTree(source, recursive: options.isRecursive, attributes: options.attributes)
            let isDirectory = try tree.stat().kind == .directory
            plan.mounts.append(
                MountPlan(
                    target: mount.destination, source: .tree(plan.descriptors.adopt(tree), isDirectory: isDirectory)))
        } catch {
            let hint =
                error.errno == .noEntry ? "make it first, or give another source" : ZoneError.hint(for: error.errno)
            throw ZoneError(.system, "mount on \(mount.destination): \(error)", hint: hint)
        }
    }

    /// The zone's own groups at /sys/fs/cgroup, as bind mounts of just their directories: nothing above them can be
    /// reached, also where the kernel knows no cgroup namespaces (CVE-2023-25809).
    private func addGroups(
        _ mount: Spec.Mount,
        _ options: MountOptions,
        _ cgroups: any CGroupManager,
        to plan: inout LaunchPlan
    ) throws(ZoneError) {
        let directories = cgroups.directories
        let single = directories.count == 1 && directories[0].hierarchy.isEmpty
        if !single {
            plan.mounts.append(
                MountPlan(
                    target: mount.destination,
                    source: .fileSystem(type: "tmpfs", options: [("mode", "755")]),
                    attributes: options.attributes.subtracting(.readOnly), sealsAtEnd: true))
        }
        for directory in directories {
            let name = directory.hierarchy.isEmpty ? "unified" : directory.hierarchy
            let tree = try attempting("show the zone its control groups") { () throws(SystemError) in
                try Descriptor.cloneTree(directory.path, recursive: false, attributes: options.attributes)
            }
            plan.mounts.append(
                MountPlan(
                    target: single ? mount.destination : "\(mount.destination)/\(name)",
                    source: .tree(plan.descriptors.adopt(tree), isDirectory: true)))
        }
    }

    private static func device(_ device: Spec.Device, _ place: String) throws(ZoneError) -> DevicePlan {
        guard device.path.hasPrefix("/"), let major = UInt32(exactly: device.major),
            let minor = UInt32(exactly: device.minor), ["c", "u", "b"].contains(device.type)
        else {
            throw ZoneError(
                .invalid, "\(place): needs an absolute path, type c, u or b, and numbers from 0",
                hint: "\(device.path) type \(device.type) \(device.major):\(device.minor) was given")
        }
        return DevicePlan(
            path: device.path, isBlock: device.type == "b", major: major, minor: minor,
            mode: (device.fileMode ?? 0o666) & 0o7777, uid: device.uid ?? 0, gid: device.gid ?? 0)
    }

    // MARK: The process

    /// The plan of a process, the zone's first one or one that `exec` adds.
    static func process(_ process: Spec.Process, _ seccomp: SeccompProgram?) throws(ZoneError) -> ProcessPlan {
        guard !process.args.isEmpty else { throw ZoneError(.invalid, "process.args: is empty") }
        guard process.cwd.hasPrefix("/") else {
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
        if let sets = process.capabilities {
            var capabilities = CapabilityPlan()
            capabilities.bounding = try mask(sets.bounding)
            capabilities.effective = try mask(sets.effective)
            capabilities.permitted = try mask(sets.permitted)
            capabilities.inheritable = try mask(sets.inheritable)
            // The kernel's rule, capabilities(7): what is not in both cannot be ambient.
            capabilities.ambient = try mask(sets.ambient) & capabilities.permitted & capabilities.inheritable
            plan.capabilities = capabilities
        }
        for limit in process.rlimits {
            guard let resource = ResourceLimits.number(of: limit.type) else {
                throw ZoneError(.invalid, "process.rlimits: \"\(limit.type)\" is not a resource limit")
            }
            plan.limits.append(LimitPlan(name: limit.type, resource: resource, soft: limit.soft, hard: limit.hard))
        }
        return plan
    }

    static func userRequest(_ text: String) throws(ZoneError) -> UserRequest {
        if let request = UserRequest(text) { return request }
        throw ZoneError(
            .invalid, "user \"\(text)\" is not valid",
            hint: "give NAME or UID, with :GROUP or :GID if wanted; numbers from 0 to 4294967294")
    }

    private static func mask(_ names: [String]) throws(ZoneError) -> UInt64 {
        var mask: UInt64 = 0
        for name in names {
            guard let number = Capability.number(of: name) else {
                throw ZoneError(.invalid, "\"\(name)\" is not a capability", hint: "capabilities(7) lists them")
            }
            mask |= 1 << UInt64(number)
        }
        return mask
    }
}

/// Names of resource limits, see setrlimit(2).
public enum ResourceLimits {
    private static let numbers: [String: CInt] = [
        "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
        "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
        "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
    ]

    /// The number of a name such as `RLIMIT_NOFILE`.
    static func number(of name: String) -> CInt? { numbers[name] }

    /// The names without their prefix in lower case, as `--ulimit` takes them.
    public static var shortNames: [String] {
        numbers.keys.map { String($0.dropFirst("RLIMIT_".count)).lowercased() }.sorted()
    }
}
