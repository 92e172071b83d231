// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// Something that happened in a machine and that QEMU tells without being asked.
public struct QMPEvent: Sendable, Equatable {
    public let kind: Kind
    /// The time of QEMU's clock, since 1970; negative where it had none.
    public let seconds: Int64
    public let microseconds: Int32

    /// What happened; the texts are cut, and free of control characters.
    public enum Kind: Sendable, Equatable {
        /// The machine goes down. `guest`: by itself. Reasons: `host-qmp-quit`, `guest-shutdown`, `guest-reset`,
        /// `guest-panic`, `host-signal` and others.
        case shutdown(guest: Bool, reason: String)
        /// The power button was pressed.
        case powerdown
        case reset(guest: Bool, reason: String)
        case stop
        case resume
        case suspend
        case wakeup
        /// `action`: `pause`, `poweroff` or `run`.
        case guestPanicked(action: String, info: GuestPanicInformation?)
        /// `action`: `reset`, `shutdown`, `poweroff`, `pause`, `debug`, `none` or `inject-nmi`.
        case watchdog(action: String)
        case blockIOError(BlockIOError)
        /// The memory that the balloon leaves the guest, in bytes.
        case balloonChange(actual: UInt64)
        /// A device was unplugged. `device` is its id, if it has one.
        case deviceDeleted(device: String?, path: String)
        /// Seconds that the guest's clock is ahead of the host's.
        case rtcChange(offset: Int64)
        case vnc(VNCChange, client: VNCPeer)
        /// An event that nothing here depends on.
        case other(name: String)
    }

    /// What a guest tells when it panics.
    public enum GuestPanicInformation: Sendable, Equatable {
        case hyperV([UInt64])
        case s390(core: UInt32, reason: String)
        case other(type: String)
    }

    /// A request of the guest's that its disk could not fulfil.
    public struct BlockIOError: Sendable, Equatable {
        public let device: String
        public let node: String?
        /// `read` or `write`.
        public let operation: String
        /// What came of it: `ignore`, `report` to the guest, or `stop` of the machine.
        public let action: String
        public let reason: String
        /// Whether the host has no room left.
        public let isNoSpace: Bool
    }

    public enum VNCChange: String, Sendable, Equatable {
        case connected = "VNC_CONNECTED"
        /// The client has authenticated itself.
        case initialized = "VNC_INITIALIZED"
        case disconnected = "VNC_DISCONNECTED"
    }

    /// Who is at the other end of a VNC connection; for a unix socket host and service say nothing.
    public struct VNCPeer: Sendable, Equatable {
        public let host: String
        public let service: String
        /// `ipv4`, `ipv6`, `unix`, `vsock` or `unknown`.
        public let family: String
    }
}

extension QMPEvent {
    /// Reads an event; `message` is the whole of it.
    init(name: String, _ message: JSON) throws(JSONError) {
        do throws(JSONError) {
            let time = try EventData(of: message, "timestamp")
            do throws(JSONError) {
                seconds = try time.number("seconds")
                microseconds = try time.number("microseconds")
            } catch { throw error.inside("timestamp") }
            let hasData = message["data"] != nil
            let data = hasData ? try EventData(of: message, "data") : EventData(.object([]))
            do throws(JSONError) { kind = try QMPEvent.kind(name, data) } catch {
                throw error.inside("data")
            }
        } catch { throw error.inside("event \(name)") }
    }

    private static func kind(_ name: String, _ data: EventData) throws(JSONError) -> Kind {
        switch name {
        case "SHUTDOWN": return .shutdown(guest: try data.flag("guest"), reason: try data.text("reason"))
        case "POWERDOWN": return .powerdown
        case "RESET": return .reset(guest: try data.flag("guest"), reason: try data.text("reason"))
        case "STOP": return .stop
        case "RESUME": return .resume
        case "SUSPEND": return .suspend
        case "WAKEUP": return .wakeup
        case "GUEST_PANICKED":
            return .guestPanicked(action: try data.text("action"), info: try panic(data.optional("info")))
        case "WATCHDOG": return .watchdog(action: try data.text("action"))
        case "BLOCK_IO_ERROR":
            return .blockIOError(
                BlockIOError(
                    device: try data.text("device"), node: try data.optionalText("node-name"),
                    operation: try data.text("operation"), action: try data.text("action"),
                    reason: try data.text("reason"),
                    isNoSpace: data.optional("nospace") == nil ? false : try data.flag("nospace")))
        case "BALLOON_CHANGE": return .balloonChange(actual: try data.number("actual"))
        case "DEVICE_DELETED":
            return .deviceDeleted(device: try data.optionalText("device"), path: try data.text("path"))
        case "RTC_CHANGE": return .rtcChange(offset: try data.number("offset"))
        default: break
        }
        guard let change = VNCChange(rawValue: name) else { return .other(name: plain(name, limit: 64)) }
        let client = try EventData(of: data.json, "client")
        return .vnc(
            change,
            client: VNCPeer(
                host: try client.text("host"), service: try client.text("service"), family: try client.text("family")))
    }

    private static func panic(_ json: JSON?) throws(JSONError) -> GuestPanicInformation? {
        guard let json else { return nil }
        let info = EventData(json)
        switch try info.text("type") {
        case "hyper-v":
            return .hyperV([
                try info.number("arg1"), try info.number("arg2"), try info.number("arg3"), try info.number("arg4"),
                try info.number("arg5"),
            ])
        case "s390": return .s390(core: try info.number("core"), reason: try info.text("reason"))
        case let type: return .other(type: type)
        }
    }
}

/// An object in an event, whose members are asked for by name.
private struct EventData {
    let json: JSON

    init(_ json: JSON) {
        self.json = json
    }

    init(of message: JSON, _ name: String) throws(JSONError) {
        guard let json = message[name] else { throw JSONError(place: name, reason: "is missing") }
        guard case .object = json else { throw JSONError(place: name, reason: "expected an object") }
        self.json = json
    }

    /// What is there, and not null.
    func optional(_ name: String) -> JSON? {
        let value = json[name]
        return value == .null ? nil : value
    }

    private func required<Value: JSONCodable>(_ name: String) throws(JSONError) -> Value {
        guard let value = json[name] else { throw JSONError(place: name, reason: "is missing") }
        do throws(JSONError) { return try Value(json: value) } catch { throw error.inside(name) }
    }

    func text(_ name: String) throws(JSONError) -> String { plain(try required(name)) }

    func optionalText(_ name: String) throws(JSONError) -> String? {
        optional(name) == nil ? nil : try text(name)
    }

    func flag(_ name: String) throws(JSONError) -> Bool { try required(name) }

    func number<Value: JSONCodable & FixedWidthInteger>(_ name: String) throws(JSONError) -> Value {
        try required(name)
    }
}
