// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
import OCI

/// Why a seccomp profile could not be turned into a filter.
public struct SeccompError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable {
        /// The profile is malformed or contradicts itself.
        case invalid
        /// The profile asks for what this program or this libseccomp cannot do.
        case unsupported
        /// A system call or libseccomp failed; see ``SeccompError/cause``.
        case system
    }

    public let code: Code
    /// What is wrong, where (a file and a key, as far as known) and what to do.
    public let detail: String
    public let cause: SystemError?

    public init(_ code: Code, _ detail: String, cause: SystemError? = nil) {
        self.code = code
        self.detail = detail
        self.cause = cause
    }

    public var description: String {
        guard let cause else { return detail }
        return "\(detail): \(cause)"
    }

    /// The same error, seen from the profile that holds the place of the error.
    func inside(_ profile: String) -> SeccompError {
        SeccompError(code, "\(profile): \(detail)", cause: cause)
    }

    init(_ error: JSONError) {
        self.init(.invalid, "\(error)")
    }
}
