// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import OCI
import TestSupport
import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct OptionValueTests {
    private func refusal(_ option: String, _ body: () throws(ZoneError) -> Void) {
        do throws(ZoneError) {
            try body()
            Issue.record("was taken")
        } catch {
            #expect(error.code == .invalid)
            #expect(error.detail.hasPrefix(option), "\(error.detail)")
        }
    }

    // MARK: Limits

    @Test(
        arguments: [
            ("nofile=1024:4096", "RLIMIT_NOFILE", 1024, 4096), ("nofile=7", "RLIMIT_NOFILE", 7, 7),
            ("core=0", "RLIMIT_CORE", 0, 0),
            ("nproc=-1", "RLIMIT_NPROC", .max, .max), ("stack=1:unlimited", "RLIMIT_STACK", 1, .max),
        ] as [(String, String, UInt64, UInt64)])
    func ulimits(_ text: String, _ type: String, _ soft: UInt64, _ hard: UInt64) throws {
        #expect(try OptionValue.limit(text) == Spec.ResourceLimit(type: type, soft: soft, hard: hard))
    }

    @Test(arguments: [
        "", "nofile", "nofile=", "=1", "nofile=1:", "nofile=:1", "nofile=1:2:3", "nofile=x", "nofile=2:1",
        "nofile=-1:5", "nofile=-2",
        "NOFILE=1", "RLIMIT_NOFILE=1", "sense=1", "nofile=18446744073709551616",
    ])
    func badULimits(_ text: String) {
        refusal("--ulimit \"\(text)\"") { () throws(ZoneError) in _ = try OptionValue.limit(text) }
    }

    // MARK: Identity

    @Test(arguments: ["a", "web-1.example", String(repeating: "h", count: 64), "1"])
    func hostnames(_ text: String) throws {
        #expect(try OptionValue.hostname(text) == text)
    }

    @Test(arguments: ["", "-a", "a b", "a_b", "é", "a/b", "a\n", String(repeating: "h", count: 65)])
    func badHostnames(_ text: String) {
        refusal("--hostname \"\(text)\"") { () throws(ZoneError) in _ = try OptionValue.hostname(text) }
    }

    @Test(arguments: ["", ":", "1:", "-1", "4294967295", "0x0"])
    func badUsers(_ text: String) {
        refusal("user \"\(text)\"") { () throws(ZoneError) in _ = try OptionValue.user(text) }
    }

    @Test(arguments: [[""], ["container:x"], ["a b"], ["none", "web"], ["web", "host"], ["web", "web"], ["../x"]])
    func badNetworks(_ texts: [String]) {
        refusal("--network") { () throws(ZoneError) in
            _ = try definition(texts.flatMap { ["--network", $0] })
        }
    }

    private func definition(_ words: [String]) throws(ZoneError) -> ZoneDefinition {
        let parser = ArgumentParser(command: "run", options: RunCommand.command.options, endsOptionsAtOperand: true)
        return try RunCommand.definition(try parser.parse(words + ["busybox"]))
    }

    @Test func networks() throws {
        var definition = try definition(["--network", "host"])
        #expect(definition.network == .host && definition.networks.isEmpty)
        definition = try self.definition(["--network", "web", "--network", "db,ip=10.1.0.7,in=10mbit"])
        #expect(definition.network == .none && definition.networks.map(\.name) == ["web", "db"])
        #expect(definition.networks[1].addresses == ["10.1.0.7"] && definition.networks[1].inRate == 10_000_000)
        definition = try self.definition(["--network", "zone:db"])
        #expect(definition.network == .zone && definition.networkZone == "db")
        definition = try self.definition(["--network", "web", "--ip", "10.1.0.8", "--ip", "fd00::8", "-p", "80:80"])
        #expect(definition.networks[0].addresses == ["10.1.0.8", "fd00::8"] && definition.ports.count == 1)
    }

    @Test(arguments: [
        ["--network", "none", "-p", "80:80"], ["--network", "host", "-p", "80:80"],
        ["--network", "none", "--ip", "10.1.0.7"],
        ["--network", "web", "--ip", "10.1.0"], ["--network", "web", "--mac", "01:00:00:00:00:00"],
        ["--network", "web", "-p", "80:80", "-p", "127.0.0.1:80:81"], ["--network", "web", "--network-in", "1"],
        ["--network", "web,colour=red"], ["--network", "bridge:br0", "--ip", "10.1.0.7"],
        ["--network", "macvlan:eth0", "--network-out", "1mbit"], ["--network", "web", "--dns", "here"],
        ["--network", "web", "--add-host", "db"],
    ])
    func badNetworkOptions(_ words: [String]) {
        refusal("") { () throws(ZoneError) in _ = try definition(words) }
    }

    @Test(arguments: [
        ("CHOWN", "CAP_CHOWN"), ("cap_chown", "CAP_CHOWN"), ("all", "ALL"), ("ALL", "ALL"), ("net_raw", "CAP_NET_RAW"),
    ])
    func capabilities(_ text: String, _ name: String) throws {
        #expect(try OptionValue.capability(text, "--cap-add") == name)
    }

    @Test(arguments: ["", "CAP_ALL", "everything", "CHOWN,KILL", "CAP_", "\u{17F}ys_admin"])
    func badCapabilities(_ text: String) {
        refusal("--cap-drop \"\(text)\"") { () throws(ZoneError) in _ = try OptionValue.capability(text, "--cap-drop") }
    }

    // MARK: Environment

    @Test func environmentComesInOrder() throws {
        let folder = try TemporaryFolder()
        try folder.write("env", "# a comment\n\nA=1\n  B=two words \r\nEMPTY=\nZONECTL_TEST_UNSET\n\tC=x=y\n")
        let result = try OptionValue.environment(files: ["\(folder.path)/env"], entries: ["A=2", "HOME_OF_NOBODY"])
        #expect(result == ["A=1", "B=two words ", "EMPTY=", "C=x=y", "A=2"])
    }

    @Test func aNameAloneTakesTheCallersValue() throws {
        let path = try #require(getenv("PATH"))
        #expect(try OptionValue.environment(files: [], entries: ["PATH"]) == ["PATH=\(String(cString: path))"])
    }

    @Test(arguments: ["", "=", "=x", "=\u{301}=9", "A B=1", "A\t=1", " A=1"])
    func badVariables(_ text: String) {
        refusal("--env \"\(text)\"") { () throws(ZoneError) in
            _ = try OptionValue.environment(files: [], entries: [text])
        }
    }

    @Test func aBadFileIsNamedWithItsLine() throws {
        let folder = try TemporaryFolder()
        try folder.write("env", "A=1\n=2\n")
        refusal("--env-file \(folder.path)/env, line 2:") { () throws(ZoneError) in
            _ = try OptionValue.environment(files: ["\(folder.path)/env"], entries: [])
        }
        try folder.write("binary", "A=\u{0}\n")
        refusal("--env-file \(folder.path)/binary") { () throws(ZoneError) in
            _ = try OptionValue.environment(files: ["\(folder.path)/binary"], entries: [])
        }
        let missing = #expect(throws: ZoneError.self) {
            _ = try OptionValue.environment(files: ["/missing"], entries: [])
        }
        #expect(missing?.detail.contains("/missing") == true)
    }

    // MARK: Security, sysctls, devices

    @Test func securityOptions() throws {
        var definition = ZoneDefinition()
        try OptionValue.applySecurity("seccomp=unconfined", to: &definition)
        #expect(definition.seccompProfile == "unconfined")
        try OptionValue.applySecurity("seccomp=/etc/passwd", to: &definition)
        #expect(definition.seccompProfile == "/etc/passwd")
        try OptionValue.applySecurity("no-new-privileges:false", to: &definition)
        #expect(definition.allowsNewPrivileges)
        for text in ["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true"] {
            definition.allowsNewPrivileges = true
            try OptionValue.applySecurity(text, to: &definition)
            #expect(!definition.allowsNewPrivileges)
        }
    }

    @Test(arguments: [
        "", "seccomp", "seccomp=", "seccomp=/missing", "no-new-privileges=maybe", "apparmor=x", "label:disable",
        "unconfined",
    ])
    func badSecurity(_ text: String) {
        refusal("--security-opt") { () throws(ZoneError) in
            var definition = ZoneDefinition()
            try OptionValue.applySecurity(text, to: &definition)
        }
    }

    @Test func sysctls() throws {
        let (name, value) = try OptionValue.sysctl("net.ipv4.ping_group_range=0 1=2", network: .none)
        #expect((name, value) == ("net.ipv4.ping_group_range", "0 1=2"))
    }

    @Test(arguments: ["", "=", "=1", "net.x", "vm.swappiness=1", "kernel.core_pattern=|/x"])
    func badSysctls(_ text: String) {
        refusal("--sysctl") { () throws(ZoneError) in _ = try OptionValue.sysctl(text, network: .none) }
    }

    @Test(arguments: [
        ("/dev/null", "/dev/null", "rwm"), ("/dev/null:/dev/x", "/dev/x", "rwm"), ("/dev/null:/dev/x:r", "/dev/x", "r"),
        ("/dev/null:rw", "/dev/null", "rw"),
    ])
    func devices(_ text: String, _ target: String, _ access: String) throws {
        #expect(try OptionValue.device(text) == .init(source: "/dev/null", target: target, access: access))
    }

    @Test(arguments: [
        "", ":", "null", "/dev/null:", "/dev/null::", "/dev/null::rw", "/dev/null:x", "/dev/null:/dev/x:",
        "/dev/null:/dev/x:q",
        "/dev/null:/dev/x:rw:y", "/dev/missing",
    ])
    func badDevices(_ text: String) {
        refusal("--device") { () throws(ZoneError) in _ = try OptionValue.device(text) }
    }
}
