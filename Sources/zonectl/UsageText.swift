// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// Numbers of `stats` and `top` as people read them, in few characters.
enum UsageText {
    /// `1.5 GiB`; what cannot be told is a dash.
    static func size(_ bytes: UInt64?) -> String {
        bytes.map { ByteSize.text(Int64(clamping: $0)) } ?? "-"
    }

    /// `1.5G`, at most six characters.
    static func short(_ bytes: UInt64?) -> String {
        guard let bytes else { return "-" }
        var value = Double(bytes)
        var unit = 0
        let units = ["B", "K", "M", "G", "T", "P", "E"]
        while value >= 1000, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        let tenths = (value * 10).rounded() / 10
        return unit == 0 || tenths >= 100 ? "\(Int64(value.rounded()))\(units[unit])" : "\(tenths)\(units[unit])"
    }

    /// `12.3` percent, one digit behind the point.
    static func percent(_ value: Double?) -> String {
        guard let value else { return "-" }
        let tenths = Int64(min(value * 10, 1e15).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    /// Of its limit, or of the host's memory where it has none.
    static func memoryPercent(_ usage: ZoneUsage, host: UInt64?) -> Double? {
        guard let memory = usage.memory, let limit = usage.memoryLimit ?? host, limit > 0 else { return nil }
        return Double(memory) / Double(limit) * 100
    }

    /// What a machine's guest uses of its memory.
    static func guestMemory(_ usage: ZoneUsage) -> String {
        guard let total = usage.guestMemory, let available = usage.guestMemoryAvailable else { return "-" }
        return pair(total > available ? total - available : 0, total)
    }

    /// `1 MiB / 2 MiB`, or one dash where neither can be told.
    static func pair(_ first: UInt64?, _ second: UInt64?) -> String {
        first == nil && second == nil ? "-" : "\(size(first)) / \(size(second))"
    }
}
