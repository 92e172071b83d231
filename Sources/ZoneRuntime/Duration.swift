// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Lengths of time as people write them, and Go's `time.ParseDuration`: `500us`, `50ms`, `10s`, `1m30s`, `1.5h`, `2d`.
/// Each function returns nil for anything else and for what Int64 cannot hold, and drops what is less than its unit.
public enum Duration {
    /// A number alone is seconds.
    public static func milliseconds(_ text: String) -> Int64? {
        nanoseconds(text, plainUnit: 1_000_000_000).map { $0 / 1_000_000 }
    }

    /// A number alone is refused: it could be of any unit.
    public static func microseconds(_ text: String) -> Int64? {
        nanoseconds(text).map { $0 / 1000 }
    }

    /// The same in nanoseconds.
    public static func nanoseconds(_ text: String) -> Int64? {
        nanoseconds(text, plainUnit: nil)
    }

    /// `plainUnit`: nanoseconds that a number counts which stands alone.
    private static func nanoseconds(_ text: String, plainUnit: UInt64?) -> Int64? {
        var rest = Array(text.utf8)[...]
        var sum: UInt64 = 0
        var isFirst = true
        repeat {
            guard let (whole, billionths) = number(&rest) else { return nil }
            let letters = rest.prefix { !isDigit($0) && $0 != UInt8(ascii: ".") }
            rest = rest.dropFirst(letters.count)
            let isPlain = letters.isEmpty && isFirst && rest.isEmpty
            guard let unit = isPlain ? plainUnit : unit(String(decoding: letters, as: UTF8.self)) else { return nil }
            isFirst = false
            let (product, overflow) = whole.multipliedReportingOverflow(by: unit)
            // Exact, and less than a unit.
            let part = UInt64(1_000_000_000).dividingFullWidth(billionths.multipliedFullWidth(by: unit)).quotient
            let (length, overflowOfPart) = product.addingReportingOverflow(part)
            let (total, overflowOfSum) = sum.addingReportingOverflow(length)
            if overflow || overflowOfPart || overflowOfSum { return nil }
            sum = total
        } while !rest.isEmpty
        return Int64(exactly: sum)
    }

    /// A number with digits on both sides of its point, if it has one; those behind the ninth are dropped.
    private static func number(_ rest: inout ArraySlice<UInt8>) -> (whole: UInt64, billionths: UInt64)? {
        let digits = rest.prefix { isDigit($0) }
        rest = rest.dropFirst(digits.count)
        guard let whole = UInt64(String(decoding: digits, as: UTF8.self)) else { return nil }
        if rest.first != UInt8(ascii: ".") { return (whole, 0) }
        let fraction = rest.dropFirst().prefix { isDigit($0) }
        rest = rest.dropFirst(1 + fraction.count)
        if fraction.isEmpty { return nil }
        var billionths: UInt64 = 0
        for index in 0..<9 {
            let digit = index < fraction.count ? fraction[fraction.startIndex + index] - 0x30 : 0
            billionths = billionths * 10 + UInt64(digit)
        }
        return (whole, billionths)
    }

    private static func unit(_ name: String) -> UInt64? {
        switch name {
        case "us", "µs": 1000
        case "ms": 1_000_000
        case "s": 1_000_000_000
        case "m": 60_000_000_000
        case "h": 3_600_000_000_000
        case "d": 86_400_000_000_000
        default: nil
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
}
