// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Sizes as people write them.
public enum ByteSize {
    /// Parses `1048576`, `512k`, `512M`, `1.5G`, `512MiB`, `2GB`, `1T`: powers of 1024, as docker's. `nil` for anything
    /// else, for less than nothing and for more than Int64 holds.
    public static func parse(_ text: String) -> Int64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        // Only ASCII: the small letter of the sign of Kelvin is a k.
        guard !digits.isEmpty, text.utf8.count <= 32, text.utf8.allSatisfy({ $0 < 0x80 }), digits.utf8.count <= 20,
            let value = Double(String(digits))
        else { return nil }
        let unit = text.dropFirst(digits.count).lowercased()
        let shifts: [String: Int] = [
            "": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
            "t": 40, "tb": 40, "tib": 40, "p": 50, "pb": 50, "pib": 50,
        ]
        guard let shift = shifts[unit] else { return nil }
        // Whole numbers exactly; fractions through Double.
        if let whole = Int64(String(digits)) {
            let (result, overflow) = whole.multipliedReportingOverflow(by: 1 << Int64(shift))
            return overflow ? nil : result
        }
        let result = value * Double(1 << Int64(shift))
        return result < 0x1p62 ? Int64(result) : nil
    }

    /// Writes `64 MiB`, `1.5 GiB`, `100 bytes`.
    public static func text(_ bytes: Int64) -> String {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
        var value = Double(bytes)
        var index = 0
        while value >= 1024, index < units.count - 1 {
            value /= 1024
            index += 1
        }
        let tenths = (value * 10).rounded() / 10
        return tenths == tenths.rounded() ? "\(Int64(tenths)) \(units[index])" : "\(tenths) \(units[index])"
    }
}
