// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A device node or a fifo in the zone, config-linux.md "Devices".
public struct DevicePlan: Sendable {
    public enum Kind: Sendable, Equatable {
        case character, block, fifo
    }

    /// Absolute inside the zone.
    public var path: String
    public var kind: Kind
    public var major: UInt32
    public var minor: UInt32
    public var mode: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// The host's node as a detached mount, to be bound in place of making one: in a user namespace nobody may make
    /// nodes. The parent has verified that it is this device.
    public var hostNode: CInt?
    /// Every zone gets it without asking, so that it is left out where there is no place for it.
    public var isDefault: Bool

    public init(
        path: String,
        kind: Kind = .character,
        major: UInt32 = 0,
        minor: UInt32 = 0,
        mode: UInt32 = 0o666,
        uid: UInt32 = 0,
        gid: UInt32 = 0,
        isDefault: Bool = false
    ) {
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.isDefault = isDefault
    }
}
