// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// What makes a zone a virtual machine. What is nil was not said: it is found out when the zone is made, and kept.
public struct MachineSettings: JSONRecord, Sendable, Equatable {
    public enum Kind: String, JSONCodable, CaseIterable, Sendable {
        /// An OCI image under a kernel of its own, without firmware, with an agent of ours.
        case micro
        /// A machine that boots what is on its disks.
        case full
    }

    public enum Firmware: String, JSONCodable, CaseIterable, Sendable {
        case bios, uefi
    }

    public enum Clock: String, JSONCodable, CaseIterable, Sendable {
        case utc, localtime
    }

    public enum DiskModel: String, JSONCodable, CaseIterable, Sendable {
        case virtio, sata, nvme, scsi
    }

    public enum CardModel: String, JSONCodable, CaseIterable, Sendable {
        case virtio, e1000e, rtl8139
    }

    public var kind = Kind.micro
    /// `auto`, `kvm` or `tcg`.
    public var accelerator = "auto"
    /// As images name it (GOARCH); nil for the host's.
    public var architecture: String?
    /// RFC 9562; what the guest's firmware tells of itself.
    public var uuid = ""
    /// The user that QEMU runs as, of its own.
    public var user: Int64 = 0
    /// Bytes of memory of the guest.
    public var memory: Int64?
    /// Bytes of a page of the host's pool that the memory is made of.
    public var hugePages: Int64?
    /// Whether what the guest does not use goes back to the host.
    public var hasBalloon = true
    public var sockets: Int64 = 1
    /// Cores of a socket; nil: as many as the limit of CPUs wants.
    public var cores: Int64?
    public var threads: Int64 = 1
    /// Host CPUs of virtual CPUs 0, 1, …, each as a list such as `0-3`.
    public var pins: [String] = []

    // MARK: Full machines

    public var disks: [MachineDisk] = []
    /// Paths of images of CDs.
    public var cdroms: [String] = []
    /// Letters as QEMU's `-boot`: `c` disks, `d` CDs, `n` network.
    public var boot: String?
    public var firmware: Firmware?
    public var isSecure = false
    public var tpm: Bool?
    public var isWindows = false
    public var clock: Clock?
    public var diskModel: DiskModel?
    public var cardModel: CardModel?
    /// `unix`, or `ADDRESS:PORT` of the host's loopback.
    public var vnc: String?
    public var hasDisplay = false
    public var usb: [USBRequest] = []
    /// What cloud-init reads: the text of user-data.
    public var userData: String?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("kind", &kind)
        try visitor.field("accelerator", &accelerator)
        try visitor.field("architecture", &architecture)
        try visitor.field("uuid", &uuid)
        try visitor.field("user", &user)
        try visitor.field("memory", &memory)
        try visitor.field("hugePages", &hugePages)
        try visitor.field("balloon", &hasBalloon)
        try visitor.field("sockets", &sockets)
        try visitor.field("cores", &cores)
        try visitor.field("threads", &threads)
        try visitor.field("pins", &pins)
        try visitor.field("disks", &disks)
        try visitor.field("cdroms", &cdroms)
        try visitor.field("boot", &boot)
        try visitor.field("firmware", &firmware)
        try visitor.field("secureBoot", &isSecure)
        try visitor.field("tpm", &tpm)
        try visitor.field("windows", &isWindows)
        try visitor.field("clock", &clock)
        try visitor.field("diskModel", &diskModel)
        try visitor.field("networkModel", &cardModel)
        try visitor.field("vnc", &vnc)
        try visitor.field("display", &hasDisplay)
        try visitor.field("usb", &usb)
        try visitor.field("userData", &userData)
    }
}

/// A disk of a machine's.
public struct MachineDisk: JSONRecord, Sendable, Equatable {
    /// Absolute path of the image, or of a block device. Relative: in the zone's own folder, and removed with the zone.
    public var path = ""
    /// As QEMU names it; found out once, when the zone is made, and never again (P19).
    public var format = ""
    /// Bytes of one that is to be made.
    public var size: Int64?
    public var isReadOnly = false
    public var serial: String?

    public init() {}

    public init(path: String, format: String = "", size: Int64? = nil) {
        self.path = path
        self.format = format
        self.size = size
    }

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("path", &path)
        try visitor.field("format", &format)
        try visitor.field("size", &size)
        try visitor.field("readOnly", &isReadOnly)
        try visitor.field("serial", &serial)
    }
}

/// A device on the host's USB that a machine wants.
public struct USBRequest: JSONRecord, Sendable, Equatable {
    /// `046d:c31c`: vendor and product.
    public var device = ""
    /// Which of several: by its serial number, or by where it is plugged in (`1-2.3`).
    public var serial: String?
    public var port: String?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("device", &device)
        try visitor.field("serial", &serial)
        try visitor.field("port", &port)
    }
}

/// Where things are, in a machine's mount namespace and on the host.
enum MachinePlaces {
    /// QEMU's own folder inside; on the host ROOT/NAME/machine.
    static let folder = "/run/machine"
    static let hostFolder = "machine"
    static let vnc = "vnc.sock"
    static let kernel = "kernel"
    static let initrd = "initrd"
    /// `zonectl` itself, read-only.
    static let monitor = "/zonectl"
    /// The TPM's state, on the host STORE/zones/NAME/tpm.
    static let tpm = "/run/machine/tpm"
}
