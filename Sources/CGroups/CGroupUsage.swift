// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a zone's groups use, for those who look at many zones every second: few files, each read once. All that there
/// is, as engines want it, is in ``CGroupStatistics``.
public struct CGroupUsage: Sendable, Equatable {
    /// Nanoseconds.
    public var cpu: UInt64?
    /// Nanoseconds in which the zone was kept from running by its own limit.
    public var throttled: UInt64?
    public var throttledPeriods: UInt64?
    /// Bytes, without what could be dropped at once (`inactive_file`), as docker counts them.
    public var memory: UInt64?
    /// Bytes; nil without a limit.
    public var memoryLimit: UInt64?
    /// Processes that were killed at the limit.
    public var memoryKills: UInt64?
    /// Bytes read from and written to block devices.
    public var read: UInt64?
    public var written: UInt64?
    /// Processes and threads.
    public var pids: UInt64?
    public var pidsLimit: UInt64?
    /// What at least one task waited for in the last ten seconds, in hundredths of a percent; and in all, microseconds.
    public var cpuPressure: Pressure?
    public var memoryPressure: Pressure?
    public var ioPressure: Pressure?

    public struct Pressure: Sendable, Equatable {
        public var average10: UInt64 = 0
        public var total: UInt64 = 0
    }

    public init() {}

    /// Reads the files that are there; groups that are gone leave nothing.
    public init(_ directories: [CGroupDirectory]) {
        for directory in directories {
            // Gone since it was recorded: there is nothing to be counted any more.
            guard let folder = try? Descriptor.open(directory.path, [.path, .directory]) else { continue }
            let files = UsageFiles(folder: folder)
            if directory.hierarchy.isEmpty {
                readUnified(files)
            } else {
                for controller in directory.controllers { readLegacy(controller, files) }
            }
        }
    }

    private mutating func readUnified(_ files: borrowing UsageFiles) {
        if cpu == nil, let stat = files.read("cpu.stat") {
            cpu = stat.value(of: "usage_usec").map { $0.nanoseconds }
            throttled = throttled ?? stat.value(of: "throttled_usec").map { $0.nanoseconds }
            throttledPeriods = throttledPeriods ?? stat.value(of: "nr_throttled")
        }
        cpuPressure = files.read("cpu.pressure")?.pressure
        memoryPressure = files.read("memory.pressure")?.pressure
        ioPressure = files.read("io.pressure")?.pressure
        if memory == nil, let usage = files.number("memory.current") {
            memory = usage.without(files.read("memory.stat")?.value(of: "inactive_file"))
            memoryLimit = files.number("memory.max")
            memoryKills = files.read("memory.events")?.value(of: "oom_kill")
        }
        if pids == nil {
            pids = files.number("pids.current")
            pidsLimit = files.number("pids.max")
        }
        if read == nil, let stat = files.read("io.stat") {
            read = stat.sum(of: "rbytes=")
            written = stat.sum(of: "wbytes=")
        }
    }

    private mutating func readLegacy(_ controller: String, _ files: borrowing UsageFiles) {
        switch controller {
        case "cpu":
            let stat = files.read("cpu.stat")
            throttled = stat?.value(of: "throttled_time")
            throttledPeriods = stat?.value(of: "nr_throttled")
        case "cpuacct": cpu = files.number("cpuacct.usage")
        case "memory":
            memory = files.number("memory.usage_in_bytes").map {
                $0.without(files.read("memory.stat")?.value(of: "total_inactive_file"))
            }
            // Nearly Int64.max, rounded down to a page, is no limit.
            memoryLimit = files.number("memory.limit_in_bytes").flatMap { $0 >= 1 << 62 ? nil : $0 }
            memoryKills = files.read("memory.oom_control")?.value(of: "oom_kill")
        case "pids":
            pids = files.number("pids.current")
            pidsLimit = files.number("pids.max")
        case "blkio":
            guard let stat = files.read("blkio.throttle.io_service_bytes_recursive") else { return }
            read = stat.sum(of: "Read ")
            written = stat.sum(of: "Write ")
        default: break
        }
    }
}

/// The files of one group.
private struct UsageFiles: ~Copyable {
    let folder: Descriptor

    /// nil where there is none, and where the kernel says nothing, as it does of groups that are just removed.
    func read(_ name: String) -> UsageText? {
        guard let bytes = try? folder.readFile(name, limit: 1 << 20) else { return nil }
        return UsageText(bytes: bytes)
    }

    /// A file that is one number; nil for `max`.
    func number(_ name: String) -> UInt64? {
        read(name)?.number(at: 0)
    }
}

/// A text of the kernel's, searched by bytes.
struct UsageText {
    let bytes: [UInt8]

    /// The number of the line `key NUMBER`.
    func value(of key: String) -> UInt64? {
        var start = 0
        let key = Array(key.utf8)
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: 0x0A) ?? bytes.count
            let place = start + key.count
            if place < end, bytes[place] == 0x20, bytes[start..<place].elementsEqual(key) {
                return number(at: place + 1)
            }
            start = end + 1
        }
        return nil
    }

    /// The sum of the numbers behind each `word`, which begins behind a space.
    func sum(of word: String) -> UInt64 {
        let word = Array(word.utf8)
        var result: UInt64 = 0
        var index = 1
        while index + word.count < bytes.count {
            if bytes[index - 1] == 0x20, bytes[index] == word[0],
                bytes[index..<(index + word.count)].elementsEqual(word),
                let value = number(at: index + word.count)
            {
                let (sum, overflow) = result.addingReportingOverflow(value)
                result = overflow ? .max : sum
            }
            index += 1
        }
        return result
    }

    /// `some avg10=1.23 avg60=… avg300=… total=456`, the first line.
    var pressure: CGroupUsage.Pressure? {
        let line = bytes.prefix { $0 != 0x0A }
        guard line.starts(with: "some avg10=".utf8) else { return nil }
        var result = CGroupUsage.Pressure()
        let place = "some avg10=".utf8.count
        guard let whole = number(at: place), let dot = line[place...].firstIndex(of: 0x2E), dot + 2 < line.count,
            let fraction = number(at: dot + 1), fraction < 100, whole <= 1000
        else { return nil }
        result.average10 = whole * 100 + fraction
        result.total = UsageText(bytes: Array(line)).sum(of: "total=")
        return result
    }

    /// The digits at a place; nil where there are none, or too many.
    func number(at place: Int) -> UInt64? {
        var value: UInt64 = 0
        var index = place
        while index < bytes.count, bytes[index] >= 0x30, bytes[index] <= 0x39 {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, second) = product.addingReportingOverflow(UInt64(bytes[index] - 0x30))
            if overflow || second { return nil }
            value = sum
            index += 1
        }
        return index == place ? nil : value
    }
}

extension UInt64 {
    /// From microseconds.
    fileprivate var nanoseconds: UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: 1000)
        return overflow ? .max : product
    }

    /// The two are read one after the other.
    fileprivate func without(_ part: UInt64?) -> UInt64 {
        self - Swift.min(self, part ?? 0)
    }
}
