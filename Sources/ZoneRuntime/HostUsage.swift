// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What the host as a whole is doing; what cannot be told is nil.
public struct HostUsage: Sendable, Equatable {
    /// As `uptime` shows it: of 1, 5 and 15 minutes.
    public var load: [String] = []
    /// Bytes.
    public var memory: UInt64?
    public var availableMemory: UInt64?
    /// Clock ticks of all CPUs, see proc_stat(5).
    var busyTicks: UInt64 = 0
    var allTicks: UInt64 = 0
    public var cpus = 0

    /// Looks now.
    public init() {
        // What one of these files does not say is left out, whatever the reason.
        if let text = HostUsage.read("/proc/loadavg") { load = Array(text.fields(" ").prefix(3)) }
        for line in (HostUsage.read("/proc/meminfo") ?? "").fields("\n") {
            let fields = line.fields(" ")
            guard fields.count >= 2, let kibibytes = UInt64(fields[1]), kibibytes < 1 << 50 else { continue }
            if fields[0] == "MemTotal:" { memory = kibibytes * 1024 }
            if fields[0] == "MemAvailable:" { availableMemory = kibibytes * 1024 }
        }
        for line in (HostUsage.read("/proc/stat") ?? "").fields("\n") {
            let fields = line.fields(" ")
            guard let name = fields.first, name.after("cpu") != nil else { break }
            if name != "cpu" {
                cpus += 1
                continue
            }
            // user nice system idle iowait irq softirq steal; guests are in user.
            let ticks = fields.dropFirst().prefix(8).map { UInt64($0) ?? 0 }
            allTicks = ticks.reduce(0, &+)
            let idle = ticks.dropFirst(3).prefix(2).reduce(0, &+)
            busyTicks = allTicks - min(allTicks, idle)
        }
    }

    /// Percent of all CPUs since an earlier look.
    public func cpuPercent(since earlier: HostUsage) -> Double? {
        guard allTicks > earlier.allTicks, busyTicks >= earlier.busyTicks else { return nil }
        return Double(busyTicks - earlier.busyTicks) / Double(allTicks - earlier.allTicks) * 100
    }

    private static func read(_ path: String) -> String? {
        (try? readHostFile(path, limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
    }
}
