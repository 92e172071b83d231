// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Lengths of time as people write them.
public enum Duration {
    /// Reads `500ms`, `10s`, `1m30s`, `2h`, `1.5s`, as Go's `time.ParseDuration` and docker do; a number alone is
    /// seconds. Milliseconds, rounded up to one where anything was said; `nil` for anything else.
    public static func milliseconds(_ text: String) -> Int64? {
        microseconds(text).map { $0 / 1000 + ($0 % 1000 > 0 ? 1 : 0) }
    }

    /// The same in microseconds.
    public static func microseconds(_ text: String) -> Int64? {
        var rest = Array(text.utf8)[...]
        if rest.isEmpty { return nil }
        var sum: Int64 = 0
        while !rest.isEmpty {
            guard let (value, thousandths) = number(&rest), let unit = unit(&rest, isWhole: sum == 0) else {
                return nil
            }
            let (whole, overflow) = value.multipliedReportingOverflow(by: unit)
            let (part, overflowOfPart) = thousandths.multipliedReportingOverflow(by: unit)
            let (total, overflowOfSum) = whole.addingReportingOverflow(part / 1000)
            let (next, overflowOfAll) = sum.addingReportingOverflow(total)
            if overflow || overflowOfPart || overflowOfSum || overflowOfAll { return nil }
            sum = next
        }
        return sum
    }

    /// A number with up to three digits behind the point: whole and thousandths.
    private static func number(_ rest: inout ArraySlice<UInt8>) -> (Int64, Int64)? {
        let digits = rest.prefix { isDigit($0) }
        rest = rest.dropFirst(digits.count)
        var fraction: [UInt8] = []
        if rest.first == UInt8(ascii: ".") {
            fraction = Array(rest.dropFirst().prefix { isDigit($0) })
            rest = rest.dropFirst(1 + fraction.count)
            if fraction.isEmpty || fraction.count > 3 { return nil }
        }
        guard !digits.isEmpty, let whole = Int64(String(decoding: digits, as: UTF8.self)) else { return nil }
        let padded = fraction + [UInt8](repeating: UInt8(ascii: "0"), count: 3 - fraction.count)
        return (whole, Int64(String(decoding: padded, as: UTF8.self)) ?? 0)
    }

    private static func unit(_ rest: inout ArraySlice<UInt8>, isWhole: Bool) -> Int64? {
        let letters = rest.prefix { !isDigit($0) && $0 != UInt8(ascii: ".") }
        rest = rest.dropFirst(letters.count)
        switch String(decoding: letters, as: UTF8.self) {
        case "us": return 1
        case "ms": return 1000
        case "s": return 1_000_000
        case "m": return 60_000_000
        case "h": return 3_600_000_000
        case "d": return 86_400_000_000
        // Only where nothing else was said.
        case "" where rest.isEmpty && isWhole: return 1_000_000
        default: return nil
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
}
