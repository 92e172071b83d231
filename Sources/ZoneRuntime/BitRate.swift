// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Bits per second, as people write them and tc(8) does: `10mbit`, `1gbit`.
public enum BitRate {
    private static let units: [(name: String, bits: Int64)] = [
        ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1),
    ]

    /// Reads a rate; a number alone is one of bits. `nil` where it is none.
    public static func parse(_ text: String) -> Int64? {
        let lower = text.lowercased()
        let unit = units.first { lower.hasSuffix($0.name) }
        let digits = unit.map { String(lower.dropLast($0.name.count)) } ?? lower
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(digits) else {
            return nil
        }
        let (bits, isTooMuch) = number.multipliedReportingOverflow(by: unit?.bits ?? 1)
        return isTooMuch || bits > most ? nil : bits
    }

    public static func text(_ bits: Int64) -> String {
        let unit = units.first { bits >= $0.bits && bits % $0.bits == 0 } ?? ("bit", 1)
        return "\(bits / unit.bits)\(unit.name)"
    }

    /// 100 Gbit/s; and what packets pass by at all.
    public static let most: Int64 = 100_000_000_000
    public static let least: Int64 = 8000
}
