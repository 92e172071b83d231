// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

// The commands that ask for something, each with what it answers.

/// The version of a QEMU process.
public struct QEMUVersion: JSONRecord, Sendable, Equatable, CustomStringConvertible {
    public var number = Number()
    /// What its packager calls it; empty for QEMU's own.
    public var package = ""

    public struct Number: JSONRecord, Sendable, Equatable {
        public var major: UInt32 = 0
        public var minor: UInt32 = 0
        public var micro: UInt32 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("major", &major)
            try visitor.required("minor", &minor)
            try visitor.required("micro", &micro)
        }
    }

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("qemu", &number)
        try visitor.field("package", &package)
        package = plain(package, limit: 128)
    }

    /// `7.2.22`.
    public var description: String { "\(number.major).\(number.minor).\(number.micro)" }
}

/// What a machine is doing: `RunState` of QEMU's qapi/run-state.json.
public enum MachineRunState: String, CaseIterable, JSONCodable, Sendable {
    case debug
    case incomingMigration = "inmigrate"
    case internalError = "internal-error"
    case ioError = "io-error"
    case paused
    case postMigration = "postmigrate"
    case prelaunch
    case finishingMigration = "finish-migrate"
    case restoring = "restore-vm"
    case running
    case saving = "save-vm"
    case shutdown
    case suspended
    case watchdog
    case guestPanicked = "guest-panicked"
    case colo
}

extension QMP {
    public struct QueryStatus: QMPCommand {
        public static let name = "query-status"
        public init() {}

        public struct Reply: JSONRecord, Sendable, Equatable {
            public var status = MachineRunState.prelaunch
            /// Whether the virtual CPUs run.
            public var isRunning = false

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("status", &status)
                try visitor.required("running", &isRunning)
            }
        }
    }

    public struct QueryVersion: QMPCommand {
        public typealias Reply = QEMUVersion
        public static let name = "query-version"
        public init() {}
    }

    public struct QueryKVM: QMPCommand {
        public static let name = "query-kvm"
        public init() {}

        public struct Reply: JSONRecord, Sendable, Equatable {
            /// Whether the machine runs with KVM, and whether this QEMU could.
            public var isEnabled = false
            public var isPresent = false

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("enabled", &isEnabled)
                try visitor.required("present", &isPresent)
            }
        }
    }

    public struct QueryCPUs: QMPCommand {
        public typealias Reply = [VirtualCPU]
        public static let name = "query-cpus-fast"
        public init() {}
    }

    /// A virtual CPU and the host's thread that runs it.
    public struct VirtualCPU: JSONRecord, Sendable, Equatable {
        public var index: UInt32 = 0
        /// As QEMU's own pid namespace numbers it, and as QEMU says: to be looked for below its process before use.
        public var thread: Int32 = 0
        public var path = ""

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("cpu-index", &index)
            try visitor.required("thread-id", &thread)
            try visitor.field("qom-path", &path)
            path = plain(path)
        }
    }
}

// MARK: The balloon

extension QMP {
    /// Asks how much memory the balloon leaves the guest.
    public struct QueryBalloon: QMPCommand {
        public static let name = "query-balloon"
        public init() {}

        public struct Reply: JSONRecord, Sendable, Equatable {
            /// Bytes.
            public var actual: UInt64 = 0

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("actual", &actual)
            }
        }
    }

    /// Asks the guest to make do with so much memory; events tell how far it got.
    public struct Balloon: QMPCommand {
        public typealias Reply = Done
        public static let name = "balloon"
        public var bytes: Int64

        public init(bytes: Int64) { self.bytes = bytes }

        public var arguments: [JSON.Member] { [.init("value", .number(String(bytes)))] }
    }

    /// Has the balloon ask the guest for its figures every so many seconds; 0 for no longer.
    public struct PollGuestMemory: QMPCommand {
        public typealias Reply = Done
        public static let name = "qom-set"
        private let setting: SetProperty

        /// `path`: the balloon device's in the tree of objects.
        public init(path: String, seconds: UInt32) {
            setting = SetProperty(
                path: path, property: "guest-stats-polling-interval", value: .number(String(seconds)))
        }

        public var arguments: [JSON.Member] { setting.arguments }
    }

    /// Asks for the figures that the guest gave last.
    public struct GetGuestMemory: QMPCommand {
        public typealias Reply = GuestMemory
        public static let name = "qom-get"
        private let question: GetProperty

        public init(path: String) {
            question = GetProperty(path: path, property: "guest-stats")
        }

        public var arguments: [JSON.Member] { question.arguments }
    }

    /// A guest's own account of its memory, in bytes, which nothing obliges it to be honest about; `nil` where it gave none.
    public struct GuestMemory: JSONCodable, Sendable, Equatable {
        public let swapIn: UInt64?
        public let swapOut: UInt64?
        /// Page faults, counted.
        public let majorFaults: UInt64?
        public let minorFaults: UInt64?
        public let free: UInt64?
        public let total: UInt64?
        public let available: UInt64?
        public let diskCaches: UInt64?
        /// Seconds since 1970; `nil` where the guest has not answered yet.
        public let lastUpdate: UInt64?

        public init(json: JSON) throws(JSONError) {
            guard case .object = json else { throw JSONError(place: "", reason: "expected an object") }
            guard let figures = json["stats"], case .object = figures else {
                throw JSONError(place: "stats", reason: "expected an object")
            }
            swapIn = GuestMemory.figure(figures["stat-swap-in"])
            swapOut = GuestMemory.figure(figures["stat-swap-out"])
            majorFaults = GuestMemory.figure(figures["stat-major-faults"])
            minorFaults = GuestMemory.figure(figures["stat-minor-faults"])
            free = GuestMemory.figure(figures["stat-free-memory"])
            total = GuestMemory.figure(figures["stat-total-memory"])
            available = GuestMemory.figure(figures["stat-available-memory"])
            diskCaches = GuestMemory.figure(figures["stat-disk-caches"])
            let time = GuestMemory.figure(json["last-update"])
            lastUpdate = time == 0 ? nil : time
        }

        public func write(to writer: inout JSONWriter) {
            writer.beginObject()
            writer.name("stats")
            writer.beginObject()
            for (name, value) in [
                ("stat-swap-in", swapIn), ("stat-swap-out", swapOut), ("stat-major-faults", majorFaults),
                ("stat-minor-faults", minorFaults), ("stat-free-memory", free), ("stat-total-memory", total),
                ("stat-available-memory", available), ("stat-disk-caches", diskCaches),
            ] {
                writer.name(name)
                writer.literal(String(value ?? .max))
            }
            writer.endObject()
            writer.name("last-update")
            writer.literal(String(lastUpdate ?? 0))
            writer.endObject()
        }

        /// -1, as a number with or without a sign, stands for what is not known.
        private static func figure(_ json: JSON?) -> UInt64? {
            guard case .number(let text)? = json, let value = UInt64(text), value != .max else { return nil }
            return value
        }
    }
}

// MARK: Disks

extension QMP {
    public struct QueryBlockStatistics: QMPCommand {
        public typealias Reply = [BlockStatistics]
        public static let name = "query-blockstats"
        public init() {}
    }

    /// What a disk was used for since QEMU began.
    public struct BlockStatistics: JSONRecord, Sendable, Equatable {
        /// The names of backend, guest device and node, as far as each has one.
        public var device = ""
        public var guestDevice = ""
        public var node = ""
        public var counts = Counts()

        public struct Counts: JSONRecord, Sendable, Equatable {
            public var readBytes: UInt64 = 0
            public var writtenBytes: UInt64 = 0
            public var reads: UInt64 = 0
            public var writes: UInt64 = 0
            public var flushes: UInt64 = 0
            /// Nanoseconds.
            public var readTime: UInt64 = 0
            public var writeTime: UInt64 = 0
            public var failedReads: UInt64 = 0
            public var failedWrites: UInt64 = 0

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("rd_bytes", &readBytes)
                try visitor.required("wr_bytes", &writtenBytes)
                try visitor.required("rd_operations", &reads)
                try visitor.required("wr_operations", &writes)
                try visitor.field("flush_operations", &flushes)
                try visitor.field("rd_total_time_ns", &readTime)
                try visitor.field("wr_total_time_ns", &writeTime)
                try visitor.field("failed_rd_operations", &failedReads)
                try visitor.field("failed_wr_operations", &failedWrites)
            }
        }

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("device", &device)
            try visitor.field("qdev", &guestDevice)
            try visitor.field("node-name", &node)
            try visitor.required("stats", &counts)
            (device, guestDevice, node) = (plain(device), plain(guestDevice), plain(node))
        }
    }

    public struct QueryBlock: QMPCommand {
        public typealias Reply = [BlockDevice]
        public static let name = "query-block"
        public init() {}
    }

    /// A disk or a drive of a machine.
    public struct BlockDevice: JSONRecord, Sendable, Equatable {
        public var device = ""
        public var guestDevice = ""
        public var isRemovable = false
        public var isLocked = false
        /// `nil` for a drive without a medium.
        public var medium: BlockMedium?
        /// `ok`, `failed` or `nospace`; empty where errors are not watched for.
        public var ioStatus = ""

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("device", &device)
            try visitor.field("qdev", &guestDevice)
            try visitor.field("removable", &isRemovable)
            try visitor.field("locked", &isLocked)
            try visitor.field("inserted", &medium)
            try visitor.field("io-status", &ioStatus)
            (device, guestDevice, ioStatus) = (plain(device), plain(guestDevice), plain(ioStatus))
        }
    }

    /// What is in a drive.
    public struct BlockMedium: JSONRecord, Sendable, Equatable {
        public var file = ""
        public var node = ""
        /// The name of the format, `raw` or `qcow2`.
        public var format = ""
        public var isReadOnly = false
        public var image = Sizes()

        /// Bytes.
        public struct Sizes: JSONRecord, Sendable, Equatable {
            public var virtualSize: UInt64 = 0
            public var actualSize: UInt64?

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("virtual-size", &virtualSize)
                try visitor.field("actual-size", &actualSize)
            }
        }

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("file", &file)
            try visitor.field("node-name", &node)
            try visitor.required("drv", &format)
            try visitor.required("ro", &isReadOnly)
            try visitor.required("image", &image)
            (file, node, format) = (plain(file, limit: 4096), plain(node), plain(format))
        }
    }
}
