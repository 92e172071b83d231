// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import Images
public import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// Why a command on zones failed: what was attempted, why, and what to do.
public struct ZoneError: Error, Sendable, CustomStringConvertible {
    /// Kinds of failure that callers tell apart; each has one exit code.
    public enum Code: UInt8, Sendable {
        /// The command line or a file of ours says something that makes no sense.
        case invalid
        case notFound
        case exists
        case wrongState
        case unsupported
        case notPermitted
        case system
        /// The zone's program cannot be executed.
        case notExecutable
        /// The zone's program was not found.
        case commandNotFound
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

    /// A failed system call, with `attempt` as what it was for.
    public init(_ attempt: String, _ cause: SystemError) {
        self.init(.system, "\(attempt): \(cause)", hint: ZoneError.hint(for: cause.errno))
    }

    public var description: String { detail }

    /// As docker's: 126 and 127 for the zone's program, 125 for everything that is ours.
    public var exitCode: Int32 {
        switch code {
        case .notExecutable: 126
        case .commandNotFound: 127
        default: 125
        }
    }

    static func hint(for errno: Errno) -> String? {
        switch errno {
        case .noSpace, .quotaExceeded: "free some space there, or choose another folder with --store or --root"
        case .notPermitted, .accessDenied: "this needs root rights: try sudo"
        case .notImplemented:
            "Linux 5.12 or newer has all that zones need; the seccomp filter of a container may hide some"
        default: nil
        }
    }
}

extension ZoneError {
    /// In words that engines look for.
    static func noContainer(_ id: String) -> ZoneError {
        ZoneError(.notFound, "container \"\(id)\" does not exist", hint: "'zonectl list' lists all")
    }

    /// The same error, with the file that it is about.
    func inside(_ file: String) -> ZoneError {
        ZoneError(code, "\(file): \(detail)", hint: hint)
    }

    public init(_ error: ImageError) {
        let code: Code =
            switch error.code {
            case .notFound: .notFound
            case .exists: .exists
            case .unsupported: .unsupported
            case .system, .unreachable: .system
            case .denied: .notPermitted
            case .ambiguous, .invalid: .invalid
            }
        let hint: String? =
            switch error.code {
            case _ where error.hint != nil: error.hint
            case .notFound: "'zonectl image ls' lists images, 'zonectl image pull' and 'image import' add them"
            case _ where error.cause?.operation == "chown" && Rootless.isInside:
                "the image has files of ids that you do not have: /etc/subuid and /etc/subgid give them, package uidmap maps them"
            default: error.cause.flatMap { ZoneError.hint(for: $0.errno) }
            }
        self.init(code, "\(error)", hint: hint)
    }

    init(_ error: LaunchError, zone: String) {
        self.init(error, "zone \(zone)")
    }

    init(_ error: LaunchError, container id: String) {
        self.init(error, "container \(id)")
    }

    private init(_ error: LaunchError, _ subject: String) {
        let detail = "\(subject): \(error)"
        switch (error.step, error.errno) {
        case (.execute, .noEntry), (.execute, .notDirectory): self.init(.commandNotFound, detail)
        case (.execute, _): self.init(.notExecutable, detail)
        case (.user, _): self.init(.invalid, detail)
        // What the child is refused inside the zone is no matter of the caller's rights.
        default: self.init(.system, detail, hint: error.step == nil ? ZoneError.hint(for: error.errno) : nil)
        }
    }

    init(_ error: SeccompError) {
        self.init(error.cause == nil ? .invalid : .system, "\(error)")
    }

    init(file: String, _ error: JSONError) {
        self.init(.invalid, "\(file): \(error)")
    }
}

/// Runs `body` and turns a failed system call into an error that says what it was for.
func attempting<R: ~Copyable>(
    _ attempt: @autoclosure () -> String,
    _ body: () throws(SystemError) -> R
) throws(ZoneError) -> R {
    do throws(SystemError) { return try body() } catch { throw ZoneError(attempt(), error) }
}
