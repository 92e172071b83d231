// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// What a guest is told to do by ``GuestAgentChannel/shutdown(_:milliseconds:grace:)``.
public enum GuestShutdownMode: String, Sendable {
    case powerdown
    case halt
    case reboot
}

/// The commands of the guest agent, named as in QEMU's qga/qapi-schema.json.
enum GuestAgent {
    struct Synchronize: QMPCommand {
        typealias Reply = Int64
        static let name = "guest-sync-delimited"
        let id: Int64
        var arguments: [JSON.Member] { [.init("id", .number(String(id)))] }
    }

    struct Ping: QMPCommand {
        typealias Reply = QMP.Done
        static let name = "guest-ping"
    }

    struct Shutdown: QMPCommand {
        typealias Reply = QMP.Done
        static let name = "guest-shutdown"
        let mode: GuestShutdownMode
        var arguments: [JSON.Member] { [.init("mode", .string(mode.rawValue))] }
    }

    struct GetOperatingSystem: QMPCommand {
        typealias Reply = GuestOperatingSystem
        static let name = "guest-get-osinfo"
    }

    struct GetInterfaces: QMPCommand {
        typealias Reply = [GuestInterface]
        static let name = "guest-network-get-interfaces"
    }
}

/// What a guest says that it runs; empty where it does not say. Texts are cut, and free of control characters.
public struct GuestOperatingSystem: JSONRecord, Sendable, Equatable {
    /// As in os-release(5).
    public var id = ""
    public var name = ""
    public var prettyName = ""
    public var version = ""
    public var versionID = ""
    /// As in uname(2).
    public var kernelRelease = ""
    public var kernelVersion = ""
    public var machine = ""

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try text("id", &id, &visitor)
        try text("name", &name, &visitor)
        try text("pretty-name", &prettyName, &visitor)
        try text("version", &version, &visitor)
        try text("version-id", &versionID, &visitor)
        try text("kernel-release", &kernelRelease, &visitor)
        try text("kernel-version", &kernelVersion, &visitor)
        try text("machine", &machine, &visitor)
    }
}

/// A network interface in a guest, as the guest tells it.
public struct GuestInterface: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// The MAC address, if it has one.
    public var hardwareAddress = ""
    public var addresses: [GuestAddress] = []

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        name = plain(name, limit: 64)
        try text("hardware-address", &hardwareAddress, &visitor)
        try visitor.field("ip-addresses", &addresses)
    }
}

/// An address of a guest's interface.
public struct GuestAddress: JSONCodable, Sendable, Equatable {
    /// An IPv4 or IPv6 address in its usual form, which was checked.
    public let address: String
    public let isIPv6: Bool
    /// Bits of the network's part.
    public let prefix: UInt16

    private enum Family: String, CaseIterable, JSONCodable {
        case ipv4
        case ipv6
    }

    public init(json: JSON) throws(JSONError) {
        guard case .object = json else { throw JSONError(place: "", reason: "expected an object") }
        let family = try Family(json: json["ip-address-type"] ?? .null)
        isIPv6 = family == .ipv6
        prefix = try UInt16(json: json["prefix"] ?? .null)
        // A link-local address may come with the name of its interface.
        address = try String(json: json["ip-address"] ?? .null).halves("%").0
        guard prefix <= (isIPv6 ? 128 : 32) else {
            throw JSONError(place: "prefix", reason: "\(prefix) bits are more than an address has")
        }
        var bytes: (UInt64, UInt64) = (0, 0)
        guard inet_pton(isIPv6 ? AF_INET6 : AF_INET, address, &bytes) == 1 else {
            throw JSONError(place: "ip-address", reason: "\"\(address)\" is no \(family.rawValue) address")
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.name("ip-address")
        writer.string(address)
        writer.name("ip-address-type")
        writer.string((isIPv6 ? Family.ipv6 : .ipv4).rawValue)
        writer.name("prefix")
        writer.literal(String(prefix))
        writer.endObject()
    }
}

/// A field of a text that may be shown.
private func text(
    _ name: String, _ value: inout String, _ visitor: inout some FieldVisitor
) throws(JSONError) {
    try visitor.field(name, &value)
    value = plain(value)
}
