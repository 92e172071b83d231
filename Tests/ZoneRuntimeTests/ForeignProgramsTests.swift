// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import OCI
import Testing

@testable import ZoneRuntime

@Suite("Programs for other processors")
struct ForeignProgramsTests {
    private let header = ForeignPrograms.header("arm64")
    private let machine = Platform(architecture: GuestArchitecture.host?.ociName ?? "", os: "linux")

    /// As the kernel shows what Debian's qemu-user-static registers.
    private func handler(_ flags: String = "POF", state: String = "enabled", machine: String = "b7") -> [UInt8] {
        Array(
            """
            \(state)
            interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
            flags: \(flags)
            offset 0
            magic 7f454c460201010000000000000000000200\(machine)00
            mask ffffffffffffff00fffffffffffffffffeffffff

            """.utf8)
    }

    @Test("A handler that was opened beforehand is seen in zones")
    func usable() throws {
        let header = try #require(header)
        #expect(ForeignPrograms.find(header, [handler("OCF", machine: "f3"), handler()]) == .usable)
    }

    @Test("One that is looked for by its path is not, unless another one is")
    func unseen() throws {
        let header = try #require(header)
        let finding = ForeignPrograms.Finding.unseen("/usr/libexec/qemu-binfmt/aarch64-binfmt-P")
        #expect(ForeignPrograms.find(header, [handler("OC")]) == finding)
        #expect(ForeignPrograms.find(header, [handler(""), handler("F")]) == .usable)
    }

    @Test("Those that are switched off, or for something else, do not count")
    func missing() throws {
        let header = try #require(header)
        let python = Array("enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n".utf8)
        let name = Array("enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n".utf8)
        let handlers = [handler(state: "disabled"), handler(machine: "f3"), python, name, []]
        #expect(ForeignPrograms.find(header, handlers) == .missing)
    }

    @Test("Texts that no kernel writes are no handlers")
    func nonsense() throws {
        let header = try #require(header)
        let texts = [
            "enabled\nflags: F\nmagic 7f4", "enabled\nflags: F\nmagic zz", "enabled\nflags: F\noffset -1\nmagic 7f",
            "enabled\nflags: F\noffset 99999999999999999999\nmagic 7f", "enabled\nflags: F\nmagic 7f45\nmask ff",
            "enabled\nflags: F\noffset 20\nmagic 7f", "magic", "\u{0}\u{301}",
        ]
        #expect(ForeignPrograms.find(header, texts.map { Array($0.utf8) }) == .missing)
    }

    @Test("Headers have the byte order of their processor")
    func headers() {
        #expect(ForeignPrograms.header("s390x")?.suffix(4) == [0, 2, 0, 22])
        #expect(ForeignPrograms.header("s390x")?[5] == 2)
        #expect(ForeignPrograms.header("arm")?.suffix(4) == [2, 0, 40, 0])
        #expect(ForeignPrograms.header("arm")?[4] == 1)
        #expect(ForeignPrograms.header("pdp11") == nil)
    }

    @Test("A machine must be for what its image is for; one that boots its disk has none")
    func machines() throws {
        var definition = ZoneDefinition()
        let foreign = Platform(architecture: "s390x", os: "linux")
        definition.machine = MachineSettings()
        let error = #expect(throws: ZoneError.self) {
            try ForeignPrograms.check(definition, foreign, name: "tool")
        }
        #expect(error?.hint?.contains("--arch s390x") == true)
        definition.machine?.architecture = "s390x"
        try ForeignPrograms.check(definition, foreign, name: "tool")
        #expect(throws: ZoneError.self) { try ForeignPrograms.check(definition, machine, name: "tool") }
        definition.machine?.kind = .full
        try ForeignPrograms.check(definition, machine, name: "disk.img")
    }

    @Test("This machine's own images need no handler")
    func own() throws {
        try ForeignPrograms.check(ZoneDefinition(), machine, name: "busybox")
    }
}
