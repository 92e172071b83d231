// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import Testing

@testable import Seccomp

/// The built-in profile beside the distribution's.
@Suite struct BuiltInTests {
    private static let installed = "/usr/share/containers/seccomp.json"
    private static var isInstalled: Bool { (try? FileStatus.of(installed)) != nil }

    /// What the built-in profile allows besides Debian 12's.
    private static let additions: Set = [
        "cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "getxattrat", "listmount",
        "listxattrat", "map_shadow_stack", "mseal", "removexattrat", "riscv_flush_icache", "riscv_hwprobe",
        "set_mempolicy_home_node", "setxattrat", "statmount", "uretprobe",
    ]

    /// The rules on each call that take effect, in a form that does not depend on how rules are grouped.
    private func effects(_ spec: Spec.Seccomp) -> [String: Set<String>] {
        var effects: [String: [(conditions: String, text: String)]] = [:]
        for rule in spec.syscalls {
            let conditions = rule.args.map { "\($0.index) \($0.op) \($0.value) \($0.valueTwo)" }.joined(separator: ", ")
            let text = "\(rule.action) \(rule.errnoRet ?? 0) when \(conditions)"
            for name in rule.names { effects[name, default: []].append((conditions, text)) }
        }
        return effects.mapValues { list in
            // The first rule without conditions is the only one that counts.
            if let only = list.first(where: { $0.conditions.isEmpty }) { return [only.text] }
            return Set(list.map(\.text))
        }
    }

    @Test(
        .enabled(if: isInstalled),
        arguments: [
            [], dockerCapabilities, dockerCapabilities.subtracting(["CAP_AUDIT_WRITE"]), ["CAP_SYS_ADMIN"],
            ["CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PACCT"],
            ["CAP_DAC_READ_SEARCH", "CAP_SYS_TTY_CONFIG"],
        ] as [Set<String>])
    func equalsTheDistributions(_ capabilities: Set<String>) throws {
        let theirs = try SeccompProfile(parsing: readHostFile(BuiltInTests.installed))
            .resolve(capabilities: capabilities, target: amd64)
        let ours = try SeccompProfile.builtIn.resolve(capabilities: capabilities, target: amd64)
        #expect(ours.defaultAction == theirs.defaultAction)
        #expect(ours.defaultErrnoRet == theirs.defaultErrnoRet)
        #expect(ours.architectures == theirs.architectures)
        let (left, right) = (effects(ours), effects(theirs))
        for name in Set(left.keys).union(right.keys) where !BuiltInTests.additions.contains(name) {
            #expect(left[name] == right[name], "\(name)")
        }
    }

    @Test func bpfAndPerfHaveCapabilitiesOfTheirOwn() throws {
        for (capability, name) in [("CAP_BPF", "bpf"), ("CAP_PERFMON", "perf_event_open")] {
            #expect(effects(try defaultRules([]))[name] == ["SCMP_ACT_ERRNO 1 when "])
            #expect(effects(try defaultRules([capability]))[name] == ["SCMP_ACT_ALLOW 0 when "])
            #expect(effects(try defaultRules(["CAP_SYS_ADMIN"]))[name] == ["SCMP_ACT_ALLOW 0 when "])
        }
    }

    @Test func otherMachinesResolve() throws {
        for (architecture, token, call) in [
            ("arm64", "SCMP_ARCH_AARCH64", "set_tls"), ("ppc64le", "SCMP_ARCH_PPC64LE", "sync_file_range2"),
            ("s390x", "SCMP_ARCH_S390X", "s390_pci_mmio_read"), ("riscv64", "SCMP_ARCH_RISCV64", "riscv_hwprobe"),
        ] {
            let target = FilterTarget(architecture: architecture, token: token, kernel: KernelVersion(6, 1))
            let spec = try SeccompProfile.builtIn.resolve(capabilities: [], target: target)
            #expect(spec.syscalls.contains { $0.names.contains(call) && $0.action == "SCMP_ACT_ALLOW" }, "\(call)")
            #expect(!spec.syscalls.contains { $0.names.contains("arch_prctl") })
        }
    }

    /// Cached filters outlive the program: whoever changes the rules has to say so.
    @Test func aChangeOfTheRulesWantsANewRevision() throws {
        var checksum = Checksum()
        for capabilities in [dockerCapabilities, [], ["CAP_SYS_ADMIN"], ["CAP_BPF", "CAP_PERFMON"]] as [Set<String>] {
            checksum.add(try defaultRules(capabilities).serialized()[...])
            checksum.add(try defaultRules(capabilities, .socketcall).serialized()[...])
        }
        let digest = String(checksum.value, radix: 16)
        #expect(
            "\(SeccompCache.revision) \(digest)" == "2 9be9f3607473a9a1",
            "the default rules changed: raise SeccompCache.revision and put both here")
    }
}
