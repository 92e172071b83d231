// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Spec {
    /// Limits of block devices, config-linux.md "Block IO".
    public struct BlockIO: JSONRecord, Sendable, Equatable {
        /// 10 to 1000.
        public var weight: UInt16?
        /// The weight against groups below, with schedulers that had such.
        public var leafWeight: UInt16?
        public var weightDevice: [DeviceWeight] = []
        /// Bytes a second.
        public var throttleReadBpsDevice: [DeviceRate] = []
        public var throttleWriteBpsDevice: [DeviceRate] = []
        /// Operations a second.
        public var throttleReadIOPSDevice: [DeviceRate] = []
        public var throttleWriteIOPSDevice: [DeviceRate] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("weight", &weight)
            try visitor.field("leafWeight", &leafWeight)
            try visitor.field("weightDevice", &weightDevice)
            try visitor.field("throttleReadBpsDevice", &throttleReadBpsDevice)
            try visitor.field("throttleWriteBpsDevice", &throttleWriteBpsDevice)
            try visitor.field("throttleReadIOPSDevice", &throttleReadIOPSDevice)
            try visitor.field("throttleWriteIOPSDevice", &throttleWriteIOPSDevice)
        }
    }

    /// The weight of one block device.
    public struct DeviceWeight: JSONRecord, Sendable, Equatable {
        public var major: Int64 = 0
        public var minor: Int64 = 0
        public var weight: UInt16?
        public var leafWeight: UInt16?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("major", &major)
            try visitor.required("minor", &minor)
            try visitor.field("weight", &weight)
            try visitor.field("leafWeight", &leafWeight)
        }
    }

    /// A bound on one block device.
    public struct DeviceRate: JSONRecord, Sendable, Equatable {
        public var major: Int64 = 0
        public var minor: Int64 = 0
        public var rate: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("major", &major)
            try visitor.required("minor", &minor)
            try visitor.required("rate", &rate)
        }
    }

    /// A limit of huge pages of one size.
    public struct HugepageLimit: JSONRecord, Sendable, Equatable {
        /// `2MB`, `1GB`: a number and KB, MB or GB, as in the kernel's file names.
        public var pageSize = ""
        /// Bytes.
        public var limit: UInt64 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("pageSize", &pageSize)
            try visitor.required("limit", &limit)
        }
    }

    /// Marks of network traffic, version 1.
    public struct NetworkPriority: JSONRecord, Sendable, Equatable {
        public var classID: UInt32?
        public var priorities: [InterfacePriority] = []

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("classID", &classID)
            try visitor.field("priorities", &priorities)
        }
    }

    /// The priority of traffic on one interface.
    public struct InterfacePriority: JSONRecord, Sendable, Equatable {
        public var name = ""
        public var priority: UInt32 = 0

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("name", &name)
            try visitor.required("priority", &priority)
        }
    }

    /// Limits of one RDMA device.
    public struct RDMA: JSONRecord, Sendable, Equatable {
        public var hcaHandles: UInt32?
        public var hcaObjects: UInt32?

        public init() {}

        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.field("hcaHandles", &hcaHandles)
            try visitor.field("hcaObjects", &hcaObjects)
        }
    }
}
