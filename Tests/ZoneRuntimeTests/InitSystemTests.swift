// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import ZoneRuntime

/// Which commands boot a zone as a machine, and what follows from that.
@Suite struct InitSystemTests {
    @Test(
        arguments: [
            (["/sbin/init"], "/usr/lib/systemd/systemd", .systemd), (["init"], "/bin/busybox", .busybox),
            (["/usr/lib/systemd/systemd", "--user"], "/usr/lib/systemd/systemd", .systemd),
            (["systemd"], "/usr/lib/systemd/systemd", .systemd), (["/sbin/init", "3"], "/sbin/init", .other),
            (["/sbin/openrc-init"], "/sbin/openrc-init", .openrc), (["/sbin/init"], "/sbin/openrc-init", .openrc),
            (["busybox", "init"], "", .busybox), (["/bin/busybox", "init"], "", .busybox),
            (["busybox", "sh"], "", nil),
            (["/opt/app/init"], "/opt/app/init", nil), (["./init"], "/init", nil), (["/sbin/init"], "", nil),
            (["sh", "init"], "/bin/sh", nil), ([], "", nil), ([""], "", nil),
        ] as [([String], String, InitSystem?)])
    func isFoundByTheCommand(_ arguments: [String], _ file: String, _ expected: InitSystem?) {
        #expect(InitSystem.detect(arguments) { _ in file.isEmpty ? nil : file } == expected)
    }

    @Test func endsOfMachines() {
        #expect(InitSystem.exitStatus(128 + SIGINT) == 0)
        #expect(InitSystem.exitStatus(128 + SIGHUP) == 0)
        #expect(InitSystem.exitStatus(128 + SIGKILL) == 128 + SIGKILL)
        #expect(InitSystem.exitStatus(3) == 3)
        #expect(InitSystem.exitStatus(nil) == nil)
        #expect(InitSystem.isReboot(128 + SIGHUP) && !InitSystem.isReboot(128 + SIGINT) && !InitSystem.isReboot(nil))
    }

    @Test func stopSignals() {
        #expect(InitSystem.allCases.map(\.stopSignal) == [37, SIGUSR2, SIGTERM, SIGINT])
        #expect(ZoneControl.stopTimeout(nil) == 10)
        var definition = ZoneDefinition()
        definition.initSystem = .systemd
        #expect(ZoneControl.stopTimeout(definition) == 30)
        definition.stopTimeout = 3
        #expect(ZoneControl.stopTimeout(definition) == 3)
    }

    // MARK: Layers

    @Test func pathsAreLookedUpAsInTheZone() throws {
        let folder = try TemporaryFolder()
        for name in ["lower/usr/lib/systemd", "lower/usr/sbin", "lower/bin", "upper/bin", "upper/loop"] {
            try folder.makeFolder(name)
        }
        try folder.write("lower/usr/lib/systemd/systemd", "")
        try folder.write("lower/bin/sh", "")
        for (link, target) in [
            ("lower/sbin", "usr/sbin"), ("lower/usr/sbin/init", "../lib/systemd/systemd"),
            ("upper/bin/up", "/../../bin/sh"), ("upper/loop/a", "b"), ("upper/loop/b", "a"),
        ] {
            try #require(symlink(target, folder.path + "/" + link) == 0)
        }
        let lookup = LayerLookup(["upper", "lower"].map { folder.path + "/" + $0 }, .overlay)
        #expect(lookup.resolve("/sbin/init") == "/usr/lib/systemd/systemd")
        #expect(lookup.resolve("/bin/up") == "/bin/sh")
        #expect(lookup.resolve("/loop/a") == nil)
        #expect(lookup.resolve("/bin/none") == nil)
        #expect(lookup.resolve("/../bin/./sh") == "/bin/sh")
    }
}
