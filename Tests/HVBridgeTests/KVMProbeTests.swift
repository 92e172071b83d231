// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import HVBridge

/// What the probe says must fit what can be seen of the machine without it.
@Suite(.serialized) struct KVMProbeTests {
    private static let isThere = access("/dev/kvm", F_OK) == 0
    private static let mayOpen = access("/dev/kvm", R_OK | W_OK) == 0

    /// A KVM module that interprets its guests' kernels, as some clouds have it.
    private static let interprets = access("/sys/module/kvm_pvm", F_OK) == 0

    @Test func absentExactlyWithoutTheDevice() {
        #expect((KVMSupport.probe() == .absent) == !Self.isThere)
    }

    @Test(.enabled(if: interprets && mayOpen, "there is no KVM here that interprets guests, or it may not be opened"))
    func anInterpretingKVMIsNotUsable() {
        guard case .unusable(let reason) = KVMSupport.probe() else {
            Issue.record("\(KVMSupport.probe())")
            return
        }
        #expect(reason.contains("cmpxchg16b"))
    }

    @Test(.enabled(if: mayOpen, "there is no /dev/kvm that may be opened"))
    func anAnswerIsOneOfTwoAndTheSameEachTime() {
        let first = KVMSupport.probe()
        #expect(first != .notPermitted)
        for _ in 0..<20 { #expect(KVMSupport.probe() == first) }
    }

    @Test func theProbeLeavesNothingBehind() throws {
        let before = try Self.traces()
        for _ in 0..<5 { _ = KVMSupport.probe() }
        #expect(try Self.traces() == before)
    }

    #if arch(x86_64)
    /// Moves alone store what the probe expects: they show that memory, paging and registers are as they should be.
    @Test(.enabled(if: mayOpen, "there is no /dev/kvm that may be opened"))
    func aGuestThatNeedsNoSpecialInstructionRuns() throws {
        let moves: [UInt8] = [
            0x48, 0x89, 0x1C, 0x25, 0x00, 0x90, 0x00, 0x00,  // mov [0x9000], rbx
            0x48, 0x89, 0x0C, 0x25, 0x08, 0x90, 0x00, 0x00,  // mov [0x9008], rcx
            0xF4,
        ]
        #expect(try Self.run(moves) == .usable)
    }

    @Test(.enabled(if: mayOpen, "there is no /dev/kvm that may be opened"))
    func aGuestThatDoesNothingIsNotEnough() throws {
        #expect(try Self.run([0xF4]) == .unusable(reason: "cmpxchg16b does not work in a guest"))
    }

    @Test(.enabled(if: mayOpen, "there is no /dev/kvm that may be opened"))
    func aCrashIsTold() throws {
        #expect(try Self.run([0x0F, 0x0B]) == .unusable(reason: "a guest crashed at cmpxchg16b"))
    }

    @Test(.enabled(if: mayOpen, "there is no /dev/kvm that may be opened"), .timeLimit(.minutes(1)))
    func aGuestThatNeverEndsIsStopped() throws {
        let start = ContinuousClock.now
        guard case .unusable(let reason) = try Self.run([0xEB, 0xFE], milliseconds: 50) else {
            Issue.record("an endless loop ended")
            return
        }
        #expect(reason.hasSuffix("did not end within 50 ms"))
        #expect(ContinuousClock.now - start >= .milliseconds(50))
    }

    private static func run(_ code: [UInt8], milliseconds: CInt = 1000) throws -> KVMSupport {
        let kvm = try Descriptor.open("/dev/kvm", [.readWrite])
        return try ProbeGuest(kvm).run(code, milliseconds: milliseconds)
    }
    #endif

    @Test(arguments: ["/dev/null", "/dev/zero", "/"])
    func whatIsNoKVMIsUnusable(_ path: String) {
        guard case .unusable(let reason) = KVMSupport.probe(device: path) else {
            Issue.record("\(path): \(KVMSupport.probe(device: path))")
            return
        }
        #expect(reason.contains(path))
    }

    @Test(arguments: ["/nonexistent/kvm", "/dev/null/kvm"])
    func aMissingDeviceIsAbsent(_ path: String) {
        #expect(KVMSupport.probe(device: path) == .absent)
    }

    /// Open descriptors of KVM's, whether SIGALRM is blocked here, and the timers of this process.
    private static func traces() throws -> [String] {
        var mask = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &mask)
        let descriptors = try Descriptor.open("/proc/self/fd", [.readOnly, .directory])
        let kvm = try descriptors.entries().filter { name in
            // Descriptors of other tests come and go meanwhile.
            (try? descriptors.readLink(name))?.contains("kvm") ?? false
        }
        let timers = String(decoding: try readHostFile("/proc/self/timers"), as: UTF8.self)
        return ["\(kvm.count)", "\(sigismember(&mask, SIGALRM))", timers]
    }
}
