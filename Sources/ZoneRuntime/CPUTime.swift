// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Amounts of CPU time as people write them.
public enum CPUTime {
    /// Parses `50ms`, `500us`, `1.5s`, `2m`, `1h` into microseconds. `nil` for anything else: without a unit it could be
    /// any.
    public static func microseconds(_ text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        guard !digits.isEmpty, digits.utf8.count <= 15, let value = Double(String(digits)) else { return nil }
        let factor: Double
        switch text.dropFirst(digits.count) {
        case "us", "µs": factor = 1
        case "ms": factor = 1000
        case "s": factor = 1_000_000
        case "m": factor = 60_000_000
        case "h": factor = 3_600_000_000
        default: return nil
        }
        let result = (value * factor).rounded()
        return result < 0x1p62 ? UInt64(result) : nil
    }

    /// Writes `50 ms`, `1.5 s`, `500 µs`.
    public static func text(microseconds: UInt64) -> String {
        if microseconds < 1000 { return "\(microseconds) µs" }
        let (value, unit) =
            microseconds < 1_000_000 ? (Double(microseconds) / 1000, "ms") : (Double(microseconds) / 1_000_000, "s")
        return value == value.rounded() ? "\(UInt64(value)) \(unit)" : "\(value) \(unit)"
    }
}
