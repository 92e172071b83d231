// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Why a virtual machine cannot be what was asked for: the reason, and what to do about it.
public struct MachineFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds of faults that callers tell apart.
    public enum Code: Sendable, Equatable {
        /// The description contradicts itself, or a value in it cannot be given to QEMU.
        case invalid
        /// The board, the guest's architecture or QEMU has no such thing.
        case unsupported
        /// Something of the host's is missing: a program, firmware, a usable KVM.
        case missing
    }

    public let code: Code
    public let detail: String
    /// What to do about it, where that is known.
    public let hint: String?

    public init(_ code: Code, _ detail: String, hint: String? = nil) {
        self.code = code
        self.detail = detail
        self.hint = hint
    }

    public var description: String { detail }
}
