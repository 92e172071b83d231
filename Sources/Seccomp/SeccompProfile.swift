// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// A profile as docker and podman write it: rules that may depend on capabilities, machine and kernel.
///
/// A plain `linux.seccomp` of config-linux.md is a profile without such conditions and can be read as one.
public struct SeccompProfile: JSONRecord, Sendable, Equatable {
    public var defaultAction = ""
    public var defaultErrnoRet: UInt32?
    /// A name such as `ENOSYS`, or a number as text; goes before ``defaultErrnoRet``, as in podman.
    public var defaultErrno: String?
    public var architectures: [String] = []
    public var archMap: [ArchitectureFamily] = []
    public var flags: [String] = []
    public var syscalls: [Rule] = []

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("defaultAction", &defaultAction)
        try visitor.field("defaultErrnoRet", &defaultErrnoRet)
        try visitor.field("defaultErrno", &defaultErrno)
        try visitor.field("architectures", &architectures)
        try visitor.field("archMap", &archMap)
        try visitor.field("flags", &flags)
        try visitor.field("syscalls", &syscalls)
    }

    /// A machine and the older ones whose programs it also runs.
    public struct ArchitectureFamily: JSONRecord, Sendable, Equatable {
        public var architecture = ""
        public var subArchitectures: [String] = []

        public init() {}

        public init(_ architecture: String, _ subArchitectures: [String]) {
            self.architecture = architecture
            self.subArchitectures = subArchitectures
        }

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("architecture", &architecture)
            try visitor.field("subArchitectures", &subArchitectures)
        }
    }

    /// What happens to some system calls, under some circumstances.
    public struct Rule: JSONRecord, Sendable, Equatable {
        public var names: [String] = []
        /// The old form, for one call.
        public var name: String?
        public var action = ""
        public var errnoRet: UInt32?
        public var errno: String?
        public var args: [Spec.Seccomp.Argument] = []
        public var includes = Circumstances()
        public var excludes = Circumstances()

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("names", &names)
            try visitor.field("name", &name)
            try visitor.required("action", &action)
            try visitor.field("errnoRet", &errnoRet)
            try visitor.field("errno", &errno)
            try visitor.field("args", &args)
            try visitor.field("includes", &includes)
            try visitor.field("excludes", &excludes)
        }
    }

    /// When a rule is in force.
    public struct Circumstances: JSONRecord, Sendable, Equatable {
        public var caps: [String] = []
        public var arches: [String] = []
        /// Such as `4.8`.
        public var minKernel: String?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("caps", &caps)
            try visitor.field("arches", &arches)
            try visitor.field("minKernel", &minKernel)
        }
    }
}

extension SeccompProfile {
    /// Returns the rules that are in force for a zone that may hold `capabilities`, a set of names such as `CAP_CHOWN`.
    public func resolve(
        capabilities: Set<String>,
        target: FilterTarget = .current
    ) throws(SeccompError) -> Spec.Seccomp {
        var result = Spec.Seccomp()
        result.defaultAction = defaultAction
        result.defaultErrnoRet = try SeccompProfile.number(defaultErrnoRet, defaultErrno, "defaultErrno")
        result.architectures = try resolveArchitectures(target)
        result.flags = flags
        for (index, rule) in syscalls.enumerated() {
            let place = "syscalls[\(index)]"
            guard try rule.applies(capabilities, target, place) else { continue }
            var resolved = Spec.Seccomp.Rule()
            resolved.names = try rule.allNames(place)
            resolved.action = rule.action
            resolved.errnoRet = try SeccompProfile.number(rule.errnoRet, rule.errno, "\(place).errno")
            resolved.args = rule.args
            result.syscalls.append(resolved)
        }
        return result
    }

    private func resolveArchitectures(_ target: FilterTarget) throws(SeccompError) -> [String] {
        guard !archMap.isEmpty else { return architectures }
        guard architectures.isEmpty else {
            throw SeccompError(.invalid, "architectures: is given besides archMap; use one of them")
        }
        guard let family = archMap.first(where: { $0.architecture == target.token }) else { return [] }
        return [family.architecture] + family.subArchitectures
    }

    /// Reads an error number that podman also writes by name.
    private static func number(_ value: UInt32?, _ name: String?, _ place: String) throws(SeccompError) -> UInt32? {
        guard let name, !name.isEmpty else { return value }
        if let known = errnoNames[name] ?? UInt32(name) { return known }
        // The number that podman writes beside a name means the same.
        if let value { return value }
        throw SeccompError(.invalid, "\(place): \"\(name)\" is not a known error; give its number as errnoRet")
    }

    /// Those that filters answer with; numbers differ between machines only above 34.
    private static let errnoNames: [String: UInt32] = [
        "EPERM": 1, "ENOENT": 2, "EIO": 5, "EBADF": 9, "EAGAIN": 11, "ENOMEM": 12, "EACCES": 13, "EBUSY": 16,
        "ENODEV": 19, "EINVAL": 22, "ENOTTY": 25, "EROFS": 30,
    ].merging([
        "ENOSYS": UInt32(Errno.notImplemented.rawValue), "EOPNOTSUPP": UInt32(Errno.notSupported.rawValue),
    ]) { old, _ in old }
}

extension SeccompProfile.Rule {
    fileprivate func allNames(_ place: String) throws(SeccompError) -> [String] {
        guard let name, !name.isEmpty else { return names }
        guard names.isEmpty else {
            throw SeccompError(.invalid, "\(place): both name and names are given; use one of them")
        }
        return [name]
    }

    /// Whether the rule is in force: every included circumstance holds and no excluded one, as in docker.
    fileprivate func applies(
        _ capabilities: Set<String>, _ target: FilterTarget, _ place: String
    ) throws(SeccompError) -> Bool {
        let oldest = try includes.kernel("\(place).includes")
        let first = try excludes.kernel("\(place).excludes")
        if excludes.arches.contains(target.architecture) { return false }
        if excludes.caps.contains(where: capabilities.contains) { return false }
        if let first, target.kernel >= first { return false }
        if !includes.arches.isEmpty, !includes.arches.contains(target.architecture) { return false }
        if !includes.caps.allSatisfy(capabilities.contains) { return false }
        if let oldest, target.kernel < oldest { return false }
        return true
    }
}

extension SeccompProfile.Circumstances {
    fileprivate func kernel(_ place: String) throws(SeccompError) -> KernelVersion? {
        guard let minKernel, !minKernel.isEmpty else { return nil }
        guard let version = KernelVersion(minKernel) else {
            throw SeccompError(.invalid, "\(place).minKernel: \"\(minKernel)\" is not a version such as 4.8")
        }
        return version
    }
}
