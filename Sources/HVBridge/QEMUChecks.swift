// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What is refused before QEMU sees it.
extension MachineDescription {
    func verify() throws(MachineFault) {
        try verifyText()
        try verifyBoard()
        try verifyProcessorsAndMemory()
        try verifyFirmware()
        try verifyDevices()
        try verifyCounts()
        try verifyDescriptors()
    }

    private func verifyText() throws(MachineFault) {
        if name.utf8.isEmpty || name.utf8.count > 64 || !name.isPrintable {
            throw MachineFault(
                .invalid, "\"\(name)\" is no name for a machine: 1 to 64 bytes without control characters")
        }
        for text in [uuid, generation].compactMap({ $0 }) where !text.isUUID {
            throw MachineFault(.invalid, "\"\(text)\" is no UUID")
        }
        for text in [cpu.model].compactMap({ $0 }) + cpu.features.map(\.name) where !text.isModelName {
            throw MachineFault(.invalid, "\"\(text)\" is no name of a processor or of its feature")
        }
        for agent in agents where !agent.name.isModelName {
            throw MachineFault(.invalid, "\"\(agent.name)\" is no name for an agent's channel")
        }
        for share in shares where share.tag.isEmpty || share.tag.utf8.count > 36 || !share.tag.isPrintable {
            throw MachineFault(
                .invalid, "\"\(share.tag)\" is no tag for a folder: 1 to 36 bytes without control characters")
        }
        var seen: Set<String> = []
        for text in agents.map(\.name) + shares.map(\.tag) where !seen.insert(text).inserted {
            throw MachineFault(.invalid, "two channels or folders are called \(text)")
        }
    }

    private func verifyBoard() throws(MachineFault) {
        guard board == architecture.board || board == architecture.microBoard else {
            throw MachineFault(.unsupported, "\(architecture.rawValue) has no board \(board.rawValue)")
        }
        guard let boardVersion else { return }
        guard let prefix = board.versionPrefix else {
            throw MachineFault(.unsupported, "the board \(board.rawValue) has no versions")
        }
        guard let version = boardVersion.after(prefix), !version.isEmpty, version.utf8.count < 8,
            version.utf8.allSatisfy({ $0.isDigit || $0 == UInt8(ascii: ".") })
        else { throw MachineFault(.invalid, "\"\(boardVersion)\" is no version of the board: \(prefix)7.2 is one") }
    }

    private func verifyProcessorsAndMemory() throws(MachineFault) {
        // An ARM of 32 bits has QEMU's interrupt controller for eight.
        let most = architecture == .armv7 ? 8 : 255
        guard cpu.sockets > 0, cpu.cores > 0, cpu.threads > 0, let total = cpu.total, total <= most else {
            throw MachineFault(
                .invalid, "\(cpu.sockets) x \(cpu.cores) x \(cpu.threads) processors are not between 1 and \(most)")
        }
        // POWER's memory comes in blocks of this size.
        let unit: Int64 = board == .pseries ? 256 : 1
        guard memory.bytes > 0, memory.bytes % (unit << 20) == 0 else {
            throw MachineFault(.invalid, "\(memory.bytes) bytes of memory are no multiple of \(unit) MiB")
        }
        if architecture == .armv7 && memory.bytes > 3 << 30 {
            throw MachineFault(.unsupported, "a guest of 32-bit ARM has at most 3 GiB of memory")
        }
        guard case .hugePages(let size) = memory.backing else { return }
        guard size >= 65536, size & (size - 1) == 0, memory.bytes % size == 0 else {
            throw MachineFault(.invalid, "\(memory.bytes) bytes of memory are no multiple of pages of \(size) bytes")
        }
    }

    private func verifyFirmware() throws(MachineFault) {
        switch firmware {
        case .bios where board == .microvm:
            throw MachineFault(.unsupported, "the board microvm starts nothing but a kernel")
        case .bios: break
        case .uefi(let code, _, _):
            guard board == .q35 || board == .virt && architecture != .riscv64 else {
                throw MachineFault(.unsupported, "the board \(board.rawValue) of \(architecture.rawValue) has no UEFI")
            }
            try verifyPath(code)
        case .bootLoader(let path):
            guard architecture == .riscv64 else {
                throw MachineFault(.unsupported, "\(architecture.rawValue) has no boot loader of the host's")
            }
            try verifyPath(path)
        case .kernel(let path, let initrd, let commandLine):
            try verifyPath(path)
            if let initrd { try verifyPath(initrd) }
            // What most kernels have room for.
            guard commandLine.utf8.count < 2048, commandLine.isPrintable else {
                throw MachineFault(
                    .invalid, "the kernel's command line is longer than 2047 bytes or holds control characters")
            }
        }
        if let milliseconds = boot.menuMilliseconds, !(0...65535).contains(milliseconds) {
            throw MachineFault(.invalid, "a boot menu is shown for 0 to 65535 ms")
        }
    }

    /// A path that QEMU opens: only where it may see anything, and without what other parsers would take for more.
    private func verifyPath(_ path: String) throws(MachineFault) {
        guard MachineDescription.folders.contains(where: { path.after($0 + "/") != nil }) else {
            let folders = MachineDescription.folders.joined(separator: " and ")
            throw MachineFault(.invalid, "QEMU would not see \(path): only what is below \(folders)")
        }
        let isHarmless = path.isPrintable && !path.utf8.contains(UInt8(ascii: ",")) && path.utf8.count < 4096
        guard isHarmless, !(path + "/").holds("/../") else {
            throw MachineFault(.invalid, "\"\(path)\" is no path for QEMU: it holds a comma, .. or control characters")
        }
    }

    private func verifyDevices() throws(MachineFault) {
        let reserved: Set<String> = [
            "agents", "balloon", "generation", "keyboard", "panic", "pointer", "rng", "scsi", "tpm", "usb", "video",
            "watchdog",
        ]
        var seen: Set<String> = []
        for id in disks.map(\.id) + cdroms.map(\.id) + nics.map(\.id) + usbDevices.map(\.id) {
            if !id.isDeviceID || reserved.contains(id) {
                throw MachineFault(.invalid, "\"\(id)\" is no name for a device")
            }
            if !seen.insert(id).inserted { throw MachineFault(.invalid, "two devices are called \(id)") }
        }
        var order: Set<Int> = []
        for index in disks.map(\.bootIndex) + cdroms.map(\.bootIndex) + nics.map(\.bootIndex) {
            guard let index else { continue }
            guard index >= 0, index <= Int32.max, order.insert(index).inserted else {
                throw MachineFault(.invalid, "boot index \(index) is negative or given twice")
            }
        }
        for disk in disks { try verify(disk) }
        try verifyCards()
        if tpm != nil, architecture == .riscv64 || board == .s390ccw || board == .microvm {
            throw MachineFault(.unsupported, "\(architecture.rawValue) on the board \(board.rawValue) has no TPM")
        }
        if !shares.isEmpty && !memory.isShared {
            throw MachineFault(.invalid, "shared folders need memory that is shared")
        }
        if case .vnc(let path, let video, let input) = display {
            try verifyPath(path)
            // struct sockaddr_un.
            if path.utf8.count > 107 { throw MachineFault(.invalid, "\(path) is too long for a socket") }
            if video == .standard && board == .virt {
                throw MachineFault(
                    .unsupported, "the board virt has no VGA", hint: "choose virtio, or ramfb for Windows")
            }
            if input == .ps2 && board != .q35 {
                throw MachineFault(.unsupported, "the board \(board.rawValue) has no PS/2: choose usb")
            }
        }
    }

    func verifyCards() throws(MachineFault) {
        for nic in nics {
            if !nic.mac.isUnicastMAC { throw MachineFault(.invalid, "\(nic.id): \"\(nic.mac)\" is no MAC of a card") }
            if nic.model != .virtio && (nic.mtu != nil || nic.vhost != nil) {
                throw MachineFault(.unsupported, "\(nic.id): only virtio cards have an MTU of the host's and vhost")
            }
            if let mtu = nic.mtu, !(68...65535).contains(mtu) {
                throw MachineFault(.invalid, "\(nic.id): an MTU is from 68 to 65535")
            }
        }
    }

    private func verify(_ disk: Disk) throws(MachineFault) {
        if let serial = disk.serial {
            let most = disk.model == .scsi ? 36 : 20
            guard !serial.isEmpty, serial.utf8.count <= most, serial.isPrintable, serial.isASCII else {
                throw MachineFault(
                    .invalid, "\(disk.id): \"\(serial)\" is no serial number: 1 to \(most) printable ASCII characters")
            }
        }
        let layers = [disk.file] + disk.bases
        // The lowest may be raw.
        if layers.dropLast().contains(where: { $0.format != .qcow2 }) {
            throw MachineFault(.invalid, "\(disk.id): only a qcow2 file lies on another")
        }
        if disk.bases.count > 32 { throw MachineFault(.unsupported, "\(disk.id): more than 32 layers") }
        if disk.model == .ahci && disk.isReadOnly {
            throw MachineFault(
                .unsupported, "\(disk.id): SATA disks cannot be read-only", hint: "choose virtio or scsi")
        }
    }

    private func verifyCounts() throws(MachineFault) {
        func verify(_ count: Int, _ most: Int, _ what: String, _ hint: String? = nil) throws(MachineFault) {
            if count >= 0 && count <= most { return }
            throw MachineFault(
                .unsupported, "the board \(board.rawValue) has room for \(most) \(what), not \(count)", hint: hint)
        }
        let direct = disks.count { $0.model == .virtio || $0.model == .nvme }
        let targets = disks.count { $0.model == .scsi } + (board == .q35 ? 0 : cdroms.count)
        try verify(targets, 250, "SCSI disks")
        try verify(agents.count, 30, "agents' channels")
        if board.pciBus == nil {
            let controllers = [needsSCSI, !agents.isEmpty || virtioConsole != nil, hasEntropy, balloon != nil]
            let count = nics.count + shares.count + direct + controllers.count { $0 }
            try verify(count, board == .microvm ? 24 : 200, "virtio devices")
        } else {
            try verify(direct, 8, "virtio and NVMe disks", "choose scsi for the others")
            try verify(nics.count, 8, "network cards")
            try verify(shares.count, 8, "shared folders")
        }
        let ports = disks.count { $0.model == .ahci } + (board == .q35 ? cdroms.count : 0)
        if board == .q35 { try verify(ports, 6, "SATA disks and CD-ROM drives") }
        // Two of eight are for keyboard and tablet.
        try verify(usbDevices.count, 6, "USB devices")
        try verify(hotplugPorts, board == .q35 || board == .virt ? 8 : 0, "empty slots")
    }

    /// Numbers of descriptors: none is a standard stream, and none is used twice.
    private func verifyDescriptors() throws(MachineFault) {
        var all: [CInt?] = [qmp, virtioConsole, tpm?.socket]
        if case .socket(let descriptor) = serial { all.append(descriptor) }
        if case .uefi(_, let variables, _) = firmware { all.append(variables) }
        all += agents.map(\.socket)
        all += shares.map(\.socket)
        all += usbDevices.map(\.descriptor)
        all += cdroms.map(\.disc)
        for disk in disks { all += ([disk.file] + disk.bases).map(\.descriptor) }
        for nic in nics { all += [nic.tap, nic.vhost] }
        var seen: Set<CInt> = []
        for case let descriptor? in all where descriptor < 3 || !seen.insert(descriptor).inserted {
            throw MachineFault(.invalid, "descriptor \(descriptor) is used twice or cannot be inherited")
        }
    }
}

// MARK: - Kinds of text

extension UInt8 {
    fileprivate var isDigit: Bool { (0x30...0x39).contains(self) }
    fileprivate var isLetter: Bool { (0x61...0x7A).contains(self | 0x20) }
    fileprivate var isHexDigit: Bool { isDigit || (0x61...0x66).contains(self | 0x20) }
}

extension String {
    fileprivate var isASCII: Bool { utf8.allSatisfy { $0 < 0x80 } }

    /// No control characters, so that no line of a log or terminal is changed by it.
    fileprivate var isPrintable: Bool {
        unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
    }

    fileprivate var isUUID: Bool {
        let bytes = Array(utf8)
        return bytes.count == 36
            && bytes.indices.allSatisfy { index in
                [8, 13, 18, 23].contains(index) ? bytes[index] == UInt8(ascii: "-") : bytes[index].isHexDigit
            }
    }

    /// Letters, digits, `.`, `_` and `-`, not first: 64 at most.
    fileprivate var isModelName: Bool {
        guard let first = utf8.first, first.isLetter || first.isDigit, utf8.count <= 64 else { return false }
        return utf8.allSatisfy { $0.isLetter || $0.isDigit || [0x2D, 0x2E, 0x5F].contains($0) }
    }

    /// What ``MachineDescription/Disk/id`` says. No dots: names with a dot are this project's own.
    fileprivate var isDeviceID: Bool {
        guard let first = utf8.first, first.isLetter, utf8.count <= 20 else { return false }
        return utf8.allSatisfy { $0.isLetter || $0.isDigit || $0 == 0x2D || $0 == 0x5F }
    }

    fileprivate var isUnicastMAC: Bool {
        let bytes = Array(utf8)
        guard bytes.count == 17 else { return false }
        let isFormed = bytes.indices.allSatisfy { index in
            index % 3 == 2 ? bytes[index] == UInt8(ascii: ":") : bytes[index].isHexDigit
        }
        // The lowest bit of the first byte: a group's address. All zeros: none.
        // The values of letters begin at 10 and their codes at an odd number.
        let isGroup = (bytes[1] & 1 == 1) == bytes[1].isDigit
        return isFormed && !isGroup && bytes.contains { $0 != UInt8(ascii: "0") && $0 != UInt8(ascii: ":") }
    }
}
