// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Whether the host's KVM runs real guests.
///
/// That /dev/kvm exists says little: a KVM below another hypervisor may interpret the guest's kernel instead of running
/// it, a thousand times slower and without instructions that every kernel executes. So one virtual CPU runs one such
/// instruction, half a millisecond in all.
public enum KVMSupport: Sendable, Equatable {
    /// A guest ran. On other machines than x86-64: /dev/kvm answers.
    case usable
    /// There is no /dev/kvm.
    case absent
    /// There is one, but the caller may not open it.
    case notPermitted
    /// It is there and does not run guests. `reason` says what was attempted and what came of it.
    case unusable(reason: String)

    /// Finds out, by running a guest of a few pages for at most a second. Neither threads nor signal handlers are used.
    public static func probe() -> KVMSupport {
        probe(device: "/dev/kvm")
    }

    static func probe(device: String) -> KVMSupport {
        let kvm: Descriptor
        do throws(SystemError) { kvm = try Descriptor.open(device, [.readWrite]) } catch {
            switch error.errno {
            case .noEntry, .notDirectory: return .absent
            case .accessDenied, .notPermitted: return .notPermitted
            default: return .unusable(reason: "\(error)")
            }
        }
        do throws(SystemError) {
            let version = try check(zn_ioctl(kvm.raw, UInt(ZN_KVM_GET_API_VERSION), 0), "ask the version of", device)
            // "Applications should refuse to run if KVM_GET_API_VERSION returns a value other than 12."
            guard version == 12 else { return .unusable(reason: "\(device) has version \(version) of KVM, not 12") }
            #if arch(x86_64)
            return try ProbeGuest(kvm).run()
            #else
            return .usable
            #endif
        } catch {
            return .unusable(reason: "\(error)")
        }
    }
}

#if arch(x86_64)
/// A virtual machine with one CPU in long mode that executes `lock cmpxchg16b` and halts.
struct ProbeGuest: ~Copyable {
    /// Where things are in the guest's memory, which begins at 0.
    private enum Place {
        static let size = 0x10000
        /// Three levels of tables map the first 2 MiB onto themselves with one large page.
        static let tables = [0x1000, 0x2000, 0x3000]
        static let code = 0x7000
        /// The instruction's operand: 16 bytes, aligned.
        static let operand = 0x9000
    }

    /// `lock cmpxchg16b [0x9000]`, which Linux's allocator executes all the time and an interpreter of KVM's kind
    /// does not know; `hlt`.
    static let code: [UInt8] = [0xF0, 0x48, 0x0F, 0xC7, 0x0C, 0x25, 0x00, 0x90, 0x00, 0x00, 0xF4]
    /// What the instruction stores: RBX and RCX.
    private static let stored: (low: UInt64, high: UInt64) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210)

    private let memory: SharedMemory
    private let machine: Descriptor
    private let processor: Descriptor
    private let page: SharedMemory

    /// Makes the machine and what it needs to run.
    init(_ kvm: borrowing Descriptor) throws(SystemError) {
        let memory = try SharedMemory(Place.size)
        let machine = Descriptor(owning: try check(zn_ioctl(kvm.raw, UInt(ZN_KVM_CREATE_VM), 0), "make a machine"))
        // Three pages that Intel's processors need below 4 GiB for what is not yet in protected mode.
        try check(zn_ioctl(machine.raw, UInt(ZN_KVM_SET_TSS_ADDR), 0xFFFB_D000), "place the task state of the guest")
        var region = kvm_userspace_memory_region()
        region.memory_size = UInt64(Place.size)
        region.userspace_addr = UInt64(UInt(bitPattern: memory.base))
        try check(
            zn_ioctl_pointer(machine.raw, UInt(ZN_KVM_SET_USER_MEMORY_REGION), &region), "give the guest memory")
        let made = try check(zn_ioctl(machine.raw, UInt(ZN_KVM_CREATE_VCPU), 0), "make a virtual CPU")
        let processor = Descriptor(owning: made)
        let size = try check(zn_ioctl(kvm.raw, UInt(ZN_KVM_GET_VCPU_MMAP_SIZE), 0), "ask the size of a virtual CPU")
        let page = try SharedMemory(Int(size), of: processor.raw)
        try ProbeGuest.copyFeatures(from: kvm, to: processor.raw)
        self.memory = memory
        self.machine = machine
        self.processor = processor
        self.page = page
    }

    /// Writes page tables and code.
    private func fill(_ code: [UInt8]) {
        for (table, next) in zip(Place.tables, Place.tables.dropFirst()) {
            memory.base.storeBytes(of: UInt64(next) | 3, toByteOffset: table, as: UInt64.self)
        }
        // Present, writable, a page of 2 MiB.
        memory.base.storeBytes(of: 0x83, toByteOffset: Place.tables[2], as: UInt64.self)
        for (index, byte) in code.enumerated() {
            memory.base.storeBytes(of: byte, toByteOffset: Place.code + index, as: UInt8.self)
        }
    }

    /// Gives the virtual CPU all features that KVM offers: one without any has no long mode.
    private static func copyFeatures(from kvm: borrowing Descriptor, to processor: CInt) throws(SystemError) {
        // struct kvm_cpuid2: a count, padding, and as many entries; 256 is the most that any kernel has.
        let size = MemoryLayout<kvm_cpuid2>.size + 256 * MemoryLayout<kvm_cpuid_entry2>.stride
        let list = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        defer { list.deallocate() }
        list.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        list.storeBytes(of: 256, as: UInt32.self)
        try check(zn_ioctl_pointer(kvm.raw, UInt(ZN_KVM_GET_SUPPORTED_CPUID), list), "ask for CPU features")
        try check(zn_ioctl_pointer(processor, UInt(ZN_KVM_SET_CPUID2), list), "set CPU features")
    }

    /// Sets the registers as a kernel's own start-up code would have, with flat segments and paging on.
    private func enterLongMode() throws(SystemError) {
        var system = kvm_sregs()
        try check(zn_ioctl_pointer(processor.raw, UInt(ZN_KVM_GET_SREGS), &system), "read system registers")
        system.cr0 = 0x8005_0033  // PG AM WP NE ET MP PE
        system.cr3 = UInt64(Place.tables[0])
        system.cr4 = 0x620  // OSXMMEXCPT OSFXSR PAE
        system.efer = 0x500  // LMA LME
        var segment = kvm_segment()
        segment.limit = 0xFFFF_FFFF
        segment.present = 1
        segment.s = 1
        segment.g = 1
        var code = segment
        code.selector = 8
        code.type = 11
        code.l = 1
        system.cs = code
        var data = segment
        data.selector = 16
        data.type = 3
        data.db = 1
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data)
        try check(zn_ioctl_pointer(processor.raw, UInt(ZN_KVM_SET_SREGS), &system), "set system registers")
        var registers = kvm_regs()
        registers.rip = UInt64(Place.code)
        registers.rflags = 2
        // RDX and RAX stay 0, which is what the operand holds: so RCX and RBX are stored there.
        registers.rbx = ProbeGuest.stored.low
        registers.rcx = ProbeGuest.stored.high
        try check(zn_ioctl_pointer(processor.raw, UInt(ZN_KVM_SET_REGS), &registers), "set registers")
    }

    /// Runs the guest and looks at what it did.
    func run(_ code: [UInt8] = ProbeGuest.code, milliseconds: CInt = 1000) throws(SystemError) -> KVMSupport {
        fill(code)
        try enterLongMode()
        var suberror: UInt32 = 0
        let result = zn_kvm_run(processor.raw, page.base, milliseconds, &suberror)
        if result == -ETIMEDOUT {
            return .unusable(reason: "a guest of two instructions did not end within \(milliseconds) ms")
        }
        switch try check(result, "run a guest") {
        case KVM_EXIT_HLT: break
        case KVM_EXIT_INTERNAL_ERROR:
            return .unusable(
                reason: "this KVM interprets guests and does not know cmpxchg16b (internal error \(suberror))")
        case KVM_EXIT_SHUTDOWN: return .unusable(reason: "a guest crashed at cmpxchg16b")
        case let reason: return .unusable(reason: "a guest stopped with KVM's exit reason \(reason)")
        }
        let low = memory.base.load(fromByteOffset: Place.operand, as: UInt64.self)
        let high = memory.base.load(fromByteOffset: Place.operand + 8, as: UInt64.self)
        guard (low, high) == ProbeGuest.stored else { return .unusable(reason: "cmpxchg16b does not work in a guest") }
        return .usable
    }
}

/// Memory that is shared with the kernel, unmapped at the end of this value.
private struct SharedMemory: ~Copyable {
    let base: UnsafeMutableRawPointer
    private let size: Int

    /// Maps `descriptor`, or new memory of zeros. The corresponding system call is `mmap`.
    init(_ size: Int, of descriptor: CInt = -1) throws(SystemError) {
        var address: UnsafeMutableRawPointer?
        try check(zn_map_shared(descriptor, size, &address), "mmap")
        guard let address else { throw SystemError("mmap", "", .noMemory) }
        base = address
        self.size = size
    }

    deinit {
        _ = zn_unmap(base, size)
    }
}
#endif
