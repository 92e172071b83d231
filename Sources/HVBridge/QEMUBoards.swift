// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Board, processors, memory, clock.
extension MachineDescription {
    /// Whether a SATA controller has anything to do.
    var usesSATA: Bool { board == .q35 && (!cdroms.isEmpty || disks.contains { $0.model == .ahci }) }

    var needsSystemManagement: Bool {
        if case .uefi(_, _, true) = firmware { return board == .q35 }
        return false
    }

    func addBoard(_ line: inout QEMUCommandLine) {
        line.add("-uuid", uuid)
        addMachine(&line)
        switch accelerator {
        case .kvm: line.add("-accel", "kvm")
        case .tcg:
            // Room for translated code, of which only what is used costs memory; QEMU's own choice is up to 1 GiB.
            let mebibytes = min(max(memory.bytes >> 20, 64), 512)
            line.add("-accel", "tcg", ["tb-size": "\(mebibytes)"])
        }
        line.add("-cpu", processor)
        line.add(
            "-smp", "\(cpu.total ?? 1)",
            ["sockets": "\(cpu.sockets)", "cores": "\(cpu.cores)", "threads": "\(cpu.threads)"])
        addMemory(&line)
        line.add(
            "-rtc", nil, ["base": clock.rawValue, "driftfix": isWindows && architecture.isX86 ? "slew" : nil])
        addGlobals(&line)
        if board == .q35 || board == .virt && architecture == .aarch64 {
            line.add("-smbios", nil, ["type": "1", "manufacturer": "ZoneRuntime", "product": "Zone", "uuid": uuid])
        }
    }

    /// `-machine`: everything that a board has and a guest may do without is switched by name.
    private func addMachine(_ line: inout QEMUCommandLine) {
        let type = boardVersion ?? board.name
        let hasDisplay = display != .none
        var flash: (code: String?, variables: String?)
        if case .uefi = firmware { flash = ("firmware-code", "firmware-variables") }
        switch board {
        case .q35:
            line.add(
                "-machine", type,
                [
                    "usb": "off", "vmport": "off", "smbus": "off", "sata": onOff(usesSATA),
                    "i8042": onOff(hasDisplay), "graphics": onOff(hasDisplay), "smm": onOff(needsSystemManagement),
                    // Emulated Linux measures its other clocks by it; everyone else has better ones.
                    "hpet": onOff(accelerator == .tcg && !isWindows),
                    "memory-backend": "ram", "mem-merge": "off", "dump-guest-core": "off",
                    "pflash0": flash.code, "pflash1": flash.variables,
                ])
        case .microvm:
            line.add(
                "-machine", type,
                [
                    "acpi": "on", "pit": "on", "pic": "on", "rtc": "on", "pcie": "off", "usb": "off", "ioapic2": "on",
                    "isa-serial": onOff(serial != .none), "auto-kernel-cmdline": "off",
                    "memory-backend": "ram", "mem-merge": "off", "dump-guest-core": "off",
                ])
        case .virt:
            line.add(
                "-machine", type,
                [
                    "usb": "off", "gic-version": architecture == .aarch64 ? "max" : nil,
                    // Kernels without large addresses look for PCI below 4 GiB.
                    "highmem": architecture == .armv7 ? "off" : nil,
                    "memory-backend": "ram", "mem-merge": "off", "dump-guest-core": "off",
                    "pflash0": flash.code, "pflash1": flash.variables,
                ])
        case .pseries:
            // The translator has none of the processor's mitigations and says so at each start.
            let mitigation: String? = accelerator == .tcg ? "broken" : nil
            line.add(
                "-machine", type,
                [
                    "usb": "off", "graphics": onOff(hasDisplay), "cap-cfpc": mitigation, "cap-sbbc": mitigation,
                    "cap-ibs": mitigation, "cap-ccf-assist": accelerator == .tcg ? "off" : nil, "memory-backend": "ram",
                    "mem-merge": "off", "dump-guest-core": "off",
                ])
        case .s390ccw:
            line.add("-machine", type, ["memory-backend": "ram", "mem-merge": "off", "dump-guest-core": "off"])
        }
    }

    /// The value of `-cpu`.
    private var processor: String {
        var parts = [cpu.model ?? defaultModel]
        if cpu.model == nil && accelerator == .tcg && architecture == .aarch64 {
            // The architected authentication code takes half of all time to emulate, and kernels before 5.12 do not boot
            // with 52-bit addresses.
            parts += ["pauth-impdef=on", "lpa2=off"]
        }
        if isWindows && architecture.isX86 { parts += HyperV.features(accelerator).map { "\($0.name)=\($0.value)" } }
        parts += cpu.features.map { "\($0.name)=\(onOff($0.isOn))" }
        return parts.joined(separator: ",")
    }

    private var defaultModel: String {
        if accelerator == .kvm { return "host" }
        return switch architecture {
        case .amd64, .i386, .aarch64, .armv7, .s390x: "max"
        case .riscv64: "rv64"
        case .ppc64le: "power9"
        }
    }

    private func addMemory(_ line: inout QEMUCommandLine) {
        let size = "\(memory.bytes >> 20)M"
        line.add("-m", size)
        switch memory.backing {
        case .plain: line.add("-object", "memory-backend-ram", ["id": "ram", "size": size])
        case .shared: line.add("-object", "memory-backend-memfd", ["id": "ram", "size": size, "share": "on"])
        case .hugePages(let bytes):
            line.add(
                "-object", "memory-backend-memfd",
                [
                    "id": "ram", "size": size, "share": "on", "hugetlb": "on", "hugetlbsize": "\(bytes >> 10)K",
                    // Else a guest dies when the host runs out of them.
                    "prealloc": "on",
                ])
        }
    }

    private func addGlobals(_ line: inout QEMUCommandLine) {
        switch board {
        case .q35:
            // A guest that put itself to sleep would look as if it hung.
            line.add("-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1")
            if isWindows && accelerator == .kvm { line.add("-global", "kvm-pit.lost_tick_policy=delay") }
            if needsSystemManagement {
                line.add("-global", nil, ["driver": "cfi.pflash01", "property": "secure", "value": "on"])
            }
        // Modern virtio: devices of other processes know no other.
        case .microvm: line.add("-global", "virtio-mmio.force-legacy=false")
        case .virt, .pseries, .s390ccw: break
        }
    }
}

// MARK: - Firmware

extension MachineDescription {
    func addFirmware(_ line: inout QEMUCommandLine) {
        switch firmware {
        case .bios: break
        case .uefi(let code, let variables, _):
            line.blockNode(rawFile(code, node: "firmware-code", isReadOnly: true))
            line.blockNode(rawFile(line.file(variables), node: "firmware-variables", isReadOnly: false))
        case .bootLoader(let path): line.add("-kernel", path)
        case .kernel(let path, let initrd, let commandLine):
            line.add("-kernel", path)
            if let initrd { line.add("-initrd", initrd) }
            line.add("-append", commandLine)
            return
        }
        let menu = boot.menuMilliseconds
        let hasOrder = (disks.map(\.bootIndex) + cdroms.map(\.bootIndex) + nics.map(\.bootIndex)).contains { $0 != nil }
        line.add(
            "-boot", nil,
            [
                "menu": onOff(menu != nil), "splash-time": menu.map { "\($0)" },
                "strict": onOff(boot.isStrict && hasOrder),
            ])
    }
}

// MARK: - Buses

extension MachineBoard {
    /// How names of virtio drivers end.
    var virtioSuffix: String {
        switch self {
        case .q35, .virt, .pseries: "-pci"
        case .microvm: "-device"
        case .s390ccw: "-ccw"
        }
    }

    /// The root bus, `nil` without PCI.
    var pciBus: String? {
        switch self {
        case .q35, .virt: "pcie.0"
        case .pseries: "pci.0"
        case .microvm, .s390ccw: nil
        }
    }
}

/// Slots on the root bus. Each kind has its own, so that a guest finds a device where it was after another came or went:
/// Windows takes a card in another slot for a new one.
enum PCISlot: Int {
    case video = 0x01
    case usb, serial, entropy, balloon, scsi, panic
    /// Eight from here.
    case firstNIC = 0x08
    /// Eight from here.
    case firstDisk = 0x10
    /// Functions of one slot.
    case shares = 0x18
    case watchdog
    /// Functions of one slot; a PC has its own devices above.
    case hotplug = 0x1C
}

extension MachineDescription {
    /// The name of a virtio driver on this board's bus.
    func virtio(_ kind: String) -> String { "virtio-\(kind)\(board.virtioSuffix)" }

    /// Where a device of PCI is; nothing on other buses, where order decides.
    func place(_ slot: PCISlot, plus offset: Int = 0) -> QEMUCommandLine.Place {
        guard let bus = board.pciBus else { return QEMUCommandLine.Place() }
        return QEMUCommandLine.Place(bus: bus, address: "0x\(String(slot.rawValue + offset, radix: 16))")
    }

    /// As ``place(_:plus:)``, one of the eight functions of a slot.
    func place(_ slot: PCISlot, function: Int) -> QEMUCommandLine.Place {
        guard let bus = board.pciBus else { return QEMUCommandLine.Place() }
        let address = "0x\(String(slot.rawValue, radix: 16)).0x\(function)"
        return QEMUCommandLine.Place(bus: bus, address: address, isMultifunction: true)
    }
}
