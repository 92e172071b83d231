// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

extension GuestStatistics {
    /// Reads the guest's own.
    static func read() throws(SystemError) -> GuestStatistics {
        var statistics = GuestStatistics()
        statistics.add(memory: try readHostFile("/proc/meminfo", limit: 64 << 10))
        let own: Int32 = 1
        let threads: Int32 = 2
        for name in try Descriptor.open("/proc", [.path, .directory]).entries() {
            guard let pid = Int32(name), pid != own, pid != threads, let status = try? ProcessStatus(of: pid),
                status.parent != threads
            else { continue }
            statistics.processes += 1
        }
        return statistics
    }

    /// Takes what counts out of /proc/meminfo, `MemTotal:  1024 kB`.
    mutating func add(memory text: [UInt8]) {
        for line in text.split(separator: UInt8(ascii: "\n")) {
            let parts = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
            guard parts.count > 1, let value = Int64(parts[1]), value >= 0 else { continue }
            let (bytes, overflow) = value.multipliedReportingOverflow(by: 1024)
            if overflow { continue }
            switch parts[0] {
            case "MemTotal:": memoryTotal = bytes
            case "MemAvailable:": memoryAvailable = bytes
            default: break
            }
        }
    }
}
