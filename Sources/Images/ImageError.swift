// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// Why an image cannot be found, read, imported or unpacked.
public struct ImageError: Error, Sendable, CustomStringConvertible {
    /// Kinds of failure that callers tell apart.
    public enum Code: Sendable {
        case notFound
        /// A digest's beginning, or a layout, means several images.
        case ambiguous
        /// A name, archive, manifest or layer that is not what it should be; also everything hostile.
        case invalid
        /// A sound image that this machine or this program cannot use.
        case unsupported
        case exists
        /// A registry that does not answer.
        case unreachable
        /// A registry wants other credentials, or a policy of the host's forbids it.
        case denied
        /// A system call failed; ``cause`` says which.
        case system
    }

    public let code: Code
    public let detail: String
    public let cause: SystemError?
    /// What to do about it, where that is known here.
    public let hint: String?

    public init(_ code: Code, _ detail: String, cause: SystemError? = nil, hint: String? = nil) {
        self.code = code
        self.detail = detail
        self.cause = cause
        self.hint = hint
    }

    /// A failed system call, with `attempt` as what it was for.
    init(_ attempt: String, _ cause: SystemError) {
        self.init(.system, attempt, cause: cause)
    }

    /// Whether a failed pull may be the fault of what was fetched, or of its size.
    @inline(never) var isOfBlobs: Bool {
        switch code {
        case .unreachable, .denied: return false
        case .system:
            guard let cause else { return false }
            return cause.errno == .noSpace || cause.errno == .quotaExceeded
        default: return true
        }
    }

    public var description: String {
        cause.map { "\(detail): \($0)" } ?? detail
    }

    /// The same failure, seen from a caller that knows better where it happened.
    func inside(_ place: String) -> ImageError {
        ImageError(code, "\(place): \(detail)", cause: cause, hint: hint)
    }
}

/// Runs `body` and turns a failed system call into an error that says what it was for.
func attempting<R: ~Copyable>(
    _ attempt: @autoclosure () -> String,
    _ body: () throws(SystemError) -> R
) throws(ImageError) -> R {
    do throws(SystemError) { return try body() } catch { throw ImageError(attempt(), error) }
}
