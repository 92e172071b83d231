// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// The command line.
extension MachineDescription {
    /// Arguments for ``GuestArchitecture/program``, without its name. Throws where the description is contradictory, asks the
    /// board for what it does not have, or holds text that QEMU would take for something else.
    public func arguments() throws(MachineFault) -> [String] {
        try commandLine().words
    }

    /// The words of network cards alone, for a machine whose cards are known only when all else of it has been described.
    public static func arguments(of nics: [NIC], on board: MachineBoard) throws(MachineFault) -> [String] {
        var description = MachineDescription(
            name: "cards", uuid: "00000000-0000-4000-8000-000000000000", architecture: .amd64, board: board,
            accelerator: .tcg, memory: .init(bytes: 0))
        description.nics = nics
        try description.verifyCards()
        var line = QEMUCommandLine()
        description.addNetwork(&line)
        return line.words
    }

    /// The drivers of all devices that ``arguments()`` adds to the board, in order.
    public func deviceNames() throws(MachineFault) -> [String] {
        try commandLine().deviceNames
    }

    private func commandLine() throws(MachineFault) -> QEMUCommandLine {
        try verify()
        var line = QEMUCommandLine()
        addConfinement(&line)
        addBoard(&line)
        addFirmware(&line)
        addLines(&line)
        addDisks(&line)
        addNetwork(&line)
        addDisplay(&line)
        addExtras(&line)
        let allowed = MachineDescription.allowedDevices(on: board)
        for name in line.deviceNames where !allowed.contains(name) {
            throw MachineFault(.unsupported, "the board \(board.rawValue) takes no device \(name)")
        }
        return line
    }

    /// What keeps QEMU from doing more than it was told.
    private func addConfinement(_ line: inout QEMUCommandLine) {
        // The process name is cut by the kernel after 15 bytes.
        line.add("-name", nil, ["guest": name, "process": "vm-\(name)", "debug-threads": "on"])
        line.add("-nodefaults", "-no-user-config")
        line.add(
            "-sandbox", "on",
            ["obsolete": "deny", "elevateprivileges": "deny", "spawn": "deny", "resourcecontrol": "deny"])
        line.add("-msg", nil, ["timestamp": "off"])
        if startsPaused { line.add("-S") }
        if endsOnReboot { line.add("-no-reboot") }
    }

    /// Serial line, monitor, consoles and agents.
    private func addLines(_ line: inout QEMUCommandLine) {
        switch serial {
        case .none: break
        case .stdio:
            line.add("-chardev", "stdio", ["id": "serial", "signal": "off"])
            line.add("-serial", "chardev:serial")
        case .socket(let descriptor): line.add("-serial", "chardev:" + line.socket("serial", descriptor))
        }
        if let qmp { line.add("-mon", nil, ["chardev": line.socket("qmp", qmp), "mode": "control"]) }
        if virtioConsole == nil && agents.isEmpty { return }
        // Number 0 is the console's, whether there is one or not.
        line.device(
            virtio("serial"), place(.serial), ["id": "agents", "max_ports": "\(agents.count + 1)"])
        let bus = QEMUCommandLine.Place(bus: "agents.0")
        if let virtioConsole {
            line.device("virtconsole", bus, ["chardev": line.socket("console", virtioConsole), "nr": "0"])
        }
        for (index, agent) in agents.enumerated() {
            let channel = line.socket("agent.\(index)", agent.socket)
            line.device("virtserialport", bus, ["chardev": channel, "nr": "\(index + 1)", "name": agent.name])
        }
    }
}

// MARK: - What may be there

extension MachineDescription {
    /// Every driver that a command line for the board may name.
    public static func allowedDevices(on board: MachineBoard) -> Set<String> {
        let suffix = board.virtioSuffix
        var names: Set<String> = ["virtserialport", "virtconsole", "scsi-hd", "scsi-cd", "vhost-user-fs\(suffix)"]
        for kind in ["blk", "net", "scsi", "serial", "rng", "balloon"] { names.insert("virtio-\(kind)\(suffix)") }
        switch board {
        case .microvm: break
        case .s390ccw:
            names.formUnion(["virtio-gpu-ccw", "virtio-keyboard-ccw", "virtio-tablet-ccw", "diag288"])
        case .q35, .virt, .pseries:
            names.formUnion([
                "nvme", "e1000e", "rtl8139", "qemu-xhci", "usb-kbd", "usb-tablet", "usb-host", "pvpanic-pci",
                "i6300esb",
            ])
        }
        switch board {
        case .microvm, .s390ccw: break
        case .q35:
            names.formUnion(["ide-hd", "ide-cd", "VGA", "virtio-vga", "tpm-crb", "vmgenid", "pcie-root-port"])
        case .virt: names.formUnion(["virtio-gpu-pci", "ramfb", "tpm-tis-device", "pcie-root-port"])
        case .pseries: names.formUnion(["VGA", "virtio-gpu-pci", "tpm-spapr"])
        }
        return names
    }
}
