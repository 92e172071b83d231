// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CSeccomp
import LinuxSystem
public import OCI

/// A compiled filter and its flags, ready for seccomp(2).
public struct SeccompProgram: Sendable, Equatable {
    /// `struct sock_filter[]`, 8 bytes an instruction.
    public var instructions: [UInt8]
    /// Bits such as `SECCOMP_FILTER_FLAG_LOG`.
    public var flags: UInt32

    public init(instructions: [UInt8], flags: UInt32) {
        self.instructions = instructions
        self.flags = flags
    }

    /// The kernel's `BPF_MAXINSNS`.
    static let maximumCount = 4096

    /// Compiles rules as runc does: a rule that only repeats the default action, and the names of calls that libseccomp
    /// does not know, are passed over; where a call has a rule without conditions, the first such rule is the one that
    /// counts. Programs of machines that are not among `architectures` are killed at their first call.
    public init(compiling spec: Spec.Seccomp) throws(SeccompError) {
        let defaultAction = try FilterAction(
            spec.defaultAction, spec.defaultErrnoRet, at: "defaultAction", errnoAt: "defaultErrnoRet")
        guard defaultAction.code != FilterAction.notify else {
            throw SeccompError(
                .unsupported, "defaultAction: SCMP_ACT_NOTIFY is not possible: it would hold up its own set-up")
        }
        let notifies = try SeccompProgram.notifies(spec)
        flags = try SeccompProgram.flags(spec.flags, notifies: notifies)
        var filter = try Filter(defaultAction)
        for (index, name) in spec.architectures.enumerated() {
            try filter.addArchitecture(name, at: "architectures[\(index)]")
        }
        var names = 0
        for (index, rule) in spec.syscalls.enumerated() {
            try filter.add(rule, at: "syscalls[\(index)]")
            names += rule.names.count
        }
        // A tree pays for long profiles only, and libseccomp up to 2.5.4 goes wrong on one without rules: runc's bound.
        if names > 32 { try filter.sortIntoTree() }
        instructions = try filter.export()
        let count = instructions.count / 8
        guard count > 0, count <= SeccompProgram.maximumCount, instructions.count % 8 == 0 else {
            throw SeccompError(
                .unsupported,
                "the profile needs \(count) instructions, the kernel takes 1 to \(SeccompProgram.maximumCount): use fewer rules"
            )
        }
    }

    /// Whether there are calls for somebody else to answer; checks that this can work.
    private static func notifies(_ spec: Spec.Seccomp) throws(SeccompError) -> Bool {
        var notifies = false
        for (index, rule) in spec.syscalls.enumerated() where rule.action == "SCMP_ACT_NOTIFY" {
            notifies = true
            // The process itself sends the listener's descriptor off, with nobody to answer yet.
            if rule.names.contains("sendmsg") {
                throw SeccompError(
                    .unsupported,
                    "syscalls[\(index)]: SCMP_ACT_NOTIFY is not possible for sendmsg, with which the listener is reached"
                )
            }
        }
        guard notifies, !spec.hasListener else { return notifies }
        throw SeccompError(.invalid, "listenerPath: is missing: somebody must answer SCMP_ACT_NOTIFY")
    }

    private static func flags(_ names: [String], notifies: Bool) throws(SeccompError) -> UInt32 {
        let listener = notifies ? FilterFlag.newListener : 0
        // What runc and crun do where nothing is said: else kernels before 5.16 slow every process with a filter down.
        if names.isEmpty { return FilterFlag.allowSpeculation | listener }
        var flags = listener
        for (index, name) in names.enumerated() {
            switch name {
            case "SECCOMP_FILTER_FLAG_LOG": flags |= FilterFlag.log
            case "SECCOMP_FILTER_FLAG_SPEC_ALLOW": flags |= FilterFlag.allowSpeculation
            // A zone's first process has one thread when it takes the filter on: nothing to synchronize.
            case "SECCOMP_FILTER_FLAG_TSYNC": break
            // Says how to wait for an answer to SCMP_ACT_NOTIFY, and the kernel refuses it on any other filter.
            case "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
                if notifies { flags |= FilterFlag.waitKillable }
            default: throw SeccompError(.invalid, "flags[\(index)]: \"\(name)\" is not a known flag")
            }
        }
        return flags
    }
}

/// Bits of seccomp(2)'s flags, `SECCOMP_FILTER_FLAG_…`.
enum FilterFlag {
    static let log: UInt32 = 1 << 1
    static let allowSpeculation: UInt32 = 1 << 2
    static let newListener: UInt32 = 1 << 3
    static let waitKillable: UInt32 = 1 << 5
}

/// What a filter answers, `SECCOMP_RET_…` with its data.
struct FilterAction: Equatable {
    let code: UInt32

    /// The corresponding C constant is `SECCOMP_RET_USER_NOTIF`.
    static let notify: UInt32 = 0x7FC0_0000

    init(_ name: String, _ errno: UInt32?, at place: String, errnoAt errnoPlace: String) throws(SeccompError) {
        let takesErrno = name == "SCMP_ACT_ERRNO" || name == "SCMP_ACT_TRACE"
        if let errno {
            guard takesErrno else {
                throw SeccompError(.invalid, "\(errnoPlace): \(name) takes no error number")
            }
            // libseccomp takes what is below the kernel's MAX_ERRNO, 4095; a tracer's message may use all 16 bits.
            let largest: UInt32 = name == "SCMP_ACT_ERRNO" ? 4094 : 0xFFFF
            guard errno <= largest else {
                throw SeccompError(.invalid, "\(errnoPlace): \(errno) is above \(largest)")
            }
        }
        let data = errno ?? UInt32(Errno.notPermitted.rawValue)
        switch name {
        case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD": code = 0
        case "SCMP_ACT_KILL_PROCESS": code = 0x8000_0000
        case "SCMP_ACT_TRAP": code = 0x0003_0000
        case "SCMP_ACT_ERRNO": code = 0x0005_0000 | data
        case "SCMP_ACT_TRACE": code = 0x7FF0_0000 | data
        case "SCMP_ACT_LOG": code = 0x7FFC_0000
        case "SCMP_ACT_ALLOW": code = 0x7FFF_0000
        case "SCMP_ACT_NOTIFY": code = FilterAction.notify
        default:
            throw SeccompError(.invalid, "\(place): \"\(name)\" is not an action such as SCMP_ACT_ALLOW")
        }
    }
}

extension Spec.Seccomp {
    /// Whether somebody is named to answer `SCMP_ACT_NOTIFY`.
    var hasListener: Bool { !(listenerPath ?? "").isEmpty }
}

extension Spec.Seccomp.Rule {
    /// The condition lists of which one must hold as a whole. libseccomp takes one condition on an argument in a rule;
    /// where two are given, every condition becomes a rule of its own, as in runc: they are joined by "or".
    var alternatives: [[Spec.Seccomp.Argument]] {
        Set(args.map(\.index)).count == args.count ? [args] : args.map { [$0] }
    }
}

/// A filter under construction in libseccomp.
private struct Filter: ~Copyable {
    private let context: scmp_filter_ctx
    private let defaultAction: FilterAction

    init(_ defaultAction: FilterAction) throws(SeccompError) {
        guard let context = seccomp_init(defaultAction.code) else {
            throw SeccompError(.system, "make a filter", cause: SystemError("seccomp_init", "", .invalid))
        }
        self.context = context
        self.defaultAction = defaultAction
    }

    deinit {
        seccomp_release(context)
    }

    /// Must come before the rules, which hold for the architectures known when they are added.
    mutating func addArchitecture(_ name: String, at place: String) throws(SeccompError) {
        let prefix = "SCMP_ARCH_"
        guard name.hasPrefix(prefix) else {
            throw SeccompError(.invalid, "\(place): \"\(name)\" is not an architecture such as SCMP_ARCH_X86_64")
        }
        if name == "SCMP_ARCH_NATIVE" { return }
        let token = seccomp_arch_resolve_name(name.dropFirst(prefix.count).lowercased())
        guard token != 0 else {
            throw SeccompError(.unsupported, "\(place): libseccomp does not know the architecture \(name)")
        }
        let result = seccomp_arch_add(context, token)
        // The native one is there from the beginning.
        if result == -Errno.exists.rawValue { return }
        guard result == 0 else {
            throw SeccompError(.unsupported, "\(place): \(name) cannot be filtered together with this machine's own")
        }
    }

    mutating func add(_ rule: Spec.Seccomp.Rule, at place: String) throws(SeccompError) {
        let action = try FilterAction(
            rule.action, rule.errnoRet, at: "\(place).action", errnoAt: "\(place).errnoRet")
        guard !rule.names.isEmpty else { throw SeccompError(.invalid, "\(place).names: is missing or empty") }
        var alternatives: [[scmp_arg_cmp]] = []
        for list in rule.alternatives {
            var conditions: [scmp_arg_cmp] = []
            for (index, argument) in list.enumerated() {
                conditions.append(try Filter.condition(argument, at: "\(place).args[\(index)]"))
            }
            alternatives.append(conditions)
        }
        for (index, name) in rule.names.enumerated() {
            guard !name.isEmpty else { throw SeccompError(.invalid, "\(place).names[\(index)]: is empty") }
            // libseccomp refuses a rule that says the same as the default.
            if action == defaultAction { continue }
            let number = seccomp_syscall_resolve_name(name)
            if number == __NR_SCMP_ERROR { continue }
            for conditions in alternatives {
                let result = seccomp_rule_add_array(
                    context, action.code, number, UInt32(conditions.count), conditions)
                guard result != -Errno.exists.rawValue else {
                    throw SeccompError(.invalid, "\(place): contradicts an earlier rule for \(name)")
                }
                try Filter.check(result, "add a rule for \(name)", at: place)
            }
        }
    }

    private static func condition(
        _ argument: Spec.Seccomp.Argument, at place: String
    ) throws(SeccompError) -> scmp_arg_cmp {
        guard argument.index < 6 else {
            throw SeccompError(.invalid, "\(place).index: \(argument.index) is above 5, the last argument's")
        }
        let comparison =
            switch argument.op {
            case "SCMP_CMP_NE": SCMP_CMP_NE
            case "SCMP_CMP_LT": SCMP_CMP_LT
            case "SCMP_CMP_LE": SCMP_CMP_LE
            case "SCMP_CMP_EQ": SCMP_CMP_EQ
            case "SCMP_CMP_GE": SCMP_CMP_GE
            case "SCMP_CMP_GT": SCMP_CMP_GT
            case "SCMP_CMP_MASKED_EQ": SCMP_CMP_MASKED_EQ
            default:
                throw SeccompError(.invalid, "\(place).op: \"\(argument.op)\" is not an operator such as SCMP_CMP_EQ")
            }
        // A masked comparison has the mask first, as in libseccomp.
        return scmp_arg_cmp(
            arg: argument.index, op: comparison, datum_a: argument.value, datum_b: argument.valueTwo)
    }

    /// Finds calls by bisection: 300 rules take 10 comparisons instead of up to 300.
    mutating func sortIntoTree() throws(SeccompError) {
        try Filter.check(seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2), "sort the rules", at: "")
    }

    /// The program. libseccomp before 2.6 can only write it to a file.
    consuming func export() throws(SeccompError) -> [UInt8] {
        do throws(SystemError) {
            let file = try Descriptor.inMemory("seccomp")
            try LinuxSystem.check(seccomp_export_bpf(context, file.raw), "seccomp_export_bpf")
            file.rewind()
            return try file.readAll(limit: 1 << 20, "compiled filter")
        } catch {
            throw SeccompError(.system, "compile the filter", cause: error)
        }
    }

    private static func check(_ result: CInt, _ what: String, at place: String) throws(SeccompError) {
        guard result != 0 else { return }
        let cause = SystemError("libseccomp", "", Errno(rawValue: -result))
        throw SeccompError(.system, place.isEmpty ? what : "\(place): \(what)", cause: cause)
    }
}
