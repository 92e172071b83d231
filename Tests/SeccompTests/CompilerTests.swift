// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CSeccomp
import OCI
import Testing

@testable import Seccomp

/// From rules to a program, seen through what the program answers.
@Suite struct CompilerTests {
    /// getpid on x86_64; every machine has the name.
    private let call = UInt32(seccomp_syscall_resolve_name("getpid"))
    private let native = FilterInterpreter.ABI(rawValue: seccomp_arch_native()) ?? .amd64

    private func answer(_ spec: Spec.Seccomp, _ arguments: [UInt64] = []) throws -> UInt32 {
        try FilterInterpreter(SeccompProgram(compiling: spec)).action(native, call, arguments)
    }

    private func failure(_ spec: Spec.Seccomp) -> SeccompError? {
        #expect(throws: SeccompError.self) { try SeccompProgram(compiling: spec) }
    }

    @Test(
        arguments: [
            ("SCMP_ACT_KILL", nil, Answer.killThread), ("SCMP_ACT_KILL_THREAD", nil, Answer.killThread),
            ("SCMP_ACT_KILL_PROCESS", nil, Answer.killProcess), ("SCMP_ACT_TRAP", nil, Answer.trap),
            ("SCMP_ACT_ERRNO", nil, Answer.notPermitted), ("SCMP_ACT_ERRNO", 38, Answer.notImplemented),
            ("SCMP_ACT_ERRNO", 0, Answer.errno(0)), ("SCMP_ACT_ERRNO", 4094, Answer.errno(4094)),
            ("SCMP_ACT_TRACE", nil, Answer.trace(1)), ("SCMP_ACT_TRACE", 0xFFFF, Answer.trace(0xFFFF)),
            ("SCMP_ACT_LOG", nil, Answer.log),
        ] as [(String, UInt32?, UInt32)])
    func actions(_ name: String, _ errno: UInt32?, _ expected: UInt32) throws {
        #expect(try answer(rules("SCMP_ACT_ALLOW", [rule(["getpid"], name, errno)])) == expected)
        var byDefault = rules(name, [rule(["read"], "SCMP_ACT_ALLOW")])
        byDefault.defaultErrnoRet = errno
        #expect(try answer(byDefault) == expected)
    }

    @Test(
        arguments: [
            ("SCMP_CMP_NE", [7, 9, 7 | 1 << 40], [8]), ("SCMP_CMP_LT", [0, 7], [8, 9, 1 << 40]),
            ("SCMP_CMP_LE", [0, 8], [9, 1 << 40]), ("SCMP_CMP_EQ", [8], [7, 9, 8 | 1 << 40]),
            ("SCMP_CMP_GE", [8, 9, 1 << 40], [7]), ("SCMP_CMP_GT", [9, 1 << 40], [7, 8]),
        ] as [(String, [UInt64], [UInt64])])
    func operators(_ op: String, _ matching: [UInt64], _ others: [UInt64]) throws {
        let spec = rules("SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_LOG", nil, [(5, op, 8, 0)])])
        for value in matching { #expect(try answer(spec, [0, 0, 0, 0, 0, value]) == Answer.log, "\(op) \(value)") }
        for value in others { #expect(try answer(spec, [0, 0, 0, 0, 0, value]) == Answer.allow, "\(op) \(value)") }
    }

    @Test func maskComesFirst() throws {
        let spec = rules(
            "SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_LOG", nil, [(0, "SCMP_CMP_MASKED_EQ", 0xF0, 0x20)])])
        #expect(try answer(spec, [0x12F]) == Answer.log)
        #expect(try answer(spec, [0x13F]) == Answer.allow)
    }

    @Test func conditionsOnDifferentArgumentsMustAllHold() throws {
        let spec = rules(
            "SCMP_ACT_ALLOW",
            [rule(["getpid"], "SCMP_ACT_LOG", nil, [(0, "SCMP_CMP_EQ", 1, 0), (1, "SCMP_CMP_EQ", 2, 0)])])
        #expect(try answer(spec, [1, 2]) == Answer.log)
        #expect(try answer(spec, [1, 3]) == Answer.allow)
    }

    @Test func conditionsOnOneArgumentAreAlternatives() throws {
        let spec = rules(
            "SCMP_ACT_ALLOW",
            [rule(["getpid"], "SCMP_ACT_LOG", nil, [(0, "SCMP_CMP_EQ", 1, 0), (0, "SCMP_CMP_EQ", 2, 0)])])
        #expect(try answer(spec, [1]) == Answer.log)
        #expect(try answer(spec, [2]) == Answer.log)
        #expect(try answer(spec, [3]) == Answer.allow)
    }

    @Test func unknownCallsAndRepetitionsArePassedOver() throws {
        let spec = rules(
            "SCMP_ACT_ALLOW",
            [
                rule(["no_such_call", "getpid"], "SCMP_ACT_LOG"), rule(["read"], "SCMP_ACT_ALLOW"),
                rule(["getpid"], "SCMP_ACT_TRAP"),
            ])
        #expect(try answer(spec) == Answer.log)
    }

    @Test func otherMachinesAreKilledUnlessNamed() throws {
        let foreign: FilterInterpreter.ABI = native == .amd64 ? .arm64 : .amd64
        let program = try SeccompProgram(compiling: rules("SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_LOG")]))
        #expect(try FilterInterpreter(program).action(foreign, 0) == Answer.killThread)
    }

    @Test func noRulesAtAllIsAProgram() throws {
        #expect(try answer(rules("SCMP_ACT_ALLOW")) == Answer.allow)
    }

    @Test(
        arguments: [
            ([], 4), (["SECCOMP_FILTER_FLAG_LOG"], 2), (["SECCOMP_FILTER_FLAG_TSYNC"], 0),
            (["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6),
            (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
        ] as [([String], UInt32)])
    func flags(_ names: [String], _ expected: UInt32) throws {
        #expect(try SeccompProgram(compiling: rules("SCMP_ACT_ALLOW", flags: names)).flags == expected)
    }

    @Test(arguments: [
        (rules(""), "defaultAction: \"\" is not an action such as SCMP_ACT_ALLOW"),
        (rules("SCMP_ACT_DANCE"), "defaultAction: \"SCMP_ACT_DANCE\" is not an action such as SCMP_ACT_ALLOW"),
        (rules("SCMP_ACT_ALLOW", flags: ["X"]), "flags[0]: \"X\" is not a known flag"),
        (
            rules("SCMP_ACT_ALLOW", architectures: ["x86"]),
            "architectures[0]: \"x86\" is not an architecture such as SCMP_ARCH_X86_64"
        ),
        (rules("SCMP_ACT_ALLOW", [rule([], "SCMP_ACT_LOG")]), "syscalls[0].names: is missing or empty"),
        (rules("SCMP_ACT_ALLOW", [rule([""], "SCMP_ACT_LOG")]), "syscalls[0].names[0]: is empty"),
        (
            rules("SCMP_ACT_ALLOW", [rule(["read"], "SCMP_ACT_LOG", 1)]),
            "syscalls[0].errnoRet: SCMP_ACT_LOG takes no error number"
        ),
        (
            rules("SCMP_ACT_ALLOW", [rule(["read"], "SCMP_ACT_ERRNO", 4095)]),
            "syscalls[0].errnoRet: 4095 is above 4094"
        ),
        (
            rules("SCMP_ACT_ALLOW", [rule(["read"], "SCMP_ACT_LOG", nil, [(6, "SCMP_CMP_EQ", 0, 0)])]),
            "syscalls[0].args[0].index: 6 is above 5, the last argument's"
        ),
        (
            rules("SCMP_ACT_ALLOW", [rule(["no_such_call"], "SCMP_ACT_LOG", nil, [(0, "EQ", 0, 0)])]),
            "syscalls[0].args[0].op: \"EQ\" is not an operator such as SCMP_CMP_EQ"
        ),
        (
            rules(
                "SCMP_ACT_ALLOW",
                [
                    rule(["read"], "SCMP_ACT_LOG", nil, [(0, "SCMP_CMP_EQ", 0, 0)]),
                    rule(["read"], "SCMP_ACT_TRAP", nil, [(0, "SCMP_CMP_EQ", 0, 0)]),
                ]),
            "syscalls[1]: contradicts an earlier rule for read"
        ),
    ])
    func refusesBadRules(_ spec: Spec.Seccomp, _ message: String) {
        let error = failure(spec)
        #expect(error?.code == .invalid)
        #expect(error?.description == message)
    }

    @Test func notifiesWhoListens() throws {
        var spec = rules("SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_NOTIFY")])
        #expect(failure(spec)?.detail.contains("listenerPath") == true)
        spec.listenerPath = "/run/agent.sock"
        #expect(try answer(spec) == 0x7FC0_0000)
        #expect(try SeccompProgram(compiling: spec).flags == 1 << 3 | 1 << 2)
        spec.flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_LOG"]
        #expect(try SeccompProgram(compiling: spec).flags == 1 << 3 | 1 << 5 | 1 << 1)
        // Its descriptor is sent by this call.
        spec.syscalls.append(rule(["sendto", "sendmsg"], "SCMP_ACT_NOTIFY"))
        #expect(failure(spec)?.detail.contains("sendmsg") == true)
        spec = rules("SCMP_ACT_NOTIFY")
        spec.listenerPath = "/run/agent.sock"
        #expect(failure(spec)?.code == .unsupported)
        // The kernel refuses this flag without a listener.
        spec = rules("SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_ERRNO")])
        spec.flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
        #expect(try SeccompProgram(compiling: spec).flags == 0)
    }

    @Test func saysWhatIsUnsupported() {
        #expect(failure(rules("SCMP_ACT_NOTIFY"))?.code == .unsupported)
        #expect(failure(rules("SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_VAX"]))?.code == .unsupported)
        // One filter cannot serve machines of both byte orders.
        #expect(
            failure(rules("SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_PPC64", "SCMP_ARCH_X86_64"]))?.code
                == .unsupported)
    }

    @Test func tooLongAProgramIsRefused() {
        let list = (0..<1500).map { value in
            rule(["getpid"], "SCMP_ACT_LOG", nil, [(0, "SCMP_CMP_EQ", UInt64(value) << 32 | UInt64(value), 0)])
        }
        #expect(failure(rules("SCMP_ACT_ALLOW", list))?.code == .unsupported)
    }

    @Test func theSameRulesGiveTheSameProgram() throws {
        let spec = try defaultRules()
        #expect(try SeccompProgram(compiling: spec) == SeccompProgram(compiling: spec))
    }
}
