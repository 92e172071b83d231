// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// A set of CPUs, as sched_setaffinity(2) takes it.
public struct CPUSet: Sendable, Equatable {
    /// More than any kernel is built for (`CONFIG_NR_CPUS`).
    public static let limit = 8192

    /// Bit n of byte n / 8 for CPU n: the layout of the kernel's longs on little-endian machines.
    private(set) var words: [UInt64]

    /// Parses a list such as `0-3,7`, the "List format" of cpuset(7); `nil` where it is none, or names no CPU. Total:
    /// it takes a few operations for each byte and for each of 8192 CPUs.
    public init?(_ list: String) {
        // Where ranges begin and end: marking every CPU of each would take 8192 steps for six bytes of text.
        var changes = [Int](repeating: 0, count: CPUSet.limit + 1)
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = CPUSet.number(ends[0]), let last = CPUSet.number(ends[ends.count - 1]), first <= last
            else { return nil }
            changes[first] += 1
            changes[last + 1] -= 1
        }
        var words = [UInt64](repeating: 0, count: CPUSet.limit / 64)
        var covering = 0
        for cpu in 0..<CPUSet.limit {
            covering += changes[cpu]
            if covering > 0 { words[cpu / 64] |= 1 << UInt64(cpu % 64) }
        }
        self.init(words)
    }

    private init(_ words: [UInt64]) {
        // The kernel refuses nothing that is too long, but the end is of no use.
        self.words = Array(words[...(words.lastIndex { $0 != 0 } ?? 0)])
    }

    private static func number(_ text: Substring) -> Int? {
        // Int() would take a sign.
        guard let first = text.utf8.first, first >= UInt8(ascii: "0"), first <= UInt8(ascii: "9"),
            let number = Int(text), number < limit
        else { return nil }
        return number
    }

    public func contains(_ cpu: Int) -> Bool {
        cpu >= 0 && cpu / 64 < words.count && words[cpu / 64] >> UInt64(cpu % 64) & 1 == 1
    }

    /// The CPUs that the caller may run on.
    static func current() throws(SystemError) -> CPUSet {
        var words = [UInt64](repeating: 0, count: limit / 64)
        let size = words.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_sched_getaffinity($0, bytes.count) } ?? 0
        }
        try check(size, "sched_getaffinity")
        return CPUSet(words)
    }

    /// Lets the caller run on these CPUs only, and returns those of before; nil changes nothing.
    static func replace(by cpus: CPUSet?) throws(SystemError) -> CPUSet? {
        guard let cpus else { return nil }
        let before = try current()
        try check(cpus.apply(), "sched_setaffinity")
        return before
    }

    /// Lets the caller run on these CPUs only; returns 0 or `-errno`: `EINVAL` where it may run on none of them.
    func apply() -> CInt {
        words.withUnsafeBytes { bytes in bytes.baseAddress.map { zn_sched_setaffinity($0, bytes.count) } ?? 0 }
    }
}
