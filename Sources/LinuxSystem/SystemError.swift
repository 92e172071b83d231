// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A system call that failed: what was attempted, on what, and the kernel's reason.
public struct SystemError: Error, Sendable, CustomStringConvertible {
    /// The call or the act, for example `openat2` or `mount overlay`.
    public let operation: String
    /// The path, or `file = value` for a write; empty where the operation has no subject.
    public let subject: String
    public let errno: Errno

    public init(_ operation: String, _ subject: String, _ errno: Errno) {
        self.operation = operation
        self.subject = subject
        self.errno = errno
    }

    public var description: String {
        let place = subject.isEmpty ? "" : " \(subject)"
        return "\(operation)\(place): \(errno.message)"
    }

    /// The same failure, seen from a caller that knows better what was attempted.
    public func during(_ operation: String, _ subject: String) -> SystemError {
        SystemError(operation, subject, errno)
    }
}

/// Turns the result of a `zn_` call, which is negative for an error, into a value or a thrown error.
///
/// A descriptor or pointer that the kernel finds invalid is a mistake in this program, not in its input: it traps.
///
/// `@inlinable`: other modules would call it through witnesses of the integer's type.
@inlinable @inline(__always) @discardableResult
public func check<Result: SignedInteger>(
    _ result: Result,
    _ operation: @autoclosure () -> String,
    _ subject: @autoclosure () -> String = ""
) throws(SystemError) -> Result {
    if result >= 0 { return result }
    throw failure(CInt(truncatingIfNeeded: -result), operation(), subject())
}

@inline(never) @usableFromInline
func failure(_ number: CInt, _ operation: String, _ subject: String) -> SystemError {
    let errno = Errno(rawValue: number)
    precondition(errno != .badDescriptor, "\(operation) \(subject): bad descriptor")
    return SystemError(operation, subject, errno)
}
