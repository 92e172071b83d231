// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// A command of the QEMU Machine Protocol: a value that holds its arguments.
public protocol QMPCommand: Sendable {
    associatedtype Reply: JSONCodable & Sendable
    /// QEMU's name of the command.
    static var name: String { get }
    var arguments: [JSON.Member] { get }
}

extension QMPCommand {
    public var arguments: [JSON.Member] { [] }
}

/// A command with which a descriptor is sent.
public protocol QMPDescriptorCommand: QMPCommand {}

/// The commands, named as in QEMU; arguments and answers are those of QEMU 7.2.
///
/// `human-monitor-command` is not among them: it would be a way to do everything with a text.
public enum QMP {
    /// The answer of a command that only does something.
    public struct Done: JSONRecord, Sendable {
        public init() {}
        public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {}
    }

    /// `qmp_capabilities`, which ends the negotiation.
    struct Capabilities: QMPCommand {
        typealias Reply = Done
        static let name = "qmp_capabilities"
    }
}

// MARK: The machine's run

extension QMP {
    /// Stops the virtual CPUs.
    public struct Stop: QMPCommand {
        public typealias Reply = Done
        public static let name = "stop"
        public init() {}
    }

    /// Lets the virtual CPUs run, for the first time or again.
    public struct Continue: QMPCommand {
        public typealias Reply = Done
        public static let name = "cont"
        public init() {}
    }

    /// Presses the power button. Whether the guest listens is its own affair.
    public struct SystemPowerdown: QMPCommand {
        public typealias Reply = Done
        public static let name = "system_powerdown"
        public init() {}
    }

    /// Presses the reset button.
    public struct SystemReset: QMPCommand {
        public typealias Reply = Done
        public static let name = "system_reset"
        public init() {}
    }

    /// Says what becomes of a machine that is to boot anew, by its guest or by ``SystemReset``: `-no-reboot` while it runs.
    public struct SetRebootAction: QMPCommand {
        public typealias Reply = Done
        public static let name = "set-action"
        public enum Action: String, Sendable { case reset, shutdown }
        public var action: Action

        public init(_ action: Action) { self.action = action }

        public var arguments: [JSON.Member] { [.init("reboot", .string(action.rawValue))] }
    }

    /// Ends QEMU.
    public struct Quit: QMPCommand {
        public typealias Reply = Done
        public static let name = "quit"
        public init() {}
    }

    /// Interrupts the guest as a watchdog or a button would: an NMI, where the machine has such a thing.
    public struct InjectNMI: QMPCommand {
        public typealias Reply = Done
        public static let name = "inject-nmi"
        public init() {}
    }
}

// MARK: Screen and keyboard

extension QMP {
    /// Writes a picture of the screen into a file, as PNG.
    public struct Screendump: QMPCommand {
        public typealias Reply = Done
        public static let name = "screendump"
        /// As QEMU sees it: `/dev/fdset/N` for what ``AddDescriptor`` gave it, which must be open for writing only.
        public var filename: String
        /// The id of the graphics device, and which of its screens; the first where there is none.
        public var device: String?
        public var head: Int64?

        public init(filename: String, device: String? = nil, head: Int64? = nil) {
            self.filename = filename
            self.device = device
            self.head = head
        }

        public var arguments: [JSON.Member] {
            [.init("filename", .string(filename)), .init("format", .string("png"))]
                + member("device", device) + member("head", head)
        }
    }

    /// Presses keys together and releases them.
    public struct SendKey: QMPCommand {
        public typealias Reply = Done
        public static let name = "send-key"
        public var chord: KeyChord
        /// How long the keys are held, QEMU's 100 where there is none.
        public var holdMilliseconds: Int64?

        public init(_ chord: KeyChord, holdMilliseconds: Int64? = nil) {
            self.chord = chord
            self.holdMilliseconds = holdMilliseconds
        }

        public var arguments: [JSON.Member] {
            let keys = chord.keys.map { key in
                JSON.object([.init("type", .string("qcode")), .init("data", .string(key.rawValue))])
            }
            return [.init("keys", .array(keys))] + member("hold-time", holdMilliseconds)
        }
    }

    /// Sets the password that VNC clients must know.
    public struct SetPassword: QMPCommand {
        public typealias Reply = Done
        public static let name = "set_password"
        public var password: String

        public init(_ password: String) { self.password = password }

        public var arguments: [JSON.Member] {
            [.init("protocol", .string("vnc")), .init("password", .string(password))]
        }
    }

    /// Sets when the VNC password loses its validity: `now`, `never`, `+SECONDS`, or seconds since 1970.
    public struct ExpirePassword: QMPCommand {
        public typealias Reply = Done
        public static let name = "expire_password"
        public var time: String

        public init(_ time: String) { self.time = time }

        public var arguments: [JSON.Member] {
            [.init("protocol", .string("vnc")), .init("time", .string(time))]
        }
    }
}

// MARK: Descriptors

extension QMP {
    /// Gives QEMU a descriptor that it opens again by the name `/dev/fdset/SET`.
    public struct AddDescriptor: QMPDescriptorCommand {
        public static let name = "add-fd"
        /// The set that it becomes part of; a new one where there is none.
        public var set: Int64?
        /// A note that QEMU keeps with it.
        public var note: String?

        public init(set: Int64? = nil, note: String? = nil) {
            self.set = set
            self.note = note
        }

        public var arguments: [JSON.Member] { member("fdset-id", set) + member("opaque", note) }

        /// The set, and the descriptor's number in QEMU.
        public struct Reply: JSONRecord, Sendable, Equatable {
            public var set: Int64 = 0
            public var number: Int64 = 0

            public init() {}

            public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
                try visitor.required("fdset-id", &set)
                try visitor.required("fd", &number)
            }
        }
    }

    /// Takes a descriptor, or all of a set, away again once nobody uses it.
    public struct RemoveDescriptor: QMPCommand {
        public typealias Reply = Done
        public static let name = "remove-fd"
        public var set: Int64
        public var number: Int64?

        public init(set: Int64, number: Int64? = nil) {
            self.set = set
            self.number = number
        }

        public var arguments: [JSON.Member] {
            [.init("fdset-id", .number(String(set)))] + member("fd", number)
        }
    }

    /// Gives QEMU a descriptor that later commands refer to by a name, which may not begin with a digit.
    public struct GetDescriptor: QMPDescriptorCommand {
        public typealias Reply = Done
        public static let name = "getfd"
        public var descriptorName: String

        public init(name: String) { descriptorName = name }

        public var arguments: [JSON.Member] { [.init("fdname", .string(descriptorName))] }
    }

    /// Makes the connected socket of ``GetDescriptor`` a VNC client's connection.
    public struct AddClient: QMPCommand {
        public typealias Reply = Done
        public static let name = "add_client"
        public var descriptorName: String
        /// Whether the client need not authenticate itself to QEMU.
        public var skipsAuthentication: Bool

        public init(descriptorName: String, skipsAuthentication: Bool = false) {
            self.descriptorName = descriptorName
            self.skipsAuthentication = skipsAuthentication
        }

        public var arguments: [JSON.Member] {
            [
                .init("protocol", .string("vnc")), .init("fdname", .string(descriptorName)),
                .init("skipauth", .bool(skipsAuthentication)),
            ]
        }
    }
}

// MARK: Devices and objects

extension QMP {
    /// Plugs a device in.
    public struct DeviceAdd: QMPCommand {
        public typealias Reply = Done
        public static let name = "device_add"
        public var driver: String
        public var id: String
        /// The bus that it is plugged into, chosen by QEMU where there is none.
        public var bus: String?
        /// What the driver has besides.
        public var properties: [JSON.Member]

        public init(driver: String, id: String, bus: String? = nil, properties: [JSON.Member] = []) {
            self.driver = driver
            self.id = id
            self.bus = bus
            self.properties = properties
        }

        public var arguments: [JSON.Member] {
            [.init("driver", .string(driver)), .init("id", .string(id))] + member("bus", bus) + properties
        }
    }

    /// Asks the guest to give a device up; an event tells when it has.
    public struct DeviceDelete: QMPCommand {
        public typealias Reply = Done
        public static let name = "device_del"
        public var id: String

        public init(id: String) { self.id = id }

        public var arguments: [JSON.Member] { [.init("id", .string(id))] }
    }

    /// Reads a property of an object.
    public struct GetProperty: QMPCommand {
        public typealias Reply = JSON
        public static let name = "qom-get"
        /// A path in QEMU's tree of objects, `/machine/peripheral/ID` for a device with an id.
        public var path: String
        public var property: String

        public init(path: String, property: String) {
            self.path = path
            self.property = property
        }

        public var arguments: [JSON.Member] {
            [.init("path", .string(path)), .init("property", .string(property))]
        }
    }

    /// Sets a property of an object.
    public struct SetProperty: QMPCommand {
        public typealias Reply = Done
        public static let name = "qom-set"
        public var path: String
        public var property: String
        public var value: JSON

        public init(path: String, property: String, value: JSON) {
            self.path = path
            self.property = property
            self.value = value
        }

        public var arguments: [JSON.Member] {
            [
                .init("path", .string(path)), .init("property", .string(property)), .init("value", value),
            ]
        }
    }
}

/// An argument that is left out where there is no value.
private func member(_ name: String, _ value: String?) -> [JSON.Member] {
    value.map { [JSON.Member(name, .string($0))] } ?? []
}

private func member(_ name: String, _ value: Int64?) -> [JSON.Member] {
    value.map { [JSON.Member(name, .number(String($0)))] } ?? []
}
