// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

extension PointInTime {
    /// Parses RFC 3339 with a zone, such as `2026-11-21T15:04:05.5+01:00`, to nanoseconds since 1970; nil for anything
    /// else and for what Int64 cannot hold, before 1678 and after 2261.
    public static func nanoseconds(rfc3339 bytes: ArraySlice<UInt8>) -> Int64? {
        var scanner = TimeScanner(rest: bytes)
        guard let date = scanner.date(), scanner.takeAny("Tt "), let time = scanner.time(needsSeconds: true),
            let offset = scanner.offset(), scanner.rest.isEmpty
        else { return nil }
        return joined(date, time, offset: offset)
    }

    /// Parses a point in time as people give it, to nanoseconds since 1970: RFC 3339, also without seconds, time or zone,
    /// which then is the caller's own; seconds since 1970, such as `1700000000.5`; or how long ago, such as `10m` or
    /// `1h30m`. `now` is in nanoseconds since 1970.
    public static func nanoseconds(_ text: String, now: Int64) -> Int64? {
        if let seconds = PlainSeconds.nanoseconds(text) { return seconds }
        if let ago = Duration.nanoseconds(text) {
            let (result, overflow) = now.subtractingReportingOverflow(ago)
            return overflow ? nil : result
        }
        var scanner = TimeScanner(rest: Array(text.utf8)[...])
        guard let date = scanner.date() else { return nil }
        var time = TimeScanner.Time()
        if !scanner.rest.isEmpty {
            guard scanner.takeAny("Tt "), let given = scanner.time(needsSeconds: false) else { return nil }
            time = given
        }
        if scanner.rest.isEmpty { return local(date, time) }
        guard let offset = scanner.offset(), scanner.rest.isEmpty else { return nil }
        return joined(date, time, offset: offset)
    }

    private static func joined(_ date: TimeScanner.Date, _ time: TimeScanner.Time, offset: Int64) -> Int64? {
        // Days since 1970 by eras of 400 years from March on, as in rfc3339(_:).
        let year = date.month > 2 ? date.year : date.year - 1
        let (era, yearOfEra) = year.floored(by: 400)
        let dayOfYear = (153 * (date.month > 2 ? date.month - 3 : date.month + 9) + 2) / 5 + date.day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        return inNanoseconds(days * 86_400 + time.second - offset, time.nanoseconds)
    }

    /// Where the caller is, see localtime(3).
    private static func local(_ date: TimeScanner.Date, _ time: TimeScanner.Time) -> Int64? {
        var parts = tm()
        parts.tm_year = CInt(date.year - 1900)
        parts.tm_mon = CInt(date.month - 1)
        parts.tm_mday = CInt(date.day)
        parts.tm_sec = CInt(time.second % 60)
        parts.tm_min = CInt(time.second / 60 % 60)
        parts.tm_hour = CInt(time.second / 3600)
        parts.tm_isdst = -1
        return inNanoseconds(Int64(mktime(&parts)), time.nanoseconds)
    }

    private static func inNanoseconds(_ seconds: Int64, _ rest: Int64) -> Int64? {
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, second) = whole.addingReportingOverflow(rest)
        return overflow || second ? nil : sum
    }

    /// Numbers of seconds.
    private enum PlainSeconds {
        /// `1700000000` or `1700000000.25`.
        static func nanoseconds(_ text: String) -> Int64? {
            let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            guard parts.count <= 2, let first = parts.first, let whole = number(first) else { return nil }
            var scanner = TimeScanner(rest: [UInt8(ascii: ".")] + Array(parts.count == 2 ? parts[1] : ""[...].utf8))
            guard parts.count == 1 || !parts[1].isEmpty, let fraction = scanner.fraction(), scanner.rest.isEmpty else {
                return parts.count == 1 ? inNanoseconds(whole, 0) : nil
            }
            return inNanoseconds(whole, fraction)
        }

        private static func number(_ digits: Substring.UTF8View) -> Int64? {
            digits.allSatisfy(isDigit) ? Int64(Substring(digits)) : nil
        }

        private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
    }
}

/// Takes the parts of a time from the front of a text.
private struct TimeScanner {
    var rest: ArraySlice<UInt8>

    struct Date {
        var year: Int64
        var month: Int64
        var day: Int64
    }

    struct Time {
        /// Of the day.
        var second: Int64 = 0
        var nanoseconds: Int64 = 0
    }

    mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: scalar) else { return false }
        rest.removeFirst()
        return true
    }

    mutating func takeAny(_ choices: String) -> Bool {
        guard let first = rest.first, choices.utf8.contains(first) else { return false }
        rest.removeFirst()
        return true
    }

    /// Exactly `count` digits.
    mutating func number(_ count: Int, _ range: ClosedRange<Int64>) -> Int64? {
        guard rest.count >= count else { return nil }
        var value: Int64 = 0
        for byte in rest.prefix(count) {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + Int64(byte - 0x30)
        }
        rest = rest.dropFirst(count)
        return range.contains(value) ? value : nil
    }

    mutating func date() -> Date? {
        guard let year = number(4, 0...9999), take("-"), let month = number(2, 1...12), take("-"),
            let day = number(2, 1...31)
        else { return nil }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let length: Int64 =
            switch month {
            case 2: isLeap ? 29 : 28
            case 4, 6, 9, 11: 30
            default: 31
            }
        return day <= length ? Date(year: year, month: month, day: day) : nil
    }

    /// `15:04:05.123`; a leap second is the next one's beginning.
    mutating func time(needsSeconds: Bool) -> Time? {
        guard let hour = number(2, 0...23), take(":"), let minute = number(2, 0...59) else { return nil }
        var time = Time(second: hour * 3600 + minute * 60)
        if !needsSeconds, rest.first != UInt8(ascii: ":") { return time }
        guard take(":"), let second = number(2, 0...60) else { return nil }
        time.second += second
        if rest.first == UInt8(ascii: ".") {
            guard let fraction = fraction() else { return nil }
            time.nanoseconds = fraction
        }
        return time
    }

    /// `.5` in nanoseconds; digits behind the ninth are dropped.
    mutating func fraction() -> Int64? {
        guard take(".") else { return nil }
        var value: Int64 = 0
        var count = 0
        while let byte = rest.first, byte >= 0x30, byte <= 0x39 {
            if count < 9 { value = value * 10 + Int64(byte - 0x30) }
            count += 1
            rest.removeFirst()
        }
        if count == 0 { return nil }
        for _ in min(count, 9)..<9 { value *= 10 }
        return value
    }

    /// `Z` or `+01:00`, in seconds.
    mutating func offset() -> Int64? {
        if takeAny("Zz") { return 0 }
        let isWest = rest.first == UInt8(ascii: "-")
        guard takeAny("+-"), let hours = number(2, 0...23), take(":"), let minutes = number(2, 0...59) else {
            return nil
        }
        let seconds = hours * 3600 + minutes * 60
        return isWest ? -seconds : seconds
    }
}
