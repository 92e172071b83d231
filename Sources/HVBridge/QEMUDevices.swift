// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Network cards, display and input, and what else a machine may have.
extension MachineDescription {
    func addNetwork(_ line: inout QEMUCommandLine) {
        for (index, nic) in nics.enumerated() {
            let peer = "net-\(nic.id)"
            line.add(
                "-netdev", "tap",
                [
                    "id": peer, "fd": "\(nic.tap)", "vhost": nic.vhost.map { _ in "on" },
                    "vhostfd": nic.vhost.map { "\($0)" },
                ])
            let driver = nic.model == .virtio ? virtio("net") : nic.model.rawValue
            // Without its own boot code, which firmware would run: an empty name. Only PCI cards have any.
            let code: String? = board.pciBus != nil && nic.bootIndex == nil ? "" : nil
            line.device(
                driver, place(.firstNIC, plus: index),
                [
                    "id": nic.id, "netdev": peer, "mac": nic.mac, "bootindex": nic.bootIndex.map { "\($0)" },
                    "host_mtu": nic.mtu.map { "\($0)" }, "romfile": code,
                ])
        }
    }

    func addDisplay(_ line: inout QEMUCommandLine) {
        guard case .vnc(let path, let video, let input) = display else {
            line.add("-display", "none")
            addUSB(&line, hasInput: false)
            return
        }
        line.add("-vnc", "unix:\(QEMUCommandLine.escaped(path))")
        switch (video, board) {
        case (.standard, _): line.device("VGA", place(.video), ["id": "video"])
        case (.virtio, .q35): line.device("virtio-vga", place(.video), ["id": "video"])
        case (.virtio, _): line.device(virtio("gpu"), place(.video), ["id": "video"])
        case (.ramfb, _): line.device("ramfb", ["id": "video"])
        }
        if board == .s390ccw {
            line.device("virtio-keyboard-ccw", ["id": "keyboard"])
            line.device("virtio-tablet-ccw", ["id": "pointer"])
        }
        addUSB(&line, hasInput: input == .usb && board != .s390ccw)
    }

    private func addUSB(_ line: inout QEMUCommandLine, hasInput: Bool) {
        if !hasInput && usbDevices.isEmpty { return }
        line.device("qemu-xhci", place(.usb), ["id": "usb", "p2": "8", "p3": "8"])
        let bus = QEMUCommandLine.Place(bus: "usb.0")
        if hasInput {
            line.device("usb-kbd", bus, ["id": "keyboard"])
            line.device("usb-tablet", bus, ["id": "pointer"])
        }
        for device in usbDevices {
            let path = line.file(device.descriptor)
            line.device("usb-host", bus, ["id": device.id, "hostdevice": path])
        }
    }

    func addExtras(_ line: inout QEMUCommandLine) {
        for (index, share) in shares.enumerated() {
            let channel = line.socket("share.\(index)", share.socket)
            line.device(
                "vhost-user-fs\(board.virtioSuffix)", place(.shares, function: index),
                ["id": "share.\(index)", "chardev": channel, "tag": share.tag, "queue-size": "1024"])
        }
        if let tpm { addTPM(tpm, &line) }
        if hasEntropy {
            line.add("-object", "rng-builtin", ["id": "entropy"])
            line.device(virtio("rng"), place(.entropy), ["id": "rng", "rng": "entropy"])
        }
        if let balloon {
            line.device(
                virtio("balloon"), place(.balloon),
                [
                    "id": "balloon", "deflate-on-oom": "on",
                    "free-page-reporting": balloon.reportsFreePages ? "on" : nil,
                ])
        }
        if let generation { line.device("vmgenid", ["id": "generation", "guid": generation]) }
        if hasPanicNotifier { line.device("pvpanic-pci", place(.panic), ["id": "panic"]) }
        if hasWatchdog {
            if board == .s390ccw {
                line.device("diag288", ["id": "watchdog"])
            } else {
                line.device("i6300esb", place(.watchdog), ["id": "watchdog"])
            }
            line.add("-action", "watchdog=reset")
        }
        for index in 0..<hotplugPorts {
            line.device(
                "pcie-root-port", place(.hotplug, function: index),
                ["id": "slot.\(index)", "chassis": "\(index + 1)", "slot": "\(index + 1)"])
        }
    }

    private func addTPM(_ tpm: TPM, _ line: inout QEMUCommandLine) {
        line.add("-tpmdev", "emulator", ["id": "chip", "chardev": line.socket("tpm", tpm.socket)])
        let driver =
            switch board {
            case .virt: "tpm-tis-device"
            case .pseries: "tpm-spapr"
            case .q35, .microvm, .s390ccw: "tpm-crb"
            }
        line.device(driver, ["id": "tpm", "tpmdev": "chip"])
    }
}
