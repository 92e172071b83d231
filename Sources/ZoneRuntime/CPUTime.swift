// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Amounts of CPU time as people read them.
public enum CPUTime {
    /// Writes `50 ms`, `1.5 s`, `500 µs`.
    public static func text(microseconds: UInt64) -> String {
        if microseconds < 1000 { return "\(microseconds) µs" }
        let (value, unit) =
            microseconds < 1_000_000 ? (Double(microseconds) / 1000, "ms") : (Double(microseconds) / 1_000_000, "s")
        return value == value.rounded() ? "\(UInt64(value)) \(unit)" : "\(value) \(unit)"
    }
}
