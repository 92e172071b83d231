// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// The first two numbers of a kernel's release, which tell what it can do.
public struct KernelVersion: Sendable, Equatable, Comparable {
    public var major: Int
    public var minor: Int

    public init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Parses `4.8`; `nil` for anything else, also for `4` and `4.8.1`.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { part in
            part.allSatisfy { $0.isASCII && $0.isNumber } ? Int(part) : nil
        }
        guard parts.count == 2, let major = parts[0], let minor = parts[1] else { return nil }
        self.init(major, minor)
    }

    /// The running kernel's version.
    public static var running: KernelVersion {
        var name = utsname()
        guard uname(&name) == 0 else { return KernelVersion(0, 0) }
        return withUnsafeBytes(of: name.release) { KernelVersion(release: $0.prefix { $0 != 0 }) }
    }

    /// Takes the leading numbers of a release such as `6.18.44-1-amd64`.
    public init(release: some Sequence<UInt8>) {
        var numbers = [0, 0]
        var index = 0
        for byte in release {
            if byte == UInt8(ascii: "."), index == 0 {
                index = 1
            } else if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), numbers[index] < 1_000_000 {
                numbers[index] = numbers[index] * 10 + Int(byte - UInt8(ascii: "0"))
            } else {
                break
            }
        }
        self.init(numbers[0], numbers[1])
    }

    public static func < (left: KernelVersion, right: KernelVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }
}
