// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI
import Testing

@testable import ZoneRuntime

@Suite struct DefinitionTests {
    @Test func survivesARoundTrip() throws {
        var definition = ZoneDefinition()
        definition.name = "web"
        definition.image = "busybox"
        definition.imageDigest = Digest(hex: String(repeating: "a", count: 64))
        definition.command = ["sh", "-c", "echo \"žluť\"\n\t\u{7F}"]
        definition.entrypoint = ""
        definition.hostname = "host"
        definition.environment = ["A=b=c", "E="]
        definition.workingDirectory = "/w"
        definition.user = "1:2"
        (definition.isInteractive, definition.hasTerminal, definition.autoRemove) = (true, true, true)
        (definition.runsInit, definition.isReadOnly, definition.allowsNewPrivileges) = (true, true, true)
        definition.mounts = [.init(destination: "/d", type: "bind", source: "/s", options: ["rbind", "ro"])]
        definition.devices = [.init(source: "/dev/fuse", target: "/dev/fuse", access: "rw")]
        definition.network = .host
        definition.resources.memory = Spec.Memory()
        definition.resources.memory?.limit = .max
        definition.resources.pids = Spec.Pids(limit: -1)
        definition.addedCapabilities = ["CAP_SYS_ADMIN"]
        definition.droppedCapabilities = ["ALL"]
        definition.seccompProfile = "unconfined"
        definition.limits = [.init(type: "RLIMIT_NOFILE", soft: 1, hard: .max)]
        definition.sysctls = ["net.ipv4.ip_forward": "1"]
        definition.labels = ["k": "v"]
        let again = try ZoneDefinition(parsing: definition.serialized())
        #expect(again == definition)
        #expect(try ZoneDefinition(parsing: ZoneDefinition().serialized()) == ZoneDefinition())
    }

    @Test(arguments: [
        ("{}", "name: is missing"),
        (
            #"{"name":"a","type":"container","image":"i","network":"bridge"}"#,
            "network: \"bridge\" is not one of none, host, zone"
        ),
        (
            #"{"name":"a","type":"container","image":"i","imageDigest":"latest"}"#,
            "imageDigest: \"latest\" is not a sha256 digest"
        ),
    ])
    func aDamagedDefinitionIsAnError(_ text: String, _ reason: String) {
        let error = #expect(throws: JSONError.self) { _ = try ZoneDefinition(parsing: Array(text.utf8)) }
        #expect(error.map { "\($0)" } == reason)
    }

    // MARK: Mount targets

    @Test(arguments: [
        ("/data", "/data"), ("//a///b/", "/a/b"), ("/process", "/process"), ("/dev/shm", "/dev/shm"),
        ("/a/...", "/a/..."),
        ("/system", "/system"), ("/a/proc", "/a/proc"),
    ])
    func takesMountTargets(_ path: String, _ clean: String) throws {
        #expect(try ZoneDefinition.mountTarget(path, "--volume") == clean)
    }

    @Test(arguments: [
        "", "/", "//", "data", "./data", "/..", "/a/../b", "/a/..", "/./a", "/.", "/proc", "/proc/sys", "//proc//self",
        "/sys",
        "/sys/fs/cgroup", "/proc/\u{301}x", "/a/../\u{301}b",
    ])
    func refusesMountTargets(_ path: String) {
        let error = #expect(throws: ZoneError.self) { _ = try ZoneDefinition.mountTarget(path, "--volume") }
        #expect(error?.code == .invalid)
        #expect(error?.detail.hasPrefix("--volume") == true)
        #expect(error?.hint != nil)
    }

    // MARK: Sysctls

    @Test(arguments: [
        "net.ipv4.ip_forward", "net/ipv4/ip_forward", "net.core.somaxconn", "kernel.shmmax", "kernel/shmmax",
        "kernel.sem",
        "fs.mqueue.msg_max",
    ])
    func takesTheZonesOwnParameters(_ name: String) {
        #expect(throws: Never.self) { try ZoneDefinition.validateSysctl(name, network: .none) }
    }

    @Test(arguments: [
        "", "net", "kernel.core_pattern", "kernel.hostname", "kernel.shmmax2", "kernel.msg", "vm.swappiness",
        "fs.file-max",
        "fs.mqueue", "NET.ipv4.ip_forward", " net.x", "/net/ipv4/ip_forward", "../kernel/core_pattern",
        "net/../kernel/core_pattern", "net/ipv4/../../kernel/core_pattern", "fs/mqueue/../file-max", "netx.ipv4",
        "net/../\u{301}x",
    ])
    func refusesTheHostsParameters(_ name: String) {
        let error = #expect(throws: ZoneError.self) { try ZoneDefinition.validateSysctl(name, network: .none) }
        #expect(error?.code == .invalid)
    }

    @Test func theHostsNetworkIsNotTheZones() {
        let error = #expect(throws: ZoneError.self) {
            try ZoneDefinition.validateSysctl("net.ipv4.ip_forward", network: .host)
        }
        #expect(error?.detail.contains("--network host") == true)
        #expect(throws: Never.self) { try ZoneDefinition.validateSysctl("kernel.shmmax", network: .host) }
    }

    /// What the kernel would see as `..`, or as another first folder, however Swift cuts it into characters.
    @Test(arguments: [
        "net/../kernel/core_pattern", "net/./a", "net/a\u{600}/../../kernel/core_pattern",
        "net/../\u{301}/../kernel/core_pattern", "net.x/kernel/core_pattern", "net..../kernel/x", "net", "user",
        "/net/a",
        "", "/", ".", "user.x/kernel/y", "fs.mqueue./", "fs.mqueue", "kernel.shmmax/", "kernel.hostname/",
    ])
    func parametersStayBelowTheirFolder(_ name: String) {
        #expect(throws: ZoneError.self) { try ZoneDefinition.validateSysctl(name, network: .none) }
        var spec = Spec()
        var linux = Spec.Linux()
        linux.namespaces = [.init(.network), .init(.user), .init(.ipc), .init(.uts)]
        linux.sysctl = [name: "1"]
        spec.linux = linux
        #expect(throws: ZoneError.self) { try SpecRules.check(spec) }
        spec.linux?.sysctl = [
            "net/ipv4/conf/eth0.1/rp_filter": "0", "net.ipv4.ip_forward": "1", "user.max_a": "1",
            "kernel/shmmax": "1", "fs.mqueue.msg_max": "1", "kernel.hostname": "x",
        ]
        #expect(throws: Never.self) { try SpecRules.check(spec) }
    }

    // MARK: The overlay's options

    @Test func separatorsInPathsAreEscaped() throws {
        let root = OverlayRoot(
            layers: ["/st,o:re/layers/a", "/elsewhere/b\\c"], store: "/st,o:re", zone: "/st,o:re/zones/z")
        #expect(
            try root.legacyOptions(true)
                == #"lowerdir=layers/a:/elsewhere/b\\c:skeleton,upperdir=/st\,o\:re/zones/z/upper,"#
                + #"workdir=/st\,o\:re/zones/z/work,volatile"#)
        #expect(try !root.legacyOptions(false).hasSuffix("volatile"))
    }

    @Test func tooManyLayersAreAnError() {
        let layers = (0..<200).map { "/s/layers/\(String(repeating: "f", count: 64))\($0)" }
        let error = #expect(throws: SystemError.self) {
            _ = try OverlayRoot(layers: layers, store: "/s", zone: "/s/zones/z").legacyOptions(false)
        }
        #expect(error?.errno == .tooBig)
        #expect(error?.subject.contains("200 layers") == true)
    }
}
