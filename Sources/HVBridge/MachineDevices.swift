// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension MachineDescription {
    /// A file with a disk's content.
    public struct DiskFile: Sendable, Equatable {
        /// Open for reading and writing, or for reading only where the disk, or this layer of it, is read-only. QEMU's locks
        /// belong to the open file, last until its last copy is closed, and need a /dev/null where QEMU runs.
        public var descriptor: CInt
        /// As recorded when the disk was made; never guessed from the content.
        public var format: Format
        public var isBlockDevice = false

        public enum Format: String, Sendable, Equatable {
            case raw, qcow2
        }

        public init(descriptor: CInt, format: Format, isBlockDevice: Bool = false) {
            self.descriptor = descriptor
            self.format = format
            self.isBlockDevice = isBlockDevice
        }
    }

    public struct Disk: Sendable, Equatable {
        /// A letter, then letters, digits, `-` and `_`, 20 at most; unique in the machine. QMP knows the device as this,
        /// and its content as `disk-ID`.
        public var id: String
        public var file: DiskFile
        /// What an overlay lies on, from its own base down. What the file itself says of its base is not looked at.
        public var bases: [DiskFile] = []
        public var isReadOnly = false
        public var model: Model
        /// The order in which firmware tries devices, from 0; `nil` for never.
        public var bootIndex: Int?
        /// 20 characters at most, 36 for SCSI; the guest shows it in /dev/disk/by-id.
        public var serial: String?
        /// Space that the guest frees is given back to the host.
        public var discards = true
        /// Zeros that the guest writes take no space.
        public var detectsZeroes = true
        public var cache: Cache = .writeBack
        public var input: InputMethod = .threads

        public enum Model: Sendable, Equatable {
            case virtio, nvme
            /// On a virtio controller.
            case scsi
            /// SATA.
            case ahci
        }

        public enum Cache: Sendable, Equatable {
            /// The host's page cache; the guest's flushes are obeyed.
            case writeBack
            /// Past the host's page cache, which not every file system can do.
            case direct
            /// The guest's flushes are ignored: for disks that nobody misses after a crash.
            case unsafe
        }

        public enum InputMethod: String, Sendable, Equatable {
            case threads
            case ioUring = "io_uring"
        }

        public init(id: String, file: DiskFile, model: Model = .virtio, bootIndex: Int? = nil) {
            self.id = id
            self.file = file
            self.model = model
            self.bootIndex = bootIndex
        }
    }

    /// A drive for optical discs, on SATA or, where the board has none, on a virtio SCSI controller.
    public struct CDROM: Sendable, Equatable {
        /// As ``Disk/id``; the disc is `disk-ID`.
        public var id: String
        /// A regular file, open for reading only; `nil` for an empty drive.
        public var disc: CInt?
        public var bootIndex: Int?

        public init(id: String, disc: CInt?, bootIndex: Int? = nil) {
            self.id = id
            self.disc = disc
            self.bootIndex = bootIndex
        }
    }

    public struct NIC: Sendable, Equatable {
        /// As ``Disk/id``; the host's side is `net-ID`.
        public var id: String
        /// Six pairs of hexadecimal digits with colons.
        public var mac: String
        /// A tap device, attached.
        public var tap: CInt
        /// /dev/vhost-net, open; virtio only.
        public var vhost: CInt?
        public var model: Model
        /// With an index firmware can start from the network; without, the card has no boot code.
        public var bootIndex: Int?
        /// Told to the guest; virtio only.
        public var mtu: Int?

        public enum Model: String, Sendable, Equatable {
            case virtio, e1000e, rtl8139
        }

        public init(id: String, mac: String, tap: CInt, model: Model = .virtio) {
            self.id = id
            self.mac = mac
            self.tap = tap
            self.model = model
        }
    }

    /// A folder of the host's that a virtiofsd serves; needs memory that is shared.
    public struct SharedFolder: Sendable, Equatable {
        /// By which the guest mounts it: 36 bytes at most.
        public var tag: String
        /// A connected vhost-user socket.
        public var socket: CInt

        public init(tag: String, socket: CInt) {
            self.tag = tag
            self.socket = socket
        }
    }

    /// A device of the host's that the guest gets.
    public struct USBDevice: Sendable, Equatable {
        /// As ``Disk/id``.
        public var id: String
        /// /dev/bus/usb/BUS/NUMBER, open for reading and writing.
        public var descriptor: CInt

        public init(id: String, descriptor: CInt) {
            self.id = id
            self.descriptor = descriptor
        }
    }

    public struct Balloon: Sendable, Equatable {
        /// Pages that the guest frees go back to the host by themselves.
        public var reportsFreePages = true

        public init(reportsFreePages: Bool = true) {
            self.reportsFreePages = reportsFreePages
        }
    }
}
