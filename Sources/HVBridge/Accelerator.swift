// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What executes the guest's instructions.
public enum Accelerator: String, Sendable, Equatable {
    /// The host's processor.
    case kvm
    /// QEMU's translator: runs everywhere and every architecture, ten times slower or more.
    case tcg
}

/// Which accelerator the user wants.
public enum AcceleratorChoice: String, Sendable, Equatable, CaseIterable {
    case automatic = "auto"
    case kvm, tcg

    /// An accelerator, and in one line why it is not the fast one; `nil` where nobody needs telling.
    public struct Decision: Sendable, Equatable {
        public let accelerator: Accelerator
        public let reason: String?

        public init(_ accelerator: Accelerator, reason: String? = nil) {
            self.accelerator = accelerator
            self.reason = reason
        }
    }

    /// Decides for a guest. `support` is asked only where the answer matters: it runs a guest for half a millisecond.
    /// Throws where KVM is demanded and cannot be had.
    public func decide(
        for guest: GuestArchitecture, on host: GuestArchitecture? = .host,
        support: () -> KVMSupport = { KVMSupport.probe() }
    ) throws(MachineFault) -> Decision {
        if self == .tcg { return Decision(.tcg) }
        guard let (reason, hint) = obstacle(guest, host, support) else { return Decision(.kvm) }
        if self == .kvm {
            throw MachineFault(.missing, "KVM cannot be used: \(reason)", hint: hint)
        }
        return Decision(.tcg, reason: "the machine is emulated and slow: \(reason)")
    }

    /// What keeps KVM from being used, and what to do about it.
    private func obstacle(
        _ guest: GuestArchitecture, _ host: GuestArchitecture?, _ support: () -> KVMSupport
    ) -> (reason: String, hint: String)? {
        let emulate = "choose the accelerator auto or tcg, which emulate the machine"
        guard guest.runsNatively(on: host) else {
            let name = host?.rawValue ?? "of another architecture"
            return ("the guest is \(guest.rawValue) and the host is \(name)", emulate)
        }
        switch support() {
        case .usable: return nil
        case .absent:
            return (
                "there is no /dev/kvm",
                "load the module kvm_intel or kvm_amd, switch virtualization on in the firmware, or \(emulate)"
            )
        case .notPermitted:
            return ("/dev/kvm may not be opened", "try sudo, or become a member of the group kvm")
        case .unusable(let reason): return (reason, emulate)
        }
    }
}
