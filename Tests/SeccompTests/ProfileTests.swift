// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import Testing

@testable import Seccomp

/// Reading and resolving profiles.
@Suite struct ProfileTests {
    private func parse(_ text: String) throws(JSONError) -> SeccompProfile {
        try SeccompProfile(parsing: Array(text.utf8))
    }

    private func names(
        _ text: String, _ capabilities: Set<String> = [], kernel: KernelVersion = KernelVersion(6, 1)
    ) throws -> [String] {
        let target = FilterTarget(architecture: "amd64", token: "SCMP_ARCH_X86_64", kernel: kernel)
        let profile = try parse("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [\(text)]}")
        return try profile.resolve(capabilities: capabilities, target: target).syscalls.flatMap(\.names)
    }

    @Test func readsDockersForm() throws {
        let profile = try parse(
            """
            {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
             "archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                         {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
             "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {},
                 "excludes": {}},
                {"name": "personality", "action": "SCMP_ACT_ERRNO", "errno": "EINVAL",
                 "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]}
            """)
        let spec = try profile.resolve(capabilities: [], target: amd64)
        #expect(spec.defaultErrnoRet == 38)
        #expect(spec.architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
        #expect(spec.syscalls.map(\.names) == [["read", "write"], ["personality"]])
        #expect(spec.syscalls[1].errnoRet == 22)
        #expect(spec.syscalls[1].args.first?.value == 8)
    }

    @Test func readsThePlainForm() throws {
        let profile = try parse(
            """
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
             "flags": ["SECCOMP_FILTER_FLAG_LOG"],
             "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
            """)
        let spec = try profile.resolve(capabilities: [], target: amd64)
        #expect(spec.architectures == ["SCMP_ARCH_X86_64"])
        #expect(spec.flags == ["SECCOMP_FILTER_FLAG_LOG"])
        #expect(spec.syscalls.count == 1)
    }

    @Test func includesWantAllCapabilitiesAndExcludesAny() throws {
        let both = """
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X", "CAP_Y"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_X", "CAP_Y"]}}
            """
        #expect(try names(both) == ["b"])
        #expect(try names(both, ["CAP_X"]) == [])
        #expect(try names(both, ["CAP_X", "CAP_Y"]) == ["a"])
    }

    @Test func architecturesAndKernelsDecide() throws {
        let text = """
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}}
            """
        #expect(try names(text, kernel: KernelVersion(4, 7)) == ["a", "e"])
        #expect(try names(text, kernel: KernelVersion(4, 8)) == ["a", "d", "e"])
        #expect(try names(text, kernel: KernelVersion(4, 19)) == ["a", "d", "e"])
        #expect(try names(text, kernel: KernelVersion(5, 0)) == ["a", "d"])
    }

    @Test(arguments: [
        ("", "line 1, column 1: unexpected end of text"),
        ("[]", "expected an object, found an array"),
        ("{}", "defaultAction: is missing"),
        ("{\"defaultAction\": 1}", "defaultAction: expected a string, found a number"),
        ("{\"defaultAction\": \"x\", \"syscalls\": {}}", "syscalls: expected an array, found an object"),
        ("{\"defaultAction\": \"x\", \"syscalls\": [{\"names\": [\"a\"]}]}", "syscalls[0].action: is missing"),
        (
            "{\"defaultAction\": \"x\", \"syscalls\": [{\"action\": \"y\", \"errnoRet\": -1}]}",
            "syscalls[0].errnoRet: -1 is not an integer from 0 to 4294967295"
        ),
        (
            "{\"defaultAction\": \"x\", \"syscalls\": [{\"action\": \"y\", \"args\": [{\"index\": 0}]}]}",
            "syscalls[0].args[0].value: is missing"
        ),
    ])
    func refusesMalformedText(_ text: String, _ message: String) throws {
        let error = #expect(throws: JSONError.self) { try parse(text) }
        #expect(error?.description == message)
    }

    @Test(arguments: [
        ("{\"name\": \"a\", \"names\": [\"b\"], \"action\": \"x\"}", "syscalls[0]: both name and names are given"),
        (
            "{\"names\": [\"a\"], \"action\": \"x\", \"includes\": {\"minKernel\": \"5\"}}",
            "syscalls[0].includes.minKernel: \"5\" is not a version"
        ),
        (
            "{\"names\": [\"a\"], \"action\": \"x\", \"excludes\": {\"minKernel\": \"4.x\"}}",
            "syscalls[0].excludes.minKernel: \"4.x\" is not a version"
        ),
        (
            "{\"names\": [\"a\"], \"action\": \"x\", \"includes\": {\"minKernel\": \"99999999999999999999.1\"}}",
            "syscalls[0].includes.minKernel"
        ),
        (
            "{\"names\": [\"a\"], \"action\": \"x\", \"errno\": \"EWHAT\"}",
            "syscalls[0].errno: \"EWHAT\" is not a known"
        ),
    ])
    func refusesContradictions(_ text: String, _ message: String) throws {
        let error = #expect(throws: SeccompError.self) { try names(text) }
        #expect(error?.code == .invalid)
        #expect(error?.description.hasPrefix(message) == true, "\(error?.description ?? "")")
    }

    @Test func architecturesBesidesArchMapAreRefused() throws {
        let profile = try parse(
            """
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
             "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}
            """)
        #expect(throws: SeccompError.self) { try profile.resolve(capabilities: [], target: amd64) }
    }

    @Test(arguments: [
        ("6.18.44-1-amd64", KernelVersion(6, 18)), ("5.10", KernelVersion(5, 10)), ("4.19-rc1", KernelVersion(4, 19)),
        ("7", KernelVersion(7, 0)), ("", KernelVersion(0, 0)), ("x", KernelVersion(0, 0)),
    ])
    func releasesHaveVersions(_ release: String, _ version: KernelVersion) {
        #expect(KernelVersion(release: release.utf8) == version)
    }
}
