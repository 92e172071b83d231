// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@testable import Seccomp

/// The form of the hardened rules; what they do is in ``DefaultFilterTests``.
@Suite struct HardeningTests {
    private func flags(_ name: String, _ spec: Spec.Seccomp) -> [[Spec.Seccomp.Argument]] {
        spec.syscalls.filter { $0.names == [name] && $0.action == "SCMP_ACT_ALLOW" }.map(\.args)
    }

    @Test func blocksCoverExactlyTheSet() {
        for set in [Set(0..<64), Set(0..<64).subtracting([38, 40]), [], [0], [63], [1, 2, 3], [16]] as [Set<UInt64>] {
            let blocks = Spec.Seccomp.blocks(of: set)
            var covered: [UInt64] = []
            for block in blocks {
                #expect(block.size.nonzeroBitCount == 1 && block.start % block.size == 0)
                covered += Array(block.start..<block.start + block.size)
            }
            #expect(covered == set.sorted())
        }
        #expect(Spec.Seccomp.blocks(of: Set(0..<64).subtracting([38, 40])).count == 8)
    }

    @Test func aMaskOnTheFlagsIsJoinedWithOurs() {
        let old = rules(
            "SCMP_ACT_ERRNO",
            [
                rule(["clone"], "SCMP_ACT_ALLOW", nil, [(0, "SCMP_CMP_MASKED_EQ", 0x7C02_0000, 0)]),
                rule(["unshare"], "SCMP_ACT_ALLOW", nil, [(0, "SCMP_CMP_GT", 5, 0)]),
            ])
        let spec = Hardening.applied(to: old, capabilities: [])
        #expect(flags("clone", spec) == [[.masked(0, 0x7E02_0000, 0)]])
        // What cannot be joined is denied.
        #expect(flags("unshare", spec) == [])
    }

    @Test func rulesOfOtherCallsStay() {
        let old = rules("SCMP_ACT_ERRNO", [rule(["read", "clone", "bpf", "write"], "SCMP_ACT_ALLOW")])
        let spec = Hardening.applied(to: old, capabilities: [])
        #expect(spec.syscalls.contains { $0.names == ["read", "write"] })
        #expect(flags("clone", spec) == [[.masked(0, 0x7E02_0000, 0)]])
    }

    @Test func whatTheProfileDoesNotAllowIsNotAllowedNow() {
        let spec = Hardening.applied(to: rules("SCMP_ACT_ERRNO", [rule(["read"], "SCMP_ACT_ALLOW")]), capabilities: [])
        #expect(spec.syscalls.filter { $0.action == "SCMP_ACT_ALLOW" }.flatMap(\.names) == ["read"])
    }

    @Test func aProfileThatAllowsByDefaultGetsDenialsOnly() throws {
        let spec = Hardening.applied(
            to: rules("SCMP_ACT_ALLOW", [rule(["clone", "socket"], "SCMP_ACT_LOG")]), capabilities: [])
        #expect(spec.syscalls.allSatisfy { $0.action == "SCMP_ACT_ERRNO" })
        #if arch(x86_64)
        let filter = FilterInterpreter(try SeccompProgram(compiling: spec))
        #expect(try filter.action(.amd64, 56, [0x1000_0000]) == Answer.notPermitted)
        #expect(try filter.action(.amd64, 56, [0x11]) == Answer.allow)
        #expect(try filter.action(.amd64, 41, [38]) == Answer.notPermitted)
        #expect(try filter.action(.amd64, 41, [1 << 32 | 38]) == Answer.notPermitted)
        #expect(try filter.action(.amd64, 41, [2]) == Answer.allow)
        #endif
    }

    @Test func anExceptionGivesNothingThatTheProfileDoesNot() throws {
        let spec = rules("SCMP_ACT_ERRNO", [rule(["socket"], "SCMP_ACT_ALLOW")], architectures: ["SCMP_ARCH_X86"])
        let hardened = Hardening.applied(to: spec, capabilities: [], exceptions: .socketcall)
        #expect(hardened.syscalls.first?.names == ["socketcall"])
        #if arch(x86_64)
        let filter = FilterInterpreter(try SeccompProgram(compiling: hardened))
        #expect(try filter.action(.i386, 102, [1]) == Answer.accessDenied)
        #expect(try filter.action(.i386, 359, [2]) == Answer.allow)
        #endif
    }

    @Test func socketcallIsDeniedEvenWhereTheDefaultSaysTheSame() {
        var spec = rules("SCMP_ACT_ERRNO", [rule(["socket", "socketcall"], "SCMP_ACT_ALLOW")])
        spec.defaultErrnoRet = 13
        let denial = Hardening.applied(to: spec, capabilities: []).syscalls.first
        #expect(denial?.names == ["socketcall"])
        #expect(denial?.errnoRet == 1)
    }
}
