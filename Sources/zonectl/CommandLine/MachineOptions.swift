// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import ZoneRuntime

/// Options of zones that are virtual machines.
enum MachineOptions {
    static let machine = Option.optional(
        "vm", "micro|full", without: "auto",
        "Make it a virtual machine: an image under a kernel of its own (micro), or a disk or CD that boots by itself (full)"
    )
    static let accelerator = Option.value(
        "accel", nil, "auto|kvm|tcg", "What executes a machine: the CPU (kvm), or a translator (tcg)")
    static let architecture = Option.value(
        "arch", nil, "ARCHITECTURE", "Processor that it is for, such as arm64: emulated where it is not the host's")
    static let cpus = Option.value(
        "vcpus", nil, "NUMBER|sockets=,cores=,threads=", "Virtual CPUs of a machine, and how they look to it")
    static let pin = Option.list("vcpu-pin", nil, "VCPU=CPUS", "Let a virtual CPU run on some of the host's only")
    static let hugePages = Option.optional(
        "hugepages", "SIZE", without: "2M", "Take a machine's memory from the host's pool of huge pages")
    static let balloon = Option.value(
        "balloon", nil, "on|off", "Give memory back to the host that a machine does not use (on)")
    static let disk = Option.list(
        "disk", nil, "PATH|new:SIZE[,format=,ro,serial=]", "Another disk of a machine; a new one goes with the zone")
    static let format = Option.value("disk-format", nil, "FORMAT", "Format of the first disk, instead of looking")
    static let cdrom = Option.list("cdrom", nil, "FILE", "Put the image of a CD into a drive of a machine's")
    static let boot = Option.value("boot", nil, "ORDER", "What a machine tries to boot: c disks, d CDs, n network")
    static let firmware = Option.value("firmware", nil, "bios|uefi", "Firmware of a machine, instead of looking")
    static let secureBoot = Option.flag("secure-boot", nil, "Boot only what is signed (UEFI)")
    static let tpm = Option.flag("tpm", nil, "Give a machine a TPM 2.0")
    static let clock = Option.value("clock", nil, "utc|localtime", "What a machine's clock shows")
    static let diskModel = Option.value(
        "disk-model", nil, "virtio|sata|nvme|scsi", "What a machine's disks look like to it")
    static let cardModel = Option.value(
        "network-model", nil, "virtio|e1000e|rtl8139", "What a machine's network cards look like to it")
    static let drivers = Option.value(
        "virtio-win", nil, "ISO", "Give Windows virtio devices, and the CD with their drivers")
    static let userData = Option.value("user-data", nil, "FILE", "What cloud-init is to do at a machine's first boot")
    static let vnc = Option.optional(
        "vnc", "unix|127.0.0.1:PORT", without: "unix",
        "Show a machine's screen by VNC: on a socket that only root reaches")
    static let usb = Option.list(
        "usb", nil, "VENDOR:PRODUCT[,serial=|port=]",
        "Give a machine a device on the host's USB, which nobody else has then")
    static let dryRun = Option.flag("dry-run", nil, "Tell what a machine would be and why, and make nothing")

    static let all = [
        machine, accelerator, architecture, cpus, pin, hugePages, balloon, disk, format, cdrom, boot, firmware,
        secureBoot,
        tpm, clock, diskModel, cardModel, drivers, userData, vnc, usb,
    ]

    /// Those that only mean something with `--vm`.
    private static let ofMachines = all.filter { $0.name != "vm" && $0.name != "arch" }

    static func apply(_ arguments: Arguments, to definition: inout ZoneDefinition) throws(ZoneError) {
        guard let kind = arguments.value(machine) else {
            if let option = ofMachines.first(where: { arguments.value($0) != nil }) {
                throw ZoneError(.invalid, "--\(option.name) is for virtual machines", hint: "give --vm as well")
            }
            return
        }
        var machine = MachineSettings()
        let path = disk(definition.image)
        switch kind {
        case "micro": machine.kind = .micro
        case "full": machine.kind = .full
        case "auto":
            let isFull =
                path != nil || definition.image == "-" || !(arguments.list(disk) + arguments.list(cdrom)).isEmpty
            machine.kind = isFull ? .full : .micro
        default: throw ZoneError(.invalid, "--vm=\(kind) is not known", hint: "give --vm, --vm=micro or --vm=full")
        }
        machine.accelerator = arguments.value(accelerator) ?? "auto"
        machine.architecture = try arguments.value(architecture).map(architecture)
        try applyProcessor(arguments, to: &machine)
        if machine.kind == .full {
            try applyDisks(arguments, path, &definition, to: &machine)
            try applyDevices(arguments, to: &machine)
        } else if let option = ofFull.first(where: { arguments.value($0) != nil }) {
            throw ZoneError(
                .unsupported, "--\(option.name) means nothing to a micro machine",
                hint: "a machine that boots a disk has it: --vm=full")
        }
        definition.machine = machine
    }

    /// A name as images have it (GOARCH); also the kernel's are understood.
    static func architecture(_ text: String) throws(ZoneError) -> String {
        let others = [
            "x86_64": "amd64", "aarch64": "arm64", "i386": "386", "armv7": "arm", "armhf": "arm", "ppc64el": "ppc64le",
        ]
        if let name = others[text] { return name }
        let known = ["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x", "loong64", "mips64le", "ppc64"]
        if known.contains(text) { return text }
        throw ZoneError(
            .invalid, "--arch \"\(text)\" is not known", hint: "one of \(known.joined(separator: ", "))")
    }

    private static let ofFull = [
        disk, format, cdrom, boot, firmware, secureBoot, tpm, clock, diskModel, drivers, userData, vnc, usb,
    ]

    /// The absolute path of a disk, where the operand is one: a path, or a name of a file that is there.
    private static func disk(_ operand: String) -> String? {
        guard operand.utf8.contains(UInt8(ascii: "/")) || operand.utf8.contains(UInt8(ascii: ".")) else { return nil }
        guard let status = try? FileStatus.of(operand), [.regular, .blockDevice].contains(status.kind) else {
            let isPath = operand.isAbsolutePath || operand.hasPrefix("./") || operand.hasPrefix("../")
            return isPath || endings.contains { operand.hasSuffix($0) } ? operand : nil
        }
        return operand
    }

    /// Of names that are no images', though nothing is there.
    private static let endings = [".img", ".iso", ".qcow2", ".raw", ".vmdk", ".vdi", ".vhdx", ".vhd"]

    // MARK: Processors and memory

    private static func applyProcessor(_ arguments: Arguments, to machine: inout MachineSettings) throws(ZoneError) {
        if let text = arguments.value(cpus) {
            let fault = ZoneError(
                .invalid, "--vcpus \"\(text)\" is no number of CPUs", hint: "such as 4, or sockets=1,cores=2,threads=2")
            for part in text.fields(",") {
                let (name, value) = part.halves("=")
                guard let number = Int64(value ?? name), (1...4096).contains(number) else { throw fault }
                switch value == nil ? "cores" : name {
                case "sockets": machine.sockets = number
                case "cores", "cpus": machine.cores = number
                case "threads": machine.threads = number
                default: throw fault
                }
            }
            machine.cores = machine.cores ?? 1
        }
        for text in arguments.list(pin) {
            let (number, list) = text.halves("=")
            guard let cpu = Int(number), (0..<4096).contains(cpu), let list, !list.isEmpty else {
                throw ZoneError(.invalid, "--vcpu-pin \"\(text)\" is not VCPU=CPUS", hint: "such as 0=2-3")
            }
            while machine.pins.count <= cpu { machine.pins.append("") }
            machine.pins[cpu] = list
        }
        if let text = arguments.value(hugePages) { machine.hugePages = try RunCommand.size(text, "--hugepages") }
        if let text = arguments.value(balloon) {
            guard ["on", "off"].contains(text) else {
                throw ZoneError(.invalid, "--balloon takes on or off, not \"\(text)\"")
            }
            machine.hasBalloon = text == "on"
        }
    }

    // MARK: Disks

    private static func applyDisks(
        _ arguments: Arguments, _ path: String?, _ definition: inout ZoneDefinition, to machine: inout MachineSettings
    ) throws(ZoneError) {
        if definition.image != "-" {
            guard let path else {
                throw ZoneError(
                    .invalid, "\"\(definition.image)\" is no file of a disk or CD",
                    hint:
                        "an image's name runs as a micro machine: --vm=micro; '-' stands for no disk but those of --disk"
                )
            }
            definition.image = try absolute(path)
            machine.disks.append(MachineDisk(path: definition.image, format: arguments.value(format) ?? ""))
        } else {
            definition.image = "-"
        }
        for text in arguments.list(disk) { machine.disks.append(try parseDisk(text)) }
        machine.cdroms = []
        for text in arguments.list(cdrom) { machine.cdroms.append(try absolute(text)) }
        machine.boot = arguments.value(boot)
        if let text = arguments.value(drivers) {
            machine.cdroms.append(try absolute(text))
            machine.diskModel = .virtio
            machine.cardModel = .virtio
        }
        if let text = arguments.value(userData) {
            machine.userData = try content(of: text)
        }
    }

    private static func content(of path: String) throws(ZoneError) -> String {
        let bytes: [UInt8]?
        do throws(SystemError) {
            // To open a FIFO would wait for a writer.
            bytes = try FileStatus.of(path).kind == .regular ? try readHostFile(path, limit: 1 << 20) : nil
        } catch {
            throw ZoneError("--user-data", error)
        }
        guard let bytes else { throw ZoneError(.invalid, "--user-data \(path) is no file") }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ZoneError(.invalid, "--user-data \(path) is no UTF-8 text")
        }
        return text
    }

    private static func absolute(_ path: String) throws(ZoneError) -> String {
        guard let resolved = realpath(path, nil) else {
            let reason = Errno(rawValue: errno)
            throw ZoneError(reason == .noEntry ? .notFound : .system, "\(path): \(reason.message)")
        }
        defer { free(resolved) }
        guard let text = String(validatingCString: resolved) else {
            throw ZoneError(.invalid, "\(path): its path is not valid UTF-8")
        }
        return text
    }

    private static func parseDisk(_ text: String) throws(ZoneError) -> MachineDisk {
        var disk = MachineDisk()
        for (index, part) in text.fields(",").enumerated() {
            let (name, value) = part.halves("=")
            if index == 0 {
                if let size = part.after("new:") {
                    disk.size = try RunCommand.size(size, "--disk")
                    guard let bytes = disk.size, bytes >= 1 << 20 else {
                        throw ZoneError(.invalid, "--disk \(text): a disk has 1M at least")
                    }
                    disk.path = "new"
                } else {
                    disk.path = try absolute(part)
                }
                continue
            }
            switch (name, value) {
            case ("ro", nil), ("readonly", nil): disk.isReadOnly = true
            case ("format", .some(let format)): disk.format = format
            case ("serial", .some(let serial)): disk.serial = serial
            default:
                throw ZoneError(
                    .invalid, "--disk \"\(text)\": \"\(part)\" is not known",
                    hint: "PATH or new:SIZE, format=, ro, serial=")
            }
        }
        return disk
    }

    // MARK: Devices

    private static func applyDevices(_ arguments: Arguments, to machine: inout MachineSettings) throws(ZoneError) {
        machine.firmware = try choice(arguments, firmware)
        machine.isSecure = arguments.flag(secureBoot)
        if arguments.value(tpm) != nil { machine.tpm = arguments.flag(tpm) }
        machine.diskModel = try choice(arguments, diskModel) ?? machine.diskModel
        machine.cardModel = try choice(arguments, cardModel) ?? machine.cardModel
        machine.clock = try choice(arguments, clock)
        if let text = arguments.value(vnc) {
            if text != "unix" { try MachineSettings.checkViewers(text) }
            machine.vnc = text
        }
        for text in arguments.list(usb) {
            var request = USBRequest()
            for (index, part) in text.fields(",").enumerated() {
                let (name, value) = part.halves("=")
                switch name {
                case _ where index == 0: request.device = part.lowercased()
                case "serial": request.serial = value
                case "port": request.port = value
                default:
                    throw ZoneError(
                        .invalid, "--usb \"\(text)\": \"\(part)\" is not known", hint: "serial= or port=")
                }
            }
            let (vendor, product) = request.device.halves(":")
            let isID = { (text: String) in text.utf8.count == 4 && UInt16(text, radix: 16) != nil }
            guard isID(vendor), let product, isID(product) else {
                throw ZoneError(.invalid, "--usb \"\(text)\" is no device", hint: "VENDOR:PRODUCT as 'lsusb' has it")
            }
            machine.usb.append(request)
        }
    }

    private static func choice<Value: RawRepresentable & CaseIterable>(
        _ arguments: Arguments, _ option: Option
    ) throws(ZoneError) -> Value? where Value.RawValue == String {
        guard let text = arguments.value(option) else { return nil }
        if let value = Value(rawValue: text) { return value }
        let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
        throw ZoneError(.invalid, "--\(option.name) \"\(text)\" is not known", hint: "one of \(known)")
    }
}
