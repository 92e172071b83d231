// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge

/// Machines as they are typically asked for.
enum Machines {
    static let uuid = "0b2f7f3c-6f0e-4c58-9f0b-7f5f3a1d2c4b"

    static func memory(
        mebibytes: Int64, _ backing: MachineDescription.Memory.Backing = .plain
    ) -> MachineDescription.Memory {
        MachineDescription.Memory(bytes: mebibytes << 20, backing: backing)
    }

    static func disk(
        _ id: String, _ descriptor: CInt, _ model: MachineDescription.Disk.Model = .virtio,
        format: MachineDescription.DiskFile.Format = .qcow2
    ) -> MachineDescription.Disk {
        MachineDescription.Disk(
            id: id, file: MachineDescription.DiskFile(descriptor: descriptor, format: format), model: model)
    }

    /// A kernel, a root file system of the host's, our agent.
    static var micro: MachineDescription {
        var machine = MachineDescription(
            name: "web", uuid: uuid, architecture: .amd64, board: .microvm, accelerator: .tcg,
            memory: memory(mebibytes: 256, .shared))
        machine.cpu = MachineDescription.CPU(cores: 2)
        machine.firmware = .kernel(
            path: "/run/machine/kernel", initrd: "/run/machine/initrd", commandLine: "console=ttyS0 quiet")
        machine.serial = .socket(5)
        machine.qmp = 4
        machine.agents = [MachineDescription.AgentChannel(name: MachineDescription.AgentChannel.zoneAgent, socket: 6)]
        machine.shares = [MachineDescription.SharedFolder(tag: "root", socket: 7)]
        machine.nics = [MachineDescription.NIC(id: "net0", mac: "52:54:00:12:34:56", tap: 8)]
        machine.endsOnReboot = true
        return machine
    }

    /// An installation disc in a PC with BIOS.
    static var installer: MachineDescription {
        var machine = MachineDescription(
            name: "old, box", uuid: uuid, architecture: .amd64, accelerator: .tcg, memory: memory(mebibytes: 1024))
        var disk = disk("root", 13, .ahci, format: .raw)
        disk.bootIndex = 0
        machine.disks = [disk]
        machine.cdroms = [
            MachineDescription.CDROM(id: "cd0", disc: 14, bootIndex: 1), MachineDescription.CDROM(id: "cd1", disc: nil),
        ]
        machine.boot.menuMilliseconds = 500
        machine.serial = .stdio
        machine.qmp = 4
        machine.hotplugPorts = 0
        return machine
    }

    /// Windows with all that it asks for.
    static var windows: MachineDescription {
        var machine = MachineDescription(
            name: "win", uuid: uuid, architecture: .amd64, accelerator: .kvm, memory: memory(mebibytes: 4096))
        machine.boardVersion = "pc-q35-7.2"
        machine.cpu = MachineDescription.CPU(cores: 2, threads: 2)
        machine.firmware = .uefi(code: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", variables: 12, isSecure: true)
        machine.isWindows = true
        machine.clock = .localtime
        var disk = disk("root", 13, .nvme)
        disk.bootIndex = 0
        machine.disks = [disk]
        machine.nics = [
            MachineDescription.NIC(id: "net0", mac: "52:54:00:12:34:56", tap: 15, model: .e1000e)
        ]
        machine.tpm = MachineDescription.TPM(socket: 16)
        machine.display = .vnc(path: "/run/machine/vnc", video: .standard)
        machine.agents = [MachineDescription.AgentChannel(name: MachineDescription.AgentChannel.guestAgent, socket: 17)]
        machine.generation = "11111111-2222-3333-4444-555555555555"
        machine.qmp = 4
        machine.startsPaused = true
        machine.hotplugPorts = 1
        return machine
    }

    /// A clone's overlay on its base, an ARM server.
    static var arm: MachineDescription {
        var machine = MachineDescription(
            name: "arm", uuid: uuid, architecture: .aarch64, accelerator: .tcg, memory: memory(mebibytes: 512))
        machine.firmware = .uefi(code: "/usr/share/AAVMF/AAVMF_CODE.fd", variables: 12, isSecure: false)
        var disk = disk("root", 13)
        disk.bases = [
            MachineDescription.DiskFile(descriptor: 18, format: .qcow2),
            MachineDescription.DiskFile(descriptor: 19, format: .raw, isBlockDevice: true),
        ]
        disk.serial = "a,b"
        disk.cache = .direct
        disk.input = .ioUring
        machine.disks = [disk]
        machine.cdroms = [MachineDescription.CDROM(id: "seed", disc: 14)]
        machine.tpm = MachineDescription.TPM(socket: 16)
        machine.display = .vnc(path: "/run/machine/vnc", video: .virtio)
        machine.usbDevices = [MachineDescription.USBDevice(id: "stick", descriptor: 20)]
        machine.serial = .stdio
        machine.balloon = MachineDescription.Balloon(reportsFreePages: false)
        machine.hasPanicNotifier = true
        machine.hasWatchdog = true
        machine.hotplugPorts = 0
        return machine
    }

    static var mainframe: MachineDescription {
        var machine = MachineDescription(
            name: "z", uuid: uuid, architecture: .s390x, accelerator: .tcg, memory: memory(mebibytes: 512))
        var data = disk("data", 21, .scsi, format: .raw)
        data.discards = false
        data.cache = .unsafe
        machine.disks = [disk("root", 13), data]
        machine.nics = [MachineDescription.NIC(id: "net0", mac: "52:54:00:12:34:56", tap: 15)]
        machine.nics[0].mtu = 1400
        machine.nics[0].vhost = 22
        machine.serial = .stdio
        machine.virtioConsole = 23
        machine.hasWatchdog = true
        machine.balloon = nil
        machine.hotplugPorts = 0
        return machine
    }

    static var all: [MachineDescription] { [micro, installer, windows, arm, mainframe] }
}
