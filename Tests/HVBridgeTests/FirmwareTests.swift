// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import HVBridge

/// Each test has a root of its own.
struct FirmwareTests {
    private let root: TemporaryFolder
    private let search: FirmwareSearch

    init() throws {
        root = try TemporaryFolder()
        search = FirmwareSearch(root: root.path)
    }

    private func addFirmware(_ names: String...) throws {
        for name in names { try root.write("usr/share/\(name)", "x") }
    }

    private func describe(
        _ file: String, code: String = "/usr/share/fw/code.fd", template: String = "/usr/share/fw/vars.fd",
        architecture: String = "x86_64", machines: String = "pc-q35-*", features: [String] = [], format: String = "raw",
        folder: String = "usr/share/qemu/firmware", more: String = ""
    ) throws {
        let features = features.map { "\"\($0)\"" }.joined(separator: ",")
        try root.write(
            "\(folder)/\(file)",
            """
            {"description": "", "interface-types": ["uefi"], "mapping": {"device": "flash"\(more),
             "executable": {"filename": "\(code)", "format": "\(format)"},
             "nvram-template": {"filename": "\(template)", "format": "\(format)"}},
             "targets": [{"architecture": "\(architecture)", "machines": ["\(machines)"]}],
             "features": [\(features)], "tags": []}
            """)
    }

    private func code(
        _ architecture: GuestArchitecture = .amd64, _ secureBoot: Firmware.SecureBoot = .off
    ) -> String? {
        guard case .uefi(let found)? = try? search.find(architecture, secureBoot) else { return nil }
        return found.code
    }

    @Test func theFirstDescriptorThatFitsWins() throws {
        try addFirmware("fw/code.fd", "fw/vars.fd", "fw/secure.fd", "fw/other.fd")
        try describe("60-plain.json")
        try describe("50-other.json", code: "/usr/share/fw/other.fd", architecture: "aarch64", machines: "virt-*")
        try describe(
            "40-secure.json", code: "/usr/share/fw/secure.fd",
            features: ["secure-boot", "enrolled-keys", "requires-smm"])
        #expect(code() == "/usr/share/fw/code.fd")
        #expect(code(.aarch64) == "/usr/share/fw/other.fd")
        #expect(
            try search.find(.amd64, .enrolled)
                == .uefi(
                    Firmware.UEFI(
                        code: "/usr/share/fw/secure.fd", template: "/usr/share/fw/vars.fd", isSecure: true)))
        #expect(code(.amd64, .ownKeys) == nil)
        #expect(code(.armv7) == nil)
    }

    @Test func anAdministratorsFolderHidesAndComesFirst() throws {
        try addFirmware("fw/code.fd", "fw/vars.fd", "fw/mine.fd")
        try describe("60-a.json")
        try describe("60-a.json", code: "/usr/share/fw/mine.fd", folder: "etc/qemu/firmware")
        #expect(code() == "/usr/share/fw/mine.fd")
        try root.write("etc/qemu/firmware/60-a.json", "")
        #expect(code() == nil)
    }

    /// Debian's own package has had a descriptor of a file that is not there.
    @Test func aDescriptorOfAMissingFileIsPassedOver() throws {
        try addFirmware("fw/vars.fd", "OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd")
        try describe("60-a.json")
        #expect(code() == "/usr/share/OVMF/OVMF_CODE.fd")
        try root.makeFolder("usr/share/fw/code.fd")
        #expect(code() == "/usr/share/OVMF/OVMF_CODE.fd")
    }

    @Test func otherKindsArePassedOver() throws {
        try addFirmware("fw/code.fd", "fw/vars.fd")
        try describe("1.json", format: "qcow2")
        try describe("2.json", machines: "pc-i440fx-*")
        try describe("3.json", machines: "*q35*")
        try describe("4.json", more: ", \"mode\": \"stateless\"")
        try describe("5.json", code: "/etc/fw/code.fd")
        try describe("6.json", code: "/usr/share/../share/fw/code.fd")
        try describe("7.json", template: "/usr/share/fw/vars,readonly=on")
        #expect(code() == nil)
        try describe("8.json", more: ", \"mode\": \"split\"")
        #expect(code() == "/usr/share/fw/code.fd")
    }

    @Test(arguments: [
        "", "{", "[]", "null", "42", "{\"interface-types\": \"uefi\"}", "{\"interface-types\": [\"uefi\"]}",
        "{\"interface-types\": [\"uefi\"], \"mapping\": []}",
        "{\"interface-types\": [\"uefi\"], \"mapping\": {\"device\": \"flash\"}, \"targets\": {}}",
        "{\"interface-types\": [1, null, \"uefi\"], \"mapping\": {\"device\": \"flash\", \"executable\": 1}, \"targets\": [3]}",
        "\u{0}\u{1}", String(repeating: "[", count: 100_000), String(repeating: " ", count: 300_000),
    ])
    func damageIsPassedOver(_ text: String) throws {
        try addFirmware("fw/code.fd", "fw/vars.fd")
        try root.write("usr/share/qemu/firmware/00-damaged.json", text)
        #expect(code() == nil)
        try describe("60-good.json")
        #expect(code() == "/usr/share/fw/code.fd")
    }

    /// To open the one would wait for ever, to read the other would never end.
    @Test func whatIsNoFileIsNotRead() throws {
        try addFirmware("fw/code.fd", "fw/vars.fd")
        try describe("60-good.json")
        let folder = "\(root.path)/usr/share/qemu/firmware"
        #expect(mkfifo("\(folder)/00-fifo.json", 0o644) == 0)
        #expect(symlink("/dev/zero", "\(folder)/01-zero.json") == 0)
        try root.makeFolder("usr/share/qemu/firmware/02-folder.json")
        #expect(code() == "/usr/share/fw/code.fd")
    }

    @Test func debiansPlaces() throws {
        try addFirmware(
            "OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd", "OVMF/OVMF_CODE_4M.ms.fd", "OVMF/OVMF_VARS_4M.ms.fd")
        try addFirmware("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd")
        #expect(code() == "/usr/share/OVMF/OVMF_CODE_4M.fd")
        #expect(code(.amd64, .enrolled) == "/usr/share/OVMF/OVMF_CODE_4M.ms.fd")
        #expect(code(.aarch64) == "/usr/share/AAVMF/AAVMF_CODE.fd")
        guard case .uefi(let secure) = try search.find(.amd64, .enrolled) else { return }
        #expect(secure.isSecure)
        #expect(secure.template == "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
    }

    @Test func boardsWithoutUEFI() throws {
        #expect(try search.find(.ppc64le, .off) == .builtIn)
        #expect(try search.find(.s390x, .off) == .builtIn)
        let path = "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf"
        try root.write(String(path.dropFirst()), "x")
        #expect(try search.find(.riscv64, .off) == .bootLoader(path: path))
    }

    @Test func aMissingPackageIsNamed() {
        let packages: [(GuestArchitecture, String)] = [
            (.amd64, "ovmf"), (.i386, "ovmf-ia32"), (.aarch64, "qemu-efi-aarch64"), (.armv7, "qemu-efi-arm"),
            (.riscv64, "u-boot-qemu"),
        ]
        for (architecture, package) in packages {
            do throws(MachineFault) {
                _ = try search.find(architecture, .off)
                Issue.record("found")
            } catch {
                #expect(error.code == .missing)
                #expect(error.hint == "install the package \(package)")
            }
        }
        for architecture in [GuestArchitecture.ppc64le, .s390x, .riscv64] {
            do throws(MachineFault) {
                _ = try search.find(architecture, .enrolled)
                Issue.record("found")
            } catch { #expect(error.code == .unsupported) }
        }
    }
}
