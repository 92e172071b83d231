// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import LinuxSystem
public import OCI

/// What a zone uses now and has used since it was started; what cannot be told is nil. Later kinds of zones fill in the
/// same.
public struct ZoneUsage: JSONRecord, Sendable, Equatable {
    public var name = ""
    public var type = "container"
    public var status = ""
    /// Percent of one CPU since the last look; nil at the first one.
    public var cpuPercent: Decimal?
    /// Nanoseconds.
    public var cpuTime: UInt64?
    public var throttledTime: UInt64?
    public var throttledPeriods: UInt64?
    /// Bytes, as are the following.
    public var memory: UInt64?
    public var memoryLimit: UInt64?
    public var memoryKills: UInt64?
    /// What a machine's guest says of its own memory: all of it, and what it could still use.
    public var guestMemory: UInt64?
    public var guestMemoryAvailable: UInt64?
    public var readBytes: UInt64?
    public var writtenBytes: UInt64?
    public var receivedBytes: UInt64?
    public var sentBytes: UInt64?
    public var pids: UInt64?
    public var pidsLimit: UInt64?
    /// Percent of the last ten seconds in which something waited for CPU, memory or block devices.
    public var cpuPressure: Decimal?
    public var memoryPressure: Decimal?
    public var ioPressure: Decimal?
    /// A second's, since the last look.
    public var readRate: UInt64?
    public var writeRate: UInt64?
    public var receiveRate: UInt64?
    public var sendRate: UInt64?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("type", &type)
        try visitor.required("status", &status)
        try visitor.field("cpuPercent", &cpuPercent)
        try visitor.field("cpuNanoseconds", &cpuTime)
        try visitor.field("throttledNanoseconds", &throttledTime)
        try visitor.field("throttledPeriods", &throttledPeriods)
        try visitor.field("memoryBytes", &memory)
        try visitor.field("memoryLimitBytes", &memoryLimit)
        try visitor.field("memoryKills", &memoryKills)
        try visitor.field("guestMemoryBytes", &guestMemory)
        try visitor.field("guestMemoryAvailableBytes", &guestMemoryAvailable)
        try visitor.field("ioReadBytes", &readBytes)
        try visitor.field("ioWrittenBytes", &writtenBytes)
        try visitor.field("networkReceivedBytes", &receivedBytes)
        try visitor.field("networkSentBytes", &sentBytes)
        try visitor.field("pids", &pids)
        try visitor.field("pidsLimit", &pidsLimit)
        try visitor.field("cpuPressurePercent", &cpuPressure)
        try visitor.field("memoryPressurePercent", &memoryPressure)
        try visitor.field("ioPressurePercent", &ioPressure)
        try visitor.field("ioReadBytesPerSecond", &readRate)
        try visitor.field("ioWrittenBytesPerSecond", &writeRate)
        try visitor.field("networkReceivedBytesPerSecond", &receiveRate)
        try visitor.field("networkSentBytesPerSecond", &sendRate)
    }

    /// The most that the zone waits for anything.
    public var pressure: Decimal? {
        [cpuPressure, memoryPressure, ioPressure].compactMap { $0 }.max { $0.hundredths < $1.hundredths }
    }

    /// Reads what can be told of a zone at this moment, without what needs two looks.
    init(_ entry: ZoneStore.Entry, network: NetworkUsage.Host, _ store: ZoneStore) {
        name = entry.name
        status = entry.state.word
        guard let process = entry.state.process else { return }
        let groups = CGroupUsage((entry.record?.cgroups ?? []).map(\.directory))
        cpuTime = groups.cpu
        throttledTime = groups.throttled
        throttledPeriods = groups.throttledPeriods
        memory = groups.memory
        memoryLimit = groups.memoryLimit
        memoryKills = groups.memoryKills
        readBytes = groups.read
        writtenBytes = groups.written
        pids = groups.pids
        pidsLimit = groups.pidsLimit
        cpuPressure = groups.cpuPressure.map { Decimal(hundredths: $0.average10) }
        memoryPressure = groups.memoryPressure.map { Decimal(hundredths: $0.average10) }
        ioPressure = groups.ioPressure.map { Decimal(hundredths: $0.average10) }
        var usage = network.usage(of: process.pid)
        if BundleMachine.runs(name, store) {
            type = "vm"
            if let definition = (try? store.definition(of: name)) ?? nil, !definition.networks.isEmpty {
                // Its cards are links of the host's.
                usage = network.usage(ofTaps: definition.networks.map(store.folders.link))
            }
            // What stands still does not answer.
            if case .running = entry.state, let guest = MachineVerbs(store).memory(of: name) {
                guestMemory = guest.total
                guestMemoryAvailable = guest.available
            }
        }
        receivedBytes = usage?.received
        sentBytes = usage?.sent
    }

    /// Fills in what is the difference to an earlier look at the same process, `nanoseconds` ago.
    mutating func compare(with earlier: ZoneUsage, nanoseconds: Int64) {
        guard nanoseconds > 0 else { return }
        let time = Double(nanoseconds)
        if let now = cpuTime, let then = earlier.cpuTime {
            // Counters of a group that was made anew begin anew.
            let used = now >= then ? Double(now - then) : 0
            cpuPercent = Decimal(hundredths: UInt64(min(used / time * 10_000, 1e12).rounded()))
        }
        let rate = { (now: UInt64?, then: UInt64?) -> UInt64? in
            guard let now, let then else { return nil }
            return now >= then ? UInt64(min(Double(now - then) / time * 1e9, 1e18)) : 0
        }
        readRate = rate(readBytes, earlier.readBytes)
        writeRate = rate(writtenBytes, earlier.writtenBytes)
        receiveRate = rate(receivedBytes, earlier.receivedBytes)
        sendRate = rate(sentBytes, earlier.sentBytes)
    }
}

/// A number with two digits behind the point.
public struct Decimal: JSONCodable, SchemaDescribed, Sendable, Equatable {
    public static var schemaType: String { "number" }

    public let hundredths: UInt64

    public init(hundredths: UInt64) {
        self.hundredths = hundredths
    }

    public init(json: JSON) throws(JSONError) {
        guard case .number(let text) = json, let value = Double(text), value >= 0, value < 1e15 else {
            throw JSONError(place: "", reason: "expected a number of at least 0")
        }
        hundredths = UInt64((value * 100).rounded())
    }

    public func write(to writer: inout JSONWriter) { writer.literal(text) }

    public var text: String {
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }

    public var value: Double { Double(hundredths) / 100 }
}

/// Looks at zones again and again.
public struct ZoneSampler {
    private let store: ZoneStore
    private var earlier: [String: Look] = [:]

    private struct Look {
        let process: RecordedProcess
        let time: Int64
        let usage: ZoneUsage
    }

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Looks at the zones that are wanted; rates are since the last look. A zone that is just removed is left out.
    public mutating func sample(_ isWanted: (ZoneStore.Entry) -> Bool) throws(ZoneError) -> [ZoneUsage] {
        let network = NetworkUsage.Host()
        var looks: [String: Look] = [:]
        var result: [ZoneUsage] = []
        for entry in try store.list() where isWanted(entry) {
            let time = MonotonicClock.nanoseconds
            var usage = ZoneUsage(entry, network: network, store)
            if let process = entry.state.process {
                let plain = usage
                if let last = earlier[entry.name], last.process == process {
                    usage.compare(with: last.usage, nanoseconds: time - last.time)
                }
                looks[entry.name] = Look(process: process, time: time, usage: plain)
            }
            result.append(usage)
        }
        earlier = looks
        return result
    }
}
