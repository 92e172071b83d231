// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A virtual machine as QEMU is to make it: plain values, ``arguments()`` turns them into a command line.
///
/// QEMU opens nothing itself but read-only files below ``folders``: disks, taps, sockets and the rest are descriptors that
/// it inherits, named here by their numbers in QEMU's process.
public struct MachineDescription: Sendable, Equatable {
    /// Where QEMU finds files: the host's /usr, and a small folder of the machine's own.
    public static let folders = ["/usr", "/run/machine"]

    /// Shown in QEMU's process name and by VNC clients.
    public var name: String
    /// 8-4-4-4-12 hexadecimal digits: the guest sees it as its machine's identity.
    public var uuid: String
    public var architecture: GuestArchitecture
    public var board: MachineBoard
    /// A fixed version of the board, `pc-q35-7.2`, so that a guest finds the same one under a newer QEMU; `nil` for the
    /// newest that QEMU has.
    public var boardVersion: String?
    public var accelerator: Accelerator
    public var cpu = CPU()
    public var memory: Memory
    public var firmware: FirmwareImage = .bios
    public var boot = Boot()
    public var clock: Clock = .utc
    /// Windows wants the Hyper-V interface, which KVM has, and a clock that makes up for lost ticks.
    public var isWindows = false

    public var disks: [Disk] = []
    public var cdroms: [CDROM] = []
    public var nics: [NIC] = []
    public var shares: [SharedFolder] = []
    public var usbDevices: [USBDevice] = []
    public var display: Display = .none
    public var tpm: TPM?

    public var serial: SerialLine = .none
    /// A connected socket for a virtio console, /dev/hvc0 of Linux.
    public var virtioConsole: CInt?
    public var agents: [AgentChannel] = []
    /// A connected socket on which QEMU speaks QMP.
    public var qmp: CInt?

    public var hasEntropy = true
    /// The memory balloon, by which the guest also tells at once which pages it has no use for.
    public var balloon: Balloon? = Balloon()
    /// A device by which the guest tells that it crashed.
    public var hasPanicNotifier = false
    /// A number of the form of ``uuid`` that changes with each clone and each return to a snapshot: the guest then renews what
    /// must not exist twice. Only on q35.
    public var generation: String?
    /// A timer that resets the guest unless its software keeps winding it up.
    public var hasWatchdog = false
    /// Empty slots for devices that are plugged in later; only where the board has PCI Express.
    public var hotplugPorts = 4

    /// The guest's reboot ends QEMU.
    public var endsOnReboot = false
    /// No instruction is executed before QMP's `cont`.
    public var startsPaused = false

    public init(
        name: String, uuid: String, architecture: GuestArchitecture, board: MachineBoard? = nil,
        accelerator: Accelerator, memory: Memory
    ) {
        self.name = name
        self.uuid = uuid
        self.architecture = architecture
        self.board = board ?? architecture.board
        self.accelerator = accelerator
        self.memory = memory
        if self.board == .microvm { hotplugPorts = 0 }
    }
}

// MARK: - Processors and memory

extension MachineDescription {
    public struct CPU: Sendable, Equatable {
        public var sockets: Int
        /// Per socket.
        public var cores: Int
        /// Per core.
        public var threads: Int
        /// One of QEMU's models; `nil` for what the accelerator does best.
        public var model: String?
        /// Features that are switched on or off, by QEMU's names.
        public var features: [Feature] = []

        public struct Feature: Sendable, Equatable {
            public var name: String
            public var isOn: Bool

            public init(_ name: String, isOn: Bool) {
                self.name = name
                self.isOn = isOn
            }
        }

        public init(sockets: Int = 1, cores: Int = 1, threads: Int = 1, model: String? = nil) {
            self.sockets = sockets
            self.cores = cores
            self.threads = threads
            self.model = model
        }

        /// How many the guest sees; `nil` where that overflows.
        public var total: Int? {
            let (first, isTooMany) = sockets.multipliedReportingOverflow(by: cores)
            let (all, isStill) = first.multipliedReportingOverflow(by: threads)
            return isTooMany || isStill ? nil : all
        }
    }

    public struct Memory: Sendable, Equatable {
        /// A multiple of 1 MiB.
        public var bytes: Int64
        public var backing: Backing

        public enum Backing: Sendable, Equatable {
            case plain
            /// Shared with processes that serve devices: ``SharedFolder`` needs it.
            case shared
            /// Shared, and of pages of this many bytes, which the host has set aside.
            case hugePages(bytes: Int64)
        }

        public init(bytes: Int64, backing: Backing = .plain) {
            self.bytes = bytes
            self.backing = backing
        }

        var isShared: Bool { backing != .plain }
    }
}

// MARK: - Start

extension MachineDescription {
    /// What the guest's processor executes first.
    public enum FirmwareImage: Sendable, Equatable {
        /// The board's own, which QEMU brings along: SeaBIOS, SLOF, the channel loader, OpenSBI.
        case bios
        /// UEFI in two flash chips. `code` is a path; `variables` the descriptor of the machine's own copy of the template,
        /// open for reading and writing. `isSecure`: only code in system management mode may write the second (x86).
        case uefi(code: String, variables: CInt, isSecure: Bool)
        /// A loader for systems on disks that the board's firmware starts in the place of a kernel: U-Boot of RISC-V.
        case bootLoader(path: String)
        case kernel(path: String, initrd: String?, commandLine: String)
    }

    public struct Boot: Sendable, Equatable {
        /// Milliseconds for which the firmware offers to choose a device; `nil` for no menu.
        public var menuMilliseconds: Int?
        /// Nothing is tried but devices with a boot index, where at least one has any.
        public var isStrict = true

        public init(menuMilliseconds: Int? = nil, isStrict: Bool = true) {
            self.menuMilliseconds = menuMilliseconds
            self.isStrict = isStrict
        }
    }

    /// What the guest's battery-backed clock shows.
    public enum Clock: String, Sendable, Equatable {
        case utc, localtime
    }
}

// MARK: - Lines to the outside

extension MachineDescription {
    /// The first serial line.
    public enum SerialLine: Sendable, Equatable {
        case none
        /// QEMU's standard input and output. Signals of a terminal's keys stay characters.
        case stdio
        /// A connected socket.
        case socket(CInt)
    }

    /// A channel to a program in the guest, which finds it by name: `/dev/virtio-ports/NAME`.
    public struct AgentChannel: Sendable, Equatable {
        public var name: String
        /// A connected socket.
        public var socket: CInt

        /// Our own agent's name.
        public static let zoneAgent = "zone.agent.0"
        /// The name that QEMU's guest agent looks for.
        public static let guestAgent = "org.qemu.guest_agent.0"

        public init(name: String, socket: CInt) {
            self.name = name
            self.socket = socket
        }
    }

    public enum Display: Sendable, Equatable {
        case none
        /// A VNC server on a unix socket that QEMU makes below ``MachineDescription/folders``; with keyboard and mouse.
        case vnc(path: String, video: Video, input: Input = .usb)

        public enum Video: Sendable, Equatable {
            /// VGA with Bochs' extensions: every system has a driver.
            case standard
            /// For Linux desktops; `virtio-vga` where the board has VGA.
            case virtio
            /// A frame buffer in memory that firmware sets up: Windows on ARM.
            case ramfb
        }

        public enum Input: Sendable, Equatable {
            /// A tablet, whose pointer is where the client's is, and a keyboard.
            case usb
            /// What a PC has soldered on.
            case ps2
        }
    }

    public struct TPM: Sendable, Equatable {
        /// The control socket of a swtpm, connected.
        public var socket: CInt

        public init(socket: CInt) {
            self.socket = socket
        }
    }
}
