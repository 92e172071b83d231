// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import HVBridge
import LinuxSystem
import OCI

/// Looks at a machine's disks once, when its zone is made, and decides how it boots. Each decision comes with its reason.
struct MachineDiskPlan {
    private(set) var machine: MachineSettings
    /// Sentences, in the order of the decisions.
    private(set) var reasons: [String] = []
    private var isBIOS = false
    private var isUEFI = false

    /// `machine` names disks whose formats are not known yet.
    init(_ machine: MachineSettings) throws(ZoneError) {
        self.machine = machine
        try lookAtDisks()
        try lookAtDiscs()
        try decideFirmware()
        decideWindows()
        try decideRest()
    }

    private mutating func lookAtDisks() throws(ZoneError) {
        var disks: [MachineDisk] = []
        var seen: [FileStatus] = []
        for var disk in machine.disks {
            if disk.size == nil, let status = try? FileStatus.of(disk.path) {
                if seen.contains(where: { $0.device == status.device && $0.inode == status.inode }) {
                    throw ZoneError(.invalid, "disk \(disk.path) was given twice")
                }
                seen.append(status)
            }
            if disk.size != nil {
                disks.append(disk)
                reasons.append(
                    "disk \(disk.path): made new, \(ByteSize.text(disk.size ?? 0)), \(disk.format.isEmpty ? "qcow2" : disk.format)"
                )
                continue
            }
            let known = disk.format.isEmpty ? nil : DiskFormat(name: disk.format)
            if known == nil, !disk.format.isEmpty {
                let names = DiskFormat.allCases.map(\.rawValue).joined(separator: ", ")
                throw ZoneError(.invalid, "disk format \"\(disk.format)\" is not known", hint: "one of \(names)")
            }
            let found = try MachineDiskPlan.inspect(disk.path, known)
            if found.table.isCutOff, known == nil {
                throw ZoneError(
                    .invalid, "disk \(disk.path): it is cut off: partitions lie beyond its end",
                    hint: "get the whole of it; --disk-format \(found.format.driver) takes it as it is")
            }
            if found.isCD {
                reasons.append("\(disk.path): a CD, as it holds an ISO 9660 file system")
                machine.cdroms.append(disk.path)
                if machine.boot == nil, disks.isEmpty { machine.boot = "d" }
                continue
            }
            disk.format = found.format.driver
            reasons.append(
                "disk \(disk.path): \(disk.format), \(ByteSize.text(found.virtualSize))"
                    + (known == nil ? ", by its header" : ", as it was said"))
            if disks.isEmpty { take(found, of: disk.path) }
            disks.append(disk)
        }
        machine.disks = disks
    }

    private mutating func lookAtDiscs() throws(ZoneError) {
        for path in machine.cdroms {
            let found = try MachineDiskPlan.inspect(path, nil)
            guard found.isCD else {
                throw ZoneError(
                    .invalid, "\(path) is no image of a CD, but \(found.format.rawValue)", hint: "give it by --disk")
            }
            if machine.disks.allSatisfy({ $0.size != nil }) { take(found, of: path) }
        }
    }

    private mutating func take(_ found: DiskInspection, of path: String) {
        reasons += found.reasons.map { "\(path): \($0)" }
        isBIOS = isBIOS || found.isBootableByBIOS
        isUEFI = isUEFI || found.hasEFISystemPartition || found.isBootableByEFI
        if found.isWindows {
            machine.isWindows = true
            reasons += found.windowsEvidence.map { "\(path): Windows: \($0)" }
        }
    }

    private mutating func decideFirmware() throws(ZoneError) {
        if let firmware = machine.firmware {
            let architecture = try machine.guestArchitecture()
            if firmware == .bios, !architecture.isX86 {
                throw ZoneError(
                    .unsupported, "--firmware bios: machines of \(architecture.ociName) have none",
                    hint: "leave --firmware out")
            }
            reasons.append("firmware \(firmware.rawValue): as it was said")
            return
        }
        if machine.isSecure {
            machine.firmware = .uefi
            reasons.append("firmware uefi: secure boot is its matter")
        } else if let architecture = try? machine.guestArchitecture(), !architecture.isX86 {
            machine.firmware = .uefi
            reasons.append("firmware of the board: \(architecture.ociName) has no BIOS")
        } else if isUEFI {
            machine.firmware = .uefi
            reasons.append(
                "firmware uefi (OVMF): "
                    + (isBIOS ? "it boots both ways, and this is the newer one" : "there is something for it to boot"))
        } else {
            machine.firmware = .bios
            reasons.append("firmware bios (SeaBIOS): nothing for UEFI was found")
        }
    }

    /// What a Windows that nobody has prepared has drivers for, and expects.
    private mutating func decideWindows() {
        guard machine.isWindows else { return }
        if machine.clock == nil {
            machine.clock = .localtime
            reasons.append("clock in local time: as Windows takes it")
        }
        if machine.tpm == nil {
            machine.tpm = true
            reasons.append("a TPM 2.0: newer versions of Windows want one")
        }
        machine.hasDisplay = true
        reasons.append("a display: Windows has no console on a serial line")
        if machine.diskModel == nil {
            let hasSATA = (try? machine.guestArchitecture())?.isX86 ?? true
            machine.diskModel = hasSATA ? .sata : .nvme
            reasons.append("disks by \(hasSATA ? "SATA" : "NVMe"): Windows has no driver for virtio of its own")
        }
        if machine.cardModel == nil {
            machine.cardModel = .e1000e
            reasons.append("network card e1000e: Windows has no driver for virtio of its own")
        }
    }

    private mutating func decideRest() throws(ZoneError) {
        if machine.disks.isEmpty, machine.cdroms.isEmpty {
            throw ZoneError(.invalid, "a machine needs a disk or a CD to boot from", hint: "zonectl run --vm DISK|ISO")
        }
        if machine.disks.isEmpty, machine.boot == nil { machine.boot = "d" }
        if machine.vnc != nil { machine.hasDisplay = true }
        if let boot = machine.boot {
            guard !boot.isEmpty, boot.utf8.allSatisfy({ "cdn".utf8.contains($0) }) else {
                throw ZoneError(
                    .invalid, "--boot \"\(boot)\" is no order of boot", hint: "letters of: c disks, d CDs, n network")
            }
            reasons.append(
                "boots from \(boot.map { ["c": "disks", "d": "CDs", "n": "the network"][$0] ?? "" }.joined(separator: ", then "))"
            )
        }
        if machine.isSecure, machine.firmware == .bios {
            throw ZoneError(.invalid, "--secure-boot is UEFI's matter, and --firmware bios was given")
        }
    }

    private static func inspect(_ path: String, _ format: DiskFormat?) throws(ZoneError) -> DiskInspection {
        guard path.isAbsolutePath else { throw ZoneError(.invalid, "disk \"\(path)\": the path is not absolute") }
        do throws(DiskFault) { return try DiskInspection.inspect(path: path, format: format) } catch {
            throw ZoneError(error, disk: path)
        }
    }
}

extension ZoneError {
    init(_ fault: DiskFault, disk: String) {
        let code: ZoneError.Code =
            switch fault.code {
            case .system, .failed: .system
            case .noProgram, .unsupported: .unsupported
            default: .invalid
            }
        self.init(code, "disk \(disk): \(fault.detail)", hint: fault.hint)
    }
}
