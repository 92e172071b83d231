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
        /// A system call failed; ``cause`` says which.
        case system
    }

    public let code: Code
    public let detail: String
    public let cause: SystemError?

    public init(_ code: Code, _ detail: String, cause: SystemError? = nil) {
        self.code = code
        self.detail = detail
        self.cause = cause
    }

    /// A failed system call, with `attempt` as what it was for.
    init(_ attempt: String, _ cause: SystemError) {
        self.init(.system, attempt, cause: cause)
    }

    public var description: String {
        cause.map { "\(detail): \($0)" } ?? detail
    }

    /// The same failure, seen from a caller that knows better where it happened.
    func inside(_ place: String) -> ImageError {
        ImageError(code, "\(place): \(detail)", cause: cause)
    }
}

/// Runs `body` and turns a failed system call into an error that says what it was for.
func attempting<R: ~Copyable>(
    _ attempt: @autoclosure () -> String,
    _ body: () throws(SystemError) -> R
) throws(ImageError) -> R {
    do throws(SystemError) { return try body() } catch { throw ImageError(attempt(), error) }
}
