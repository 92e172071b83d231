// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
public import OCI

/// Limits that somebody has named, for `run` and for `set`. `nil` is not spoken of; 0 and an empty list take a limit
/// away.
public struct LimitChange: Sendable, Equatable {
    /// Microseconds: the period that `--cpus` is counted in, docker's and the kernel's default.
    public static let period: UInt64 = 100_000

    /// Bytes; of swap memory and swap together, -1 for as much as there is.
    public var memory: Int64?
    public var reservation: Int64?
    public var swap: Int64?
    public var disablesOOMKiller: Bool?
    /// Microseconds in each ``period``.
    public var quota: Int64?
    /// Microseconds.
    public var burst: UInt64?
    public var shares: UInt64?
    public var cpus: String?
    public var memoryNodes: String?
    public var pids: Int64?
    public var blockIOWeight: UInt16?
    public var rates: [Rate] = []

    /// A bound on one block device; a rate of 0 takes it away.
    public struct Rate: Sendable, Equatable {
        public enum Kind: String, CaseIterable, Sendable {
            case readBytes = "device-read-bps"
            case writeBytes = "device-write-bps"
            case readOperations = "device-read-iops"
            case writeOperations = "device-write-iops"

            /// Where the configuration keeps the bounds of this kind.
            public var field: WritableKeyPath<Spec.BlockIO, [Spec.DeviceRate]> {
                switch self {
                case .readBytes: \.throttleReadBpsDevice
                case .writeBytes: \.throttleWriteBpsDevice
                case .readOperations: \.throttleReadIOPSDevice
                case .writeOperations: \.throttleWriteIOPSDevice
                }
            }
        }

        public let kind: Kind
        public let bound: Spec.DeviceRate

        fileprivate init(_ kind: Kind, _ bound: Spec.DeviceRate) {
            self.kind = kind
            self.bound = bound
        }

        /// Takes a bound away.
        fileprivate init(_ kind: Kind, none bound: Spec.DeviceRate) {
            var none = bound
            none.rate = 0
            self.init(kind, none)
        }

        public init(_ kind: Kind, major: UInt32, minor: UInt32, rate: UInt64) {
            self.kind = kind
            var bound = Spec.DeviceRate()
            (bound.major, bound.minor, bound.rate) = (Int64(major), Int64(minor), rate)
            self.bound = bound
        }
    }

    public init() {}

    /// What leads from some limits to others; `nil` where they differ in what can only be set when a zone starts.
    init?(from former: Spec.Resources, to wanted: Spec.Resources) {
        let (memory, cpu) = (
            (former.memory ?? .init(), wanted.memory ?? .init()), (former.cpu ?? .init(), wanted.cpu ?? .init())
        )
        if memory.0.limit != memory.1.limit || memory.0.swap != memory.1.swap {
            self.memory = memory.1.limit ?? 0
            swap = memory.1.swap
        }
        if memory.0.reservation != memory.1.reservation { reservation = memory.1.reservation ?? 0 }
        if memory.0.disableOOMKiller != memory.1.disableOOMKiller {
            disablesOOMKiller = memory.1.disableOOMKiller ?? false
        }
        if cpu.0.quota != cpu.1.quota || cpu.0.period != cpu.1.period { quota = cpu.1.quota ?? 0 }
        if cpu.0.burst != cpu.1.burst { burst = cpu.1.burst ?? 0 }
        if cpu.0.shares != cpu.1.shares { shares = cpu.1.shares ?? 0 }
        if cpu.0.cpus != cpu.1.cpus { cpus = cpu.1.cpus ?? "" }
        if cpu.0.mems != cpu.1.mems { memoryNodes = cpu.1.mems ?? "" }
        if former.pids != wanted.pids { pids = wanted.pids?.limit ?? 0 }
        let io = (former.blockIO ?? .init(), wanted.blockIO ?? .init())
        if io.0.weight != io.1.weight { blockIOWeight = io.1.weight ?? 0 }
        for kind in Rate.Kind.allCases {
            let (had, wants) = (io.0[keyPath: kind.field], io.1[keyPath: kind.field])
            if had == wants { continue }
            // All of them anew: their order is part of what the zone is.
            for bound in had where !wants.contains(where: { $0.isSameDevice(bound) }) {
                rates.append(Rate(kind, none: bound))
            }
            rates += wants.map { Rate(kind, $0) }
        }
        guard let reached = try? applied(to: former), reached == wanted else { return nil }
    }

    // MARK: What it makes of older limits

    /// Returns the limits with this change made, or says which rule forbids it.
    public func applied(to former: Spec.Resources) throws(ZoneError) -> Spec.Resources {
        var result = former
        result.memory = try memory(former.memory ?? Spec.Memory())
        result.cpu = try cpu(former.cpu ?? Spec.CPU())
        if let pids { result.pids = pids > 0 ? Spec.Pids(limit: pids) : nil }
        result.blockIO = blockIO(former.blockIO ?? Spec.BlockIO())
        return result
    }

    private func memory(_ former: Spec.Memory) throws(ZoneError) -> Spec.Memory? {
        var result = former
        if let memory {
            result.limit = said(memory)
            // A swap that nobody has chosen goes with the memory.
            if former.swap == LimitChange.defaultSwap(former.limit) { result.swap = nil }
        }
        if let swap { result.swap = said(swap) }
        if let reservation { result.reservation = said(reservation) }
        if let disablesOOMKiller { result.disableOOMKiller = disablesOOMKiller ? true : nil }
        guard let limit = result.limit else {
            if let swap = result.swap, swap > 0 {
                throw ZoneError(
                    .invalid, "--memory-swap \(ByteSize.text(swap)) without a memory limit",
                    hint: "it counts memory and swap together: give --memory, too")
            }
            result.swap = nil
            return result == Spec.Memory() ? nil : result
        }
        if result.swap == nil { result.swap = LimitChange.defaultSwap(limit) }
        if let swap = result.swap, swap > 0, swap < limit {
            throw ZoneError(
                .invalid, "--memory-swap \(ByteSize.text(swap)) is below the memory limit of \(ByteSize.text(limit))",
                hint: "it counts memory and swap together: give --memory-swap of at least that")
        }
        if let reservation = result.reservation, reservation > limit {
            throw ZoneError(
                .invalid,
                "--memory-reservation \(ByteSize.text(reservation)) is above the memory limit of \(ByteSize.text(limit))",
                hint: "the soft limit is what the zone is pushed back to when memory is short: give less")
        }
        return result
    }

    /// As docker: as much swap again as memory.
    static func defaultSwap(_ limit: Int64?) -> Int64? {
        guard let limit else { return nil }
        let (both, overflow) = limit.multipliedReportingOverflow(by: 2)
        return overflow ? -1 : both
    }

    private func cpu(_ former: Spec.CPU) throws(ZoneError) -> Spec.CPU? {
        var result = former
        if let quota {
            result.quota = said(quota)
            result.period = quota == 0 ? nil : LimitChange.period
            // A burst is of a quota, and goes with it.
            if quota == 0 { result.burst = nil }
        }
        if let burst { result.burst = said(burst) }
        if let shares { result.shares = said(shares) }
        if let cpus { result.cpus = cpus.isEmpty ? nil : cpus }
        if let memoryNodes { result.mems = memoryNodes.isEmpty ? nil : memoryNodes }
        if let burst = result.burst {
            let text = CPUTime.text(microseconds: burst)
            guard let quota = result.quota else {
                throw ZoneError(
                    .invalid, "--burst \(text) without --cpus",
                    hint: "a burst exceeds a cap for an instant; without one the zone may use all idle CPU time anyway")
            }
            guard burst <= UInt64(max(quota, 0)) else {
                let bound = CPUTime.text(microseconds: UInt64(max(quota, 0)))
                throw ZoneError(
                    .invalid, "--burst \(text) is above the quota of \(bound)",
                    hint: "a burst may be at most the quota, which is --cpus × 100 ms: give --burst of at most"
                        + " \(bound), or more --cpus")
            }
        }
        return result == Spec.CPU() ? nil : result
    }

    private func blockIO(_ former: Spec.BlockIO) -> Spec.BlockIO? {
        var result = former
        if let blockIOWeight { result.weight = said(blockIOWeight) }
        for rate in rates {
            result[keyPath: rate.kind.field].removeAll { $0.isSameDevice(rate.bound) }
            if rate.bound.rate > 0 { result[keyPath: rate.kind.field].append(rate.bound) }
        }
        return result == Spec.BlockIO() ? nil : result
    }

    // MARK: What it asks of groups that exist

    /// What must be written for the change: the limits that it names, as they are in `result`, with the kernel's words
    /// for "none"; and what only a reset takes away.
    func update(from former: Spec.Resources, to result: Spec.Resources) -> (Spec.Resources, [CGroupReset]) {
        var update = Spec.Resources()
        var reset: [CGroupReset] = []
        var memory = Spec.Memory()
        if self.memory != nil || swap != nil {
            memory.limit = result.memory?.limit ?? -1
            memory.swap = result.memory?.swap ?? -1
        }
        if reservation != nil { memory.reservation = result.memory?.reservation ?? -1 }
        memory.disableOOMKiller = disablesOOMKiller
        if memory != Spec.Memory() { update.memory = memory }
        var cpu = Spec.CPU()
        if quota != nil || burst != nil {
            cpu.quota = result.cpu?.quota ?? -1
            cpu.period = result.cpu?.period
            // Kernels before 5.14 know no burst, and need not as long as nobody asks.
            if burst != nil || former.cpu?.burst != nil { cpu.burst = result.cpu?.burst ?? 0 }
        }
        if shares != nil { cpu.shares = result.cpu?.shares ?? 1024 }
        if let cpus { if cpus.isEmpty { reset.append(.cpus) } else { cpu.cpus = cpus } }
        if let memoryNodes { if memoryNodes.isEmpty { reset.append(.memoryNodes) } else { cpu.mems = memoryNodes } }
        if cpu != Spec.CPU() { update.cpu = cpu }
        if let pids { update.pids = Spec.Pids(limit: pids > 0 ? pids : -1) }
        var io = Spec.BlockIO()
        if let blockIOWeight {
            if blockIOWeight == 0 { reset.append(.blockIOWeight) } else { io.weight = blockIOWeight }
        }
        for rate in rates {
            // No group need be made to take away what is not there.
            let isThere = former.blockIO?[keyPath: rate.kind.field].contains { $0.isSameDevice(rate.bound) } ?? false
            if rate.bound.rate > 0 || isThere { io[keyPath: rate.kind.field].append(rate.bound) }
        }
        if io != Spec.BlockIO() { update.blockIO = io }
        return (update, reset)
    }

    private func said<Number: BinaryInteger>(_ value: Number) -> Number? { value == 0 ? nil : value }
}

extension Spec.DeviceRate {
    fileprivate func isSameDevice(_ other: Spec.DeviceRate) -> Bool { major == other.major && minor == other.minor }
}
