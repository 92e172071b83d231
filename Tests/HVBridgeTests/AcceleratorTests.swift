// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import Testing

struct AcceleratorTests {
    private func decide(
        _ choice: AcceleratorChoice, _ support: KVMSupport, guest: GuestArchitecture = .amd64,
        host: GuestArchitecture? = .amd64
    ) throws(MachineFault) -> AcceleratorChoice.Decision {
        try choice.decide(for: guest, on: host) { support }
    }

    @Test func aUsableKVMIsTaken() throws {
        #expect(try decide(.automatic, .usable) == AcceleratorChoice.Decision(.kvm))
        #expect(try decide(.kvm, .usable) == AcceleratorChoice.Decision(.kvm))
        #expect(try decide(.automatic, .usable, guest: .i386).accelerator == .kvm)
    }

    @Test func theTranslatorNeedsNoProbe() throws {
        let decision = try AcceleratorChoice.tcg.decide(for: .amd64, on: .amd64) {
            Issue.record("asked")
            return .usable
        }
        #expect(decision == AcceleratorChoice.Decision(.tcg))
        let foreign = try AcceleratorChoice.automatic.decide(for: .riscv64, on: .amd64) {
            Issue.record("asked")
            return .usable
        }
        #expect(foreign.accelerator == .tcg)
        #expect(foreign.reason?.contains("riscv64") == true)
    }

    @Test(arguments: [KVMSupport.absent, .notPermitted, .unusable(reason: "it interprets")])
    func withoutKVMItFallsBackAndSaysWhy(_ support: KVMSupport) throws {
        let decision = try decide(.automatic, support)
        #expect(decision.accelerator == .tcg)
        let reason = try #require(decision.reason)
        #expect(!reason.contains("\n"))
        #expect(reason.contains("emulated"))
    }

    @Test(arguments: [KVMSupport.absent, .notPermitted, .unusable(reason: "it interprets")])
    func aDemandThatCannotBeMetIsAFault(_ support: KVMSupport) {
        do throws(MachineFault) {
            _ = try decide(.kvm, support)
            Issue.record("accepted")
        } catch {
            #expect(error.code == .missing)
            #expect(error.hint?.isEmpty == false)
        }
    }

    @Test func anotherArchitectureCannotBeDemanded() {
        #expect(throws: MachineFault.self) { try decide(.kvm, .usable, guest: .aarch64) }
        #expect(throws: MachineFault.self) { try decide(.kvm, .usable, guest: .armv7, host: .aarch64) }
        #expect(throws: MachineFault.self) { try decide(.kvm, .usable, host: nil) }
    }

    // MARK: Architectures

    @Test func namesGoBothWays() {
        let names = ["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x"]
        #expect(GuestArchitecture.allCases.map(\.ociName) == names)
        for name in names { #expect(GuestArchitecture(ociName: name)?.ociName == name) }
        for name in ["", "x86_64", "AMD64", "mips", "amd64\u{301}"] { #expect(GuestArchitecture(ociName: name) == nil) }
    }

    @Test func boardsAndPrograms() {
        let boards: [MachineBoard] = [.q35, .q35, .virt, .virt, .virt, .pseries, .s390ccw]
        #expect(GuestArchitecture.allCases.map(\.board) == boards)
        #expect(GuestArchitecture.amd64.microBoard == .microvm)
        #expect(GuestArchitecture.aarch64.microBoard == .virt)
        #expect(GuestArchitecture.ppc64le.program == "qemu-system-ppc64")
        #expect(GuestArchitecture.armv7.program == "qemu-system-arm")
        #expect(GuestArchitecture.s390x.programPackage == "qemu-system-misc")
        #expect(MachineBoard.s390ccw.name == "s390-ccw-virtio")
        #if arch(x86_64)
        #expect(GuestArchitecture.host == .amd64)
        #endif
    }

    @Test func theTimeStampCounterIsMeasuredTheSameTwice() throws {
        #if arch(x86_64)
        let first = try #require(HostProcessor.timeStampKilohertz())
        let second = try #require(HostProcessor.timeStampKilohertz())
        let difference = max(first, second) - min(first, second)
        // Within what Linux accepts of a first estimate: one percent.
        #expect(difference < first / 100)
        #else
        #expect(HostProcessor.timeStampKilohertz() == nil)
        #endif
    }
}
