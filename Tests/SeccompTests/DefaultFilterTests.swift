// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#if arch(x86_64)
import CSeccomp
import Glibc
import OCI
import Testing

@testable import Seccomp

/// What the default profile's program answers, on each ABI of an x86_64 machine.
@Suite struct DefaultFilterTests {
    /// Compiled once for the many cases of the tests below.
    private static let ordinary = Result {
        FilterInterpreter(try SeccompProgram(compiling: try defaultRules()))
    }

    private func filter(
        _ capabilities: Set<String> = dockerCapabilities, _ exceptions: Hardening.Exceptions = []
    ) throws -> FilterInterpreter {
        if capabilities == dockerCapabilities, exceptions == [] { return try DefaultFilterTests.ordinary.get() }
        return FilterInterpreter(try SeccompProgram(compiling: try defaultRules(capabilities, exceptions)))
    }

    /// Numbers of calls: on x86_64, on i386.
    private static let allowed: [(String, UInt32, UInt32)] = [
        ("read", 0, 3), ("write", 1, 4), ("openat", 257, 295), ("openat2", 437, 437), ("close", 3, 6),
        ("execve", 59, 11), ("exit_group", 231, 252), ("fork", 57, 2), ("wait4", 61, 114), ("kill", 62, 37),
        ("chroot", 161, 61), ("getpid", 39, 20), ("futex", 202, 240), ("mprotect", 10, 125), ("ioctl", 16, 54),
        ("setresuid", 117, 164), ("prctl", 157, 172), ("seccomp", 317, 354), ("capset", 126, 185),
        ("mknodat", 259, 297), ("accept4", 288, 364), ("bind", 49, 361), ("connect", 42, 362), ("rseq", 334, 386),
        ("ptrace", 101, 26), ("futex_waitv", 449, 449),
    ]

    @Test(arguments: allowed)
    func letsProgramsRun(_ name: String, _ long: UInt32, _ short: UInt32) throws {
        let filter = try filter()
        #expect(try filter.action(.amd64, long) == Answer.allow)
        #expect(try filter.action(.i386, short) == Answer.allow)
        #expect(try filter.action(.amd64, long | FilterInterpreter.x32Bit) == Answer.killThread)
    }

    private static let denied: [(String, UInt32, UInt32, UInt32)] = [
        ("io_uring_setup", 425, 425, Answer.notImplemented), ("io_uring_enter", 426, 426, Answer.notImplemented),
        ("io_uring_register", 427, 427, Answer.notImplemented), ("clone3", 435, 435, Answer.notImplemented),
        ("add_key", 248, 286, Answer.notPermitted), ("request_key", 249, 287, Answer.notPermitted),
        ("keyctl", 250, 288, Answer.notPermitted), ("userfaultfd", 323, 374, Answer.notPermitted),
        ("bpf", 321, 357, Answer.notPermitted), ("setns", 308, 346, Answer.notPermitted),
        ("kexec_load", 246, 283, Answer.notPermitted), ("init_module", 175, 128, Answer.notPermitted),
        ("finit_module", 313, 350, Answer.notPermitted), ("iopl", 172, 110, Answer.notPermitted),
        ("open_by_handle_at", 304, 342, Answer.notPermitted), ("perf_event_open", 298, 336, Answer.notPermitted),
        ("settimeofday", 164, 79, Answer.notPermitted), ("swapon", 167, 87, Answer.notPermitted),
        ("acct", 163, 51, Answer.notPermitted), ("sethostname", 170, 74, Answer.notPermitted),
        ("a call of the future", 999, 999, Answer.notImplemented),
    ]

    @Test(arguments: denied)
    func deniesWhatZonesDoNotNeed(_ name: String, _ long: UInt32, _ short: UInt32, _ answer: UInt32) throws {
        let filter = try filter()
        #expect(try filter.action(.amd64, long) == answer)
        #expect(try filter.action(.i386, short) == answer)
        #expect(try filter.action(.amd64, long | FilterInterpreter.x32Bit) == Answer.killThread)
    }

    @Test func namespacesWantAnAdministrator() throws {
        let zone = try filter()
        let administrator = try filter(dockerCapabilities.union(["CAP_SYS_ADMIN"]))
        // CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET.
        for shift in [17, 25, 26, 27, 28, 29, 30] as [UInt64] {
            for (abi, clone, unshare) in [(.amd64, 56, 272), (.i386, 120, 310)]
                as [(FilterInterpreter.ABI, UInt32, UInt32)]
            {
                for number in [clone, unshare] {
                    // With SIGCHLD, CLONE_VM and another namespace.
                    for others in [0, 0x11, 0x100, 0x1000_0000] as [UInt64] {
                        let flags = [1 << shift | others]
                        #expect(try zone.action(abi, number, flags) == Answer.notPermitted, "\(number) \(flags)")
                        #expect(try administrator.action(abi, number, flags) == Answer.allow)
                    }
                }
            }
        }
        // The kernel drops the upper half of clone's flags, so must the filter.
        #expect(try zone.action(.amd64, 56, [1 << 40 | 1 << 28]) == Answer.notPermitted)
        #expect(try zone.action(.amd64, 272, [0x80]) == Answer.notPermitted, "CLONE_NEWTIME")
        #expect(try administrator.action(.amd64, 435) == Answer.allow, "clone3")
        #expect(try administrator.action(.amd64, 308) == Answer.allow, "setns")
    }

    @Test func processesAndThreadsCanBeMade() throws {
        let filter = try filter()
        // fork of glibc and musl, vfork, posix_spawn, pthread_create; unshare(CLONE_FS | CLONE_FILES).
        for flags in [0x11, 0x0120_0011, 0x4111, 0x3D_0F00] as [UInt64] {
            #expect(try filter.action(.amd64, 56, [flags]) == Answer.allow)
            #expect(try filter.action(.i386, 120, [flags]) == Answer.allow)
        }
        #expect(try filter.action(.amd64, 272, [0x600]) == Answer.allow)
    }

    @Test func socketFamilies() throws {
        for capabilities in [dockerCapabilities, dockerCapabilities.union(["CAP_SYS_ADMIN"]), []] as [Set<String>] {
            let filter = try filter(capabilities)
            for family in 0..<UInt64(64) {
                let expected = family == 38 || family == 40 ? Answer.notPermitted : Answer.allow
                #expect(try filter.action(.i386, 359, [family, 1, 0]) == expected, "\(family)")
                // The kernel takes the lower half only.
                for upper in [0, 1, 1 << 31] as [UInt64] {
                    #expect(try filter.action(.amd64, 41, [upper << 32 | family, 1, 0]) == expected, "\(family)")
                }
            }
            #expect(try filter.action(.amd64, 41, [64]) == Answer.notImplemented)
        }
    }

    @Test func socketcallIsAnException() throws {
        let strict = try filter()
        let lenient = try filter(dockerCapabilities, .socketcall)
        // SYS_SOCKET to SYS_SENDMMSG.
        for subcall in 1...UInt64(20) {
            #expect(try strict.action(.i386, 102, [subcall]) == Answer.accessDenied, "\(subcall)")
            #expect(try lenient.action(.i386, 102, [subcall]) == Answer.allow)
        }
    }

    @Test func auditSocketsWantACapability() throws {
        let filter = try filter([])
        #expect(try filter.action(.amd64, 41, [16, 3, 9]) == Answer.errno(22))
        #expect(try filter.action(.amd64, 41, [16, 3, 0]) == Answer.allow)
        #expect(try filter.action(.amd64, 41, [2, 1, 9]) == Answer.allow)
        #expect(try self.filter().action(.amd64, 41, [16, 3, 9]) == Answer.allow)
    }

    @Test func personalitiesAreFew() throws {
        let filter = try filter()
        for value in [0, 8, 0x20000, 0x20008, 0xFFFF_FFFF] as [UInt64] {
            #expect(try filter.action(.amd64, 135, [value]) == Answer.allow)
            #expect(try filter.action(.i386, 136, [value]) == Answer.allow)
        }
        // ADDR_NO_RANDOMIZE.
        #expect(try filter.action(.amd64, 135, [0x40000]) == Answer.notImplemented)
    }

    /// Every call with many arguments: libseccomp's program must answer as the rules read.
    @Test(
        arguments: [
            dockerCapabilities, [], ["CAP_SYS_ADMIN"], ["CAP_BPF", "CAP_AUDIT_WRITE"],
        ] as [Set<String>])
    func theProgramSaysWhatTheRulesSay(_ capabilities: Set<String>) throws {
        let spec = try defaultRules(capabilities)
        let filter = FilterInterpreter(try SeccompProgram(compiling: spec))
        let values: [UInt64] = [
            0, 1, 2, 8, 9, 16, 37, 38, 39, 40, 41, 64, 0x11, 0x80, 0x20000, 0x1000_0000, 0xFFFF_FFFF,
        ]
        for (abi, token) in [(.amd64, 0xC000_003E), (.i386, 0x4000_0003)] as [(FilterInterpreter.ABI, UInt32)] {
            for number in 0..<UInt32(480) {
                let name = DefaultFilterTests.name(token, number)
                let onCall = spec.syscalls.filter { rule in name.map(rule.names.contains) ?? false }
                for first in values {
                    for third in [0, 9] as [UInt64] {
                        let arguments = [first, 0, third]
                        let expected = DefaultFilterTests.expected(spec, onCall, arguments)
                        let action = try filter.action(abi, number, arguments)
                        if action != expected {
                            Issue.record("\(abi) \(name ?? "") \(arguments): \(action), expected \(expected)")
                        }
                    }
                }
            }
        }
    }

    private static func name(_ token: UInt32, _ number: UInt32) -> String? {
        guard let text = seccomp_syscall_resolve_num_arch(token, CInt(number)) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }

    private static func expected(
        _ spec: Spec.Seccomp, _ onCall: [Spec.Seccomp.Rule], _ arguments: [UInt64]
    ) -> UInt32 {
        func code(_ action: String, _ errno: UInt32?) -> UInt32 {
            action == "SCMP_ACT_ALLOW" ? Answer.allow : Answer.errno(errno ?? 1)
        }
        let byDefault = code(spec.defaultAction, spec.defaultErrnoRet)
        let matching = onCall.filter { rule in
            code(rule.action, rule.errnoRet) != byDefault
                && rule.args.allSatisfy { $0.holds(arguments[Int($0.index)]) }
        }
        let deciding = matching.first { $0.args.isEmpty } ?? matching.first
        return deciding.map { code($0.action, $0.errnoRet) } ?? byDefault
    }

    /// The tree keeps the way to each call short: the program runs at many calls of every process.
    @Test func theProgramIsShortAndFast() throws {
        let spec = try defaultRules()
        let program = try SeccompProgram(compiling: spec)
        #expect(program.instructions.count / 8 < 1500)
        let filter = FilterInterpreter(program)
        for number in 0..<UInt32(460) {
            #expect(try filter.run(.amd64, number).steps < 60, "\(number)")
        }
    }
}
#endif
