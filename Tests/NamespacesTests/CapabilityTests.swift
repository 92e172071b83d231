// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Testing

@testable import Namespaces

@Suite struct CapabilityTests {
    @Test(
        arguments: ["CAP_CHOWN": 0, "chown": 0, "cap_net_admin": 12, "Sys_Admin": 21, "CAP_BPF": 39] as [String: Int])
    func knowsNamesHoweverWritten(_ name: String, _ number: Int) {
        #expect(Capability.number(of: name) == number)
    }

    @Test(arguments: [
        "", "CAP_", "cap", "CAP_CAP_CHOWN", "CHOWN ", " CHOWN", "CAP_NOTHING", "64", "CAP_64", "-1", "all",
        "CHOWN,KILL", "CAP_\u{212A}ILL",
    ])
    func refusesOthers(_ name: String) {
        #expect(Capability.number(of: name) == nil)
    }

    @Test func namesAndNumbersAreInverse() {
        for number in 0...40 {
            let name = Capability.name(of: number)
            #expect(name?.hasPrefix("CAP_") == true)
            #expect(name.flatMap { Capability.number(of: $0) } == number)
        }
        #expect(Capability.name(of: 0) == "CAP_CHOWN")
    }

    @Test func whatIsAvailableIsAmongAll() throws {
        #expect(Capability.all & 0xFF_FFFF_FFFF == 0xFF_FFFF_FFFF)
        #expect(Capability.available & ~Capability.all == 0)
        // The same as the kernel shows.
        let status = String(decoding: try readHostFile("/proc/thread-self/status"), as: UTF8.self)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("CapBnd:") })
        #expect(UInt64(line.dropFirst(7).drop { $0.isWhitespace }, radix: 16) == Capability.available)
    }

    // MARK: The program

    @Test(
        arguments: [
            (["PATH=/a:/b"], "/a:/b"), (["A=1", "PATH="], ""), ([], "/bin:/usr/bin"), (["PATH=/a", "PATH=/b"], "/b"),
            (["XPATH=/x"], "/bin:/usr/bin"), (["PATH"], "/bin:/usr/bin"), (["PATH=/a=b"], "/a=b"),
        ] as [([String], String)])
    func searchesWhereTheEnvironmentSays(_ environment: [String], _ path: String) {
        #expect(ProgramSearch.path(in: environment) == path)
    }

    // MARK: Values for the kernel

    @Test func namespacesAreTheKernelsNumbers() {
        let all: NamespaceSet = [.mount, .cgroup, .uts, .ipc, .pid, .network]
        #expect(all.rawValue == 0x6E02_0000)
        #expect(NamespaceSet.pid.flags == 0x2000_0000)
        #expect(NamespaceSet.network.flags == 0x4000_0000)
    }

    @Test func accessTimeIsAFieldAndNoFlag() {
        #expect(MountAttributes.accessTimeField.rawValue == 0x70)
        #expect(MountAttributes.accessTimeField.contains([.noAccessTime, .strictAccessTime]))
        // A flag of its own, outside the field.
        #expect(MountAttributes.accessTimeField.isDisjoint(with: .noDirectoryAccessTime))
        #expect(MountAttributes([.readOnly, .noSuid, .noDevices, .noExecution]).rawValue == 0xF)
    }
}
