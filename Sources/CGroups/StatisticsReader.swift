// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

extension CGroupStatistics {
    /// Reads the files of a zone's groups; one that the kernel does not have leaves zeros.
    init(_ directories: [CGroupDirectory]) throws(SystemError) {
        self.init()
        for directory in directories {
            let group = try CGroupFiles(directory.path)
            if directory.hierarchy.isEmpty {
                // On a hybrid host: CPU time where no version 1 group tells it, and pressure.
                try readUnified(group, besides: directories.flatMap(\.controllers))
                continue
            }
            for controller in directory.controllers { try readLegacy(controller, group) }
        }
    }

    // MARK: Version 2

    private mutating func readUnified(_ group: borrowing CGroupFiles, besides legacy: [String]) throws(SystemError) {
        if !legacy.contains("cpuacct") {
            let stat = try group.table("cpu.stat")
            cpu.usage.total = (stat["usage_usec"] ?? 0).nanoseconds
            cpu.usage.user = (stat["user_usec"] ?? 0).nanoseconds
            cpu.usage.kernel = (stat["system_usec"] ?? 0).nanoseconds
            if !legacy.contains("cpu") {
                cpu.throttling.periods = stat["nr_periods"] ?? 0
                cpu.throttling.throttledPeriods = stat["nr_throttled"] ?? 0
                cpu.throttling.throttledTime = (stat["throttled_usec"] ?? 0).nanoseconds
            }
        }
        cpu.psi = try group.pressure("cpu.pressure")
        memory.psi = try group.pressure("memory.pressure")
        blkio.psi = try group.pressure("io.pressure")
        if !legacy.contains("memory") { try readUnifiedMemory(group) }
        if !legacy.contains("pids") { try readPids(group) }
        if !legacy.contains("cpuset"), let cpus = try group.readIfThere("cpuset.cpus") {
            var set = CPUSet()
            set.cpus = NumberList.parse(cpus)
            set.mems = NumberList.parse(try group.readIfThere("cpuset.mems") ?? "")
            cpuset = set
        }
        if !legacy.contains("blkio") { try readUnifiedIO(group) }
        if !legacy.contains("hugetlb") {
            try readHugetlb(group, usage: ".current", max: nil, failures: ".events")
        }
    }

    private mutating func readUnifiedMemory(_ group: borrowing CGroupFiles) throws(SystemError) {
        memory.raw = try group.table("memory.stat")
        memory.cache = memory.raw["file"] ?? 0
        memory.usage.usage = try group.number("memory.current")
        memory.usage.limit = try group.number("memory.max")
        memory.usage.max = try group.number("memory.peak")
        memory.usage.failures = try group.table("memory.events")["max"] ?? 0
        memory.kernel.usage = memory.raw["kernel"] ?? 0
        memory.kernelTCP.usage = memory.raw["sock"] ?? 0
        // As version 1 counts it, which readers expect: with memory. The peaks are of different moments.
        memory.swap.usage = try group.number("memory.swap.current").adding(memory.usage.usage)
        memory.swap.limit = try group.number("memory.swap.max").adding(memory.usage.limit)
        memory.swap.failures = try group.table("memory.swap.events")["max"] ?? 0
    }

    private mutating func readUnifiedIO(_ group: borrowing CGroupFiles) throws(SystemError) {
        for line in (try group.readIfThere("io.stat") ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let place = words.first, let (major, minor) = StatisticsText.device(place) else { continue }
            for word in words.dropFirst() {
                let pair = word.split(separator: "=", maxSplits: 1)
                guard pair.count == 2, let value = UInt64(pair[1]) else { continue }
                let entry = { (operation: String) in BlockIOEntry(major, minor, operation, value) }
                switch pair[0] {
                case "rbytes": blkio.serviceBytes.append(entry("Read"))
                case "wbytes": blkio.serviceBytes.append(entry("Write"))
                case "dbytes": blkio.serviceBytes.append(entry("Discard"))
                case "rios": blkio.serviced.append(entry("Read"))
                case "wios": blkio.serviced.append(entry("Write"))
                case "dios": blkio.serviced.append(entry("Discard"))
                default: break
                }
            }
        }
    }

    // MARK: Version 1

    private mutating func readLegacy(_ controller: String, _ group: borrowing CGroupFiles) throws(SystemError) {
        switch controller {
        case "cpu":
            let stat = try group.table("cpu.stat")
            cpu.throttling.periods = stat["nr_periods"] ?? 0
            cpu.throttling.throttledPeriods = stat["nr_throttled"] ?? 0
            cpu.throttling.throttledTime = stat["throttled_time"] ?? 0
        case "cpuacct": try readCPUAccounting(group)
        case "cpuset": try readCPUSet(group)
        case "memory":
            memory.raw = try group.table("memory.stat")
            memory.cache = memory.raw["cache"] ?? 0
            memory.usage = try group.memoryEntry("memory")
            memory.swap = try group.memoryEntry("memory.memsw")
            memory.kernel = try group.memoryEntry("memory.kmem")
            memory.kernelTCP = try group.memoryEntry("memory.kmem.tcp")
        case "pids": try readPids(group)
        case "blkio": try readLegacyIO(group)
        case "hugetlb":
            try readHugetlb(group, usage: ".usage_in_bytes", max: ".max_usage_in_bytes", failures: ".failcnt")
        default: break
        }
    }

    private mutating func readCPUAccounting(_ group: borrowing CGroupFiles) throws(SystemError) {
        cpu.usage.total = try group.number("cpuacct.usage")
        cpu.usage.user = try group.number("cpuacct.usage_user")
        cpu.usage.kernel = try group.number("cpuacct.usage_sys")
        // "cpu user system", then a line for each CPU.
        for line in (try group.readIfThere("cpuacct.usage_all") ?? "").split(separator: "\n").dropFirst() {
            let numbers = line.split(separator: " ").compactMap { UInt64($0) }
            guard numbers.count == 3 else { continue }
            cpu.usage.perCPUUser.append(numbers[1])
            cpu.usage.perCPUKernel.append(numbers[2])
        }
        cpu.usage.perCPU = (try group.readIfThere("cpuacct.usage_percpu") ?? "").split(separator: " ").compactMap {
            UInt64($0)
        }
    }

    private mutating func readCPUSet(_ group: borrowing CGroupFiles) throws(SystemError) {
        var set = CPUSet()
        set.cpus = NumberList.parse(try group.readIfThere("cpuset.cpus") ?? "")
        set.mems = NumberList.parse(try group.readIfThere("cpuset.mems") ?? "")
        for name in CPUSet.flagNames {
            if let value = try group.readIfThere("cpuset.\(name)").flatMap({ Int64($0) }), value != 0 {
                set.flags[name] = value
            }
        }
        cpuset = set
    }

    private mutating func readLegacyIO(_ group: borrowing CGroupFiles) throws(SystemError) {
        // Whichever scheduler counts; throttling always does.
        blkio.serviceBytes = try group.blockIO([
            "blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ])
        blkio.serviced = try group.blockIO([
            "blkio.bfq.io_serviced_recursive", "blkio.io_serviced_recursive", "blkio.throttle.io_serviced_recursive",
        ])
        blkio.queued = try group.blockIO(["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"])
        blkio.serviceTime = try group.blockIO([
            "blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive",
        ])
        blkio.waitTime = try group.blockIO(["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"])
        blkio.merged = try group.blockIO(["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"])
        blkio.time = try group.blockIO(["blkio.bfq.time_recursive", "blkio.time_recursive"])
        blkio.sectors = try group.blockIO(["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"])
    }

    // MARK: Both

    private mutating func readPids(_ group: borrowing CGroupFiles) throws(SystemError) {
        pids.current = try group.number("pids.current")
        let limit = try group.number("pids.max")
        pids.limit = limit == .max ? 0 : limit
    }

    private mutating func readHugetlb(
        _ group: borrowing CGroupFiles, usage: String, max: String?, failures: String
    ) throws(SystemError) {
        for name in try group.directory.entries() where name.hasPrefix("hugetlb.") && name.hasSuffix(usage) {
            let size = String(name.dropFirst("hugetlb.".count).dropLast(usage.count))
            // Not `2MB.rsvd`.
            guard HugetlbController.isPageSize(size) else { continue }
            var entry = Hugetlb()
            entry.usage = try group.number(name)
            if let max { entry.max = try group.number("hugetlb.\(size)\(max)") }
            let file = "hugetlb.\(size)\(failures)"
            entry.failures = failures == ".events" ? try group.table(file)["max"] ?? 0 : try group.number(file)
            hugetlb[size] = entry
        }
    }
}

extension CGroupFiles {
    /// Reads a flat-keyed file, `key value` on each line.
    fileprivate func table(_ file: String) throws(SystemError) -> [String: UInt64] {
        var result: [String: UInt64] = [:]
        for line in (try readIfThere(file) ?? "").split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, let value = UInt64(words[1]) { result[String(words[0])] = value }
        }
        return result
    }

    /// Reads one number; `max` is the highest, what is none is 0.
    fileprivate func number(_ file: String) throws(SystemError) -> UInt64 {
        guard let text = try readIfThere(file) else { return 0 }
        return text == "max" ? .max : UInt64(text) ?? 0
    }

    fileprivate func memoryEntry(_ prefix: String) throws(SystemError) -> CGroupStatistics.MemoryEntry {
        var entry = CGroupStatistics.MemoryEntry()
        entry.limit = try number("\(prefix).limit_in_bytes")
        entry.usage = try number("\(prefix).usage_in_bytes")
        entry.max = try number("\(prefix).max_usage_in_bytes")
        entry.failures = try number("\(prefix).failcnt")
        return entry
    }

    /// Reads the first of these files that says something of a device: `8:0 Read 4096`, or `8:0 4096`.
    fileprivate func blockIO(_ files: [String]) throws(SystemError) -> [CGroupStatistics.BlockIOEntry] {
        for file in files {
            guard let text = try readIfThere(file) else { continue }
            let entries = StatisticsText.blockIO(text)
            if !entries.isEmpty { return entries }
        }
        return []
    }

    /// Reads a pressure file; `nil` where the kernel does not keep it.
    fileprivate func pressure(_ file: String) throws(SystemError) -> CGroupStatistics.Pressure? {
        try readIfThere(file).flatMap(StatisticsText.pressure)
    }
}

/// The kernel's texts, taken apart; what is not understood is left out.
enum StatisticsText {
    static func device(_ text: Substring) -> (UInt64, UInt64)? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let major = UInt64(parts[0]), let minor = UInt64(parts[1]) else { return nil }
        return (major, minor)
    }

    static func blockIO(_ text: String) -> [CGroupStatistics.BlockIOEntry] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 2 || words.count == 3, let (major, minor) = device(words[0]),
                let value = UInt64(words[words.count - 1])
            else { return nil }
            return .init(major, minor, words.count == 3 ? String(words[1]) : "", value)
        }
    }

    static func pressure(_ text: String) -> CGroupStatistics.Pressure? {
        var result = CGroupStatistics.Pressure()
        var isFound = false
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let kind = words.first, kind == "some" || kind == "full" else { continue }
            var parsed = CGroupStatistics.PressureLine()
            for word in words.dropFirst() {
                let pair = word.split(separator: "=", maxSplits: 1)
                guard pair.count == 2 else { continue }
                switch pair[0] {
                case "avg10": parsed.average10 = decimal(pair[1])
                case "avg60": parsed.average60 = decimal(pair[1])
                case "avg300": parsed.average300 = decimal(pair[1])
                case "total": parsed.total = UInt64(pair[1]) ?? 0
                default: break
                }
            }
            isFound = true
            if kind == "some" { result.some = parsed } else { result.full = parsed }
        }
        return isFound ? result : nil
    }

    /// The digits as they are, as long as they are a JSON number.
    private static func decimal(_ text: Substring) -> String {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), UInt32(parts[0]) != nil, parts.count == 1 || UInt32(parts[1]) != nil,
            !text.contains("+"), parts[0] == "0" || parts[0].first != "0"
        else { return "0" }
        return String(text)
    }
}

/// Lists such as `0-3,7`.
enum NumberList {
    /// Returns the numbers, at most `limit`; what is no list is empty.
    static func parse(_ text: String, limit: Int = 8192) -> [UInt16] {
        var result: [UInt16] = []
        for part in text.split(separator: ",") {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last,
                result.count + Int(last - first) < limit
            else { return [] }
            result += first...last
        }
        return result
    }
}

extension UInt64 {
    /// From microseconds.
    fileprivate var nanoseconds: UInt64 { multipliedReportingOverflow(by: 1000).overflow ? .max : self * 1000 }

    /// The sum, at most the highest number, which means "no limit".
    fileprivate func adding(_ other: UInt64) -> UInt64 {
        let sum = addingReportingOverflow(other)
        return sum.overflow ? .max : sum.partialValue
    }
}
