// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Points in time as programs read them.
public enum PointInTime {
    /// RFC 3339 in UTC, of seconds since 1970; empty outside of the years 0 to 9999, which RFC 3339 cannot write.
    ///
    /// Not by gmtime_r(3), which reads /etc/localtime first, be it for UTC.
    public static func rfc3339(_ seconds: Int64) -> String {
        guard (-62_167_219_200...253_402_300_799).contains(seconds) else { return "" }
        // Years begin in March: the leap day is the last one. Eras of 400 years have 146,097 days each.
        let shifted = seconds + 719_468 * 86_400
        let (day, time) = shifted.floored(by: 86_400)
        let (era, dayOfEra) = day.floored(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let march = (5 * dayOfYear + 2) / 153
        let month = march < 10 ? march + 3 : march - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let date = "\(digits(year, 4))-\(digits(month, 2))-\(digits(dayOfYear - (153 * march + 2) / 5 + 1, 2))"
        return "\(date)T\(digits(time / 3600, 2)):\(digits(time / 60 % 60, 2)):\(digits(time % 60, 2))Z"
    }

    /// The same of nanoseconds since 1970, with nine digits behind the second.
    public static func rfc3339Nano(_ nanoseconds: Int64) -> String {
        var bytes: [UInt8] = []
        var stamp = LogStamp()
        stamp.append(nanoseconds, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func digits(_ value: Int64, _ count: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
}

extension Int64 {
    /// Quotient and remainder, the latter never negative.
    func floored(by divisor: Int64) -> (Int64, Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
