// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// What the default profile takes away besides, whatever the distribution's file says, because zones rarely need it and
/// kernels have been broken through it. A profile that the user names is never changed.
///
/// | calls | answer | unless the zone has |
/// |---|---|---|
/// | `socket` of `AF_ALG`, `AF_VSOCK`, and of numbers that no family has | `EPERM` | |
/// | `socketcall` (32-bit programs) | `EACCES` | ``Exceptions/socketcall`` |
/// | `io_uring_*` | `ENOSYS` | |
/// | `add_key`, `request_key`, `keyctl`, `userfaultfd` | `EPERM` | |
/// | `bpf` | `EPERM` | `CAP_BPF` or `CAP_SYS_ADMIN` |
/// | `setns`, and `clone` and `unshare` of any namespace | `EPERM` | `CAP_SYS_ADMIN` |
/// | `clone3` | `ENOSYS` | `CAP_SYS_ADMIN` |
/// | everything of the x32 ABI | killed | |
///
/// `ENOSYS` where programs fall back to an older call, as glibc does from `clone3`, whose flags lie behind a pointer
/// that a filter cannot follow.
///
/// So do those of `socketcall`: a 32-bit program could make the sockets above with it (CVE-2026-31431 is such a way
/// to root through `AF_ALG`). Docker refused `socketcall` in 29.4.2, which cut Debian's 32-bit programs off from the
/// network, since its glibc uses nothing else; it then left that path to AppArmor and SELinux. We have neither here, so
/// the call is refused and whoever runs 32-bit programs asks for it.
public enum Hardening {
    /// What the user wants back.
    public struct Exceptions: OptionSet, Sendable {
        public let rawValue: UInt32

        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// `socketcall`, without which most 32-bit programs have no network.
        public static let socketcall = Exceptions(rawValue: 1)
    }

    /// Returns the rules with what a zone of these capabilities should not do taken out.
    public static func applied(
        to spec: Spec.Seccomp,
        capabilities: Set<String>,
        exceptions: Exceptions = []
    ) -> Spec.Seccomp {
        var spec = spec
        let isAdministrator = capabilities.contains("CAP_SYS_ADMIN")
        spec.architectures.removeAll { $0 == "SCMP_ARCH_X32" }
        spec.deny(["io_uring_setup", "io_uring_enter", "io_uring_register"], .notImplemented)
        spec.deny(["add_key", "request_key", "keyctl", "userfaultfd"], .notPermitted)
        if !isAdministrator {
            if !capabilities.contains("CAP_BPF") { spec.deny(["bpf"], .notPermitted) }
            spec.deny(["setns"], .notPermitted)
            spec.deny(["clone3"], .notImplemented)
            spec.denyBits(of: "clone", index: cloneFlagsIndex, namespaceFlags)
            // In clone's flags the bit of CLONE_NEWTIME belongs to the signal at exit.
            spec.denyBits(of: "unshare", index: 0, namespaceFlags | 0x80)
        }
        spec.denyFamilies([38 /* AF_ALG */, 40 /* AF_VSOCK */])
        if !exceptions.contains(.socketcall) || !spec.permits("socketcall") {
            // libseccomp adds to each rule for `socket` and its kin one for `socketcall`. Only a rule without conditions
            // overrides these. It is passed over when it says the same as the default, and has to come before them.
            let errno = spec.isDefault(.accessDenied) ? Errno.notPermitted : .accessDenied
            spec.deny(["socketcall"], errno)
            spec.syscalls.insert(spec.syscalls.removeLast(), at: 0)
        }
        return spec
    }

    /// `CLONE_NEWNS`, `_NEWCGROUP`, `_NEWUTS`, `_NEWIPC`, `_NEWUSER`, `_NEWPID`, `_NEWNET`.
    static let namespaceFlags: UInt64 = 0x7E02_0000

    /// s390 has clone's first two arguments exchanged, see clone(2).
    private static var cloneFlagsIndex: UInt32 {
        #if arch(s390x)
        1
        #else
        0
        #endif
    }
}

extension Spec.Seccomp {
    fileprivate func isDefault(_ errno: Errno) -> Bool {
        defaultAction == "SCMP_ACT_ERRNO" && defaultErrnoRet ?? 1 == UInt32(errno.rawValue)
    }

    /// Whether a call is let through whatever its arguments are.
    fileprivate func permits(_ name: String) -> Bool {
        let deciding = syscalls.first { $0.names.contains(name) && $0.args.isEmpty }
        return deciding.map { Rule.permissiveActions.contains($0.action) } ?? isPermissive
    }

    /// Whether calls without a rule are let through.
    private var isPermissive: Bool { Rule.permissiveActions.contains(defaultAction) }

    /// Denies calls under all conditions.
    fileprivate mutating func deny(_ names: [String], _ errno: Errno) {
        for index in syscalls.indices { syscalls[index].names.removeAll { names.contains($0) } }
        syscalls.removeAll { $0.names.isEmpty }
        syscalls.append(.denial(names, errno, []))
    }

    /// Denies a call when any of `bits` is set in an argument of it.
    fileprivate mutating func denyBits(of name: String, index: UInt32, _ bits: UInt64) {
        rewritePermissive(name) { conditions in
            guard let place = conditions.firstIndex(where: { $0.index == index }) else {
                return [conditions + [.masked(index, bits, 0)]]
            }
            // Two masks on one argument make one. A condition of another kind cannot be joined with ours, so that what it
            // permits is denied.
            let old = conditions[place]
            guard let (mask, value) = old.asMask, value & bits == 0 else { return [] }
            var joined = conditions
            joined[place] = .masked(index, mask | bits, value)
            return [joined]
        }
        // What is not permitted gets the default action; these rules only give it a better error than that.
        for shift in 0..<UInt64(64) where bits >> shift & 1 != 0 {
            syscalls.append(.denial([name], .notPermitted, [.masked(index, 1 << shift, 1 << shift)]))
        }
    }

    /// Denies `socket` for some address families and all above 63, which do not exist.
    ///
    /// The kernel uses the lower half of the argument only: a rule that compares all 64 bits, as docker's did, lets
    /// `AF_ALG` through with any bit set above. So each family has to be permitted by the lower half.
    fileprivate mutating func denyFamilies(_ denied: Set<UInt64>) {
        rewritePermissive("socket") { conditions in
            let onFamily = conditions.filter { $0.index == 0 }
            let others = conditions.filter { $0.index != 0 }
            let permitted = (0..<UInt64(64)).filter { family in
                !denied.contains(family) && onFamily.allSatisfy { $0.holds(family) }
            }
            return Spec.Seccomp.blocks(of: Set(permitted)).map { block in
                [.masked(0, 0xFFFF_FFFF & ~(block.size - 1), block.start)] + others
            }
        }
        for family in denied.sorted() {
            syscalls.append(.denial(["socket"], .notPermitted, [.masked(0, 0xFFFF_FFFF, family)]))
        }
    }

    /// Divides a set of numbers below 64 into blocks as large as possible whose size is a power of two and divides their
    /// start: each is one masked comparison.
    static func blocks(of set: Set<UInt64>) -> [(start: UInt64, size: UInt64)] {
        var blocks: [(start: UInt64, size: UInt64)] = []
        var start: UInt64 = 0
        while start < 64 {
            var size: UInt64 = start == 0 ? 64 : start & ~(start - 1)
            while size > 1, !(start..<start + size).allSatisfy(set.contains) { size /= 2 }
            if set.contains(start) { blocks.append((start, size)) }
            start += set.contains(start) ? size : 1
        }
        return blocks
    }

    /// Replaces the condition lists of the rules that let a call through. Where the default does so, no rule is needed.
    private mutating func rewritePermissive(_ name: String, _ rewrite: ([Argument]) -> [[Argument]]) {
        var result: [Rule] = []
        for rule in syscalls {
            guard rule.names.contains(name), Rule.permissiveActions.contains(rule.action) else {
                result.append(rule)
                continue
            }
            var rest = rule
            rest.names.removeAll { $0 == name }
            if !rest.names.isEmpty { result.append(rest) }
            if isPermissive { continue }
            for conditions in rule.alternatives.flatMap(rewrite) {
                var one = rule
                one.names = [name]
                one.args = conditions
                result.append(one)
            }
        }
        syscalls = result
    }
}

extension Spec.Seccomp.Rule {
    /// Actions after which the kernel runs the call, or may.
    static let permissiveActions: Set = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"]

    fileprivate static func denial(
        _ names: [String], _ errno: Errno, _ conditions: [Spec.Seccomp.Argument]
    ) -> Spec.Seccomp.Rule {
        var rule = Spec.Seccomp.Rule()
        rule.names = names
        rule.action = "SCMP_ACT_ERRNO"
        rule.errnoRet = UInt32(errno.rawValue)
        rule.args = conditions
        return rule
    }
}

extension Spec.Seccomp.Argument {
    static func masked(_ index: UInt32, _ mask: UInt64, _ value: UInt64) -> Spec.Seccomp.Argument {
        var argument = Spec.Seccomp.Argument()
        argument.index = index
        argument.value = mask
        argument.valueTwo = value
        argument.op = "SCMP_CMP_MASKED_EQ"
        return argument
    }

    /// Mask and value where the condition is an equality.
    fileprivate var asMask: (mask: UInt64, value: UInt64)? {
        switch op {
        case "SCMP_CMP_EQ": (.max, value)
        case "SCMP_CMP_MASKED_EQ": (value, valueTwo)
        default: nil
        }
    }

    /// Whether the condition holds for an argument; an unknown operator, which the compiler refuses, holds for none.
    func holds(_ argument: UInt64) -> Bool {
        switch op {
        case "SCMP_CMP_NE": argument != value
        case "SCMP_CMP_LT": argument < value
        case "SCMP_CMP_LE": argument <= value
        case "SCMP_CMP_EQ": argument == value
        case "SCMP_CMP_GE": argument >= value
        case "SCMP_CMP_GT": argument > value
        case "SCMP_CMP_MASKED_EQ": argument & value == valueTwo & value
        default: false
        }
    }
}
