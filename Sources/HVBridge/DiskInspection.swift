// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// A machine that EFI boots without being told of a file, by the name of that file.
public enum EFIArchitecture: String, Sendable, Equatable, CaseIterable {
    case x64, aa64, riscv64

    /// The last part of the path that the UEFI specification gives (3.5.1.1).
    var file: String { "BOOT\(rawValue.uppercased()).EFI" }
}

/// What can be seen of a disk before anything runs from it: how to boot it, and whether it is Windows'.
///
/// Conclusions are guesses about what a user wants, never about what is safe: a disk that lies is booted in the wrong
/// way, in a machine that holds whatever runs in it.
public struct DiskInspection: Sendable, Equatable {
    public let header: DiskHeader
    public internal(set) var table = PartitionTable()
    public internal(set) var hasEFISystemPartition = false
    public internal(set) var isBootableByBIOS = false
    /// Machines for which the disk has the boot file that firmware takes without being told.
    public internal(set) var efiArchitectures: [EFIArchitecture] = []
    /// Why it is Windows', or a disc with Windows' setup; empty where nothing says so.
    public internal(set) var windowsEvidence: [String] = []
    /// Why each of the others is so, one short sentence each; what was odd, as well.
    public internal(set) var reasons: [String] = []

    public var format: DiskFormat { header.format }
    public var virtualSize: Int64 { header.virtualSize }
    public var partitions: [Partition] { table.partitions }
    public var isCD: Bool { header.format == .iso }
    public var isWindows: Bool { !windowsEvidence.isEmpty }
    public var isBootableByEFI: Bool { !efiArchitectures.isEmpty }

    /// Partitions that are looked at for file systems.
    private static let mostVolumes = 8

    /// Looks at a disk by its path. `format` as in ``DiskHeader/read(_:as:)``.
    public static func inspect(path: String, format: DiskFormat? = nil) throws(DiskFault) -> DiskInspection {
        let descriptor: Descriptor
        // Not to wait for the writer of a pipe.
        do throws(SystemError) { descriptor = try Descriptor.open(path, [.readOnly, .nonBlocking]) } catch {
            throw DiskFault(error)
        }
        return try inspect(descriptor, format: format)
    }

    /// Looks at an open disk. What is not plain content is read by a QEMU program, which gets no rights: ``ImageDisk``.
    public static func inspect(
        _ descriptor: borrowing Descriptor, format: DiskFormat? = nil
    ) throws(DiskFault) -> DiskInspection {
        let header = try DiskHeader.read(descriptor, as: format)
        var file = try FileDisk(copyOf: descriptor)
        if header.format.isPlain { return try inspect(&file, header) }
        var disk = try ImageDisk(file, header.format)
        return try inspect(&disk, header)
    }

    static func inspect(
        _ disk: inout some DiskReader & ~Copyable, _ header: DiskHeader
    ) throws(DiskFault) -> DiskInspection {
        var found = DiskInspection(header: header)
        found.reasons = header.notes
        if header.isDirty { found.reasons.append("the image was not closed; QEMU puts it in order when it is started") }
        if header.format == .iso {
            try found.readDisc(&disk)
        } else {
            try found.readDisk(&disk)
        }
        return found
    }

    private init(header: DiskHeader) {
        self.header = header
    }

    // MARK: Disks

    private mutating func readDisk(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) {
        table = try PartitionTable.read(&disk)
        reasons += table.notes
        switch table.scheme {
        case .gpt: reasons.append("GPT with \(partitions.count) partitions")
        case .mbr: reasons.append("MBR with \(partitions.count) partitions")
        case .none: reasons.append("no partition table")
        }
        if let system = partitions.first(where: \.isEFISystem) {
            hasEFISystemPartition = true
            reasons.append("partition \(system.number) is an EFI system partition")
        }
        for partition in partitions.prefix(DiskInspection.mostVolumes) where partition.isEFISystem {
            try readVolume(&disk, at: partition.start, "partition \(partition.number)")
        }
        // A whole disk may be one file system, which firmware takes as well.
        if table.scheme == .none { try readVolume(&disk, at: 0, "the disk") }
        lookForBIOS()
        try lookForNTFS(&disk)
    }

    private mutating func lookForBIOS() {
        guard table.hasBootCode else { return }
        if let active = partitions.first(where: \.isActive) {
            isBootableByBIOS = true
            reasons.append("the MBR has boot code, and partition \(active.number) is active")
        } else if let grub = partitions.first(where: \.isBIOSBoot) {
            isBootableByBIOS = true
            reasons.append("the MBR has boot code, and partition \(grub.number) is a BIOS boot partition")
        } else if table.scheme == .mbr, !partitions.isEmpty, !hasEFISystemPartition {
            // GRUB needs no active partition, and BIOSes ask for none.
            isBootableByBIOS = true
            reasons.append("the MBR has boot code")
        }
    }

    private mutating func lookForNTFS(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) {
        let isReserved = partitions.contains(where: \.isMicrosoftReserved)
        for partition in partitions.prefix(DiskInspection.mostVolumes) where partition.isBasicData {
            let start = try disk.bytes(at: partition.start, 8192)
            let name = "partition \(partition.number)"
            if NTFSBootSector.isEncrypted(start) {
                windowsEvidence.append("\(name) is encrypted by BitLocker")
            } else if partition.isActive, table.hasBootCode, NTFSBootSector.startsWindows(start) {
                windowsEvidence.append("\(name) is active, of NTFS, and starts BOOTMGR")
            } else if isReserved, NTFSBootSector.isThere(start) {
                windowsEvidence.append("\(name) is of NTFS, beside a Microsoft reserved partition")
            }
        }
    }

    /// Looks for boot files on a FAT volume.
    private mutating func readVolume(
        _ disk: inout some DiskReader & ~Copyable, at place: Int64, _ name: String
    ) throws(DiskFault) {
        guard let volume = try FATVolume(&disk, at: place) else { return }
        for architecture in EFIArchitecture.allCases {
            guard let file = try volume.lookUp(&disk, ["EFI", "BOOT", architecture.file]), !file.isFolder else {
                continue
            }
            add(architecture, "EFI/BOOT/\(architecture.file) is on \(name)")
        }
        if let file = try volume.lookUp(&disk, ["EFI", "Microsoft", "Boot", "bootmgfw.efi"]), !file.isFolder {
            windowsEvidence.append("EFI/Microsoft/Boot/bootmgfw.efi is on \(name)")
        }
    }

    private mutating func add(_ architecture: EFIArchitecture, _ reason: String) {
        reasons.append(reason)
        if !efiArchitectures.contains(architecture) { efiArchitectures.append(architecture) }
    }

    // MARK: Discs

    private mutating func readDisc(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) {
        guard let volume = try ISOVolume(&disk) else { return }
        reasons.append("a CD's image with the name '\(volume.name)'")
        // What is written to a USB stick has a partition table beside.
        table = try PartitionTable.read(&disk)
        hasEFISystemPartition = partitions.contains(where: \.isEFISystem)
        if volume.bootEntries.contains(where: { $0.platform == 0 }) {
            isBootableByBIOS = true
            reasons.append("the disc has an entry for BIOSes (El Torito)")
        }
        for entry in volume.bootEntries.prefix(8) where entry.platform == 0xEF {
            reasons.append("the disc has an entry for EFI (El Torito)")
            try readVolume(&disk, at: entry.place, "the disc's EFI image")
        }
        for architecture in EFIArchitecture.allCases {
            guard let file = try volume.lookUp(&disk, ["EFI", "BOOT", architecture.file]), !file.isFolder else {
                continue
            }
            add(architecture, "EFI/BOOT/\(architecture.file) is on the disc")
        }
        for path in [["sources", "install.wim"], ["sources", "install.esd"], ["sources", "boot.wim"], ["bootmgr"]] {
            guard let file = try volume.lookUp(&disk, path), !file.isFolder else { continue }
            windowsEvidence.append("\(path.joined(separator: "/")) is on the disc")
        }
        let name = DiskBytes(Array(volume.name.utf8))
        if volume.hasUDF, DiskBytes(Array(volume.publisher.utf8)).holds("MICROSOFT CORPORATION") {
            windowsEvidence.append("the disc is published by Microsoft, with its files in UDF")
        } else if volume.hasUDF, !volume.bootEntries.isEmpty, name.holds("FRE_") || name.has("CCCOMA", at: 0) {
            // CCCOMA_X64FRE_EN-US_DV9, SSS_X64FRE_EN-US_DV9…: languages, edition and `free`, the other of `checked`.
            windowsEvidence.append("the disc's name '\(volume.name)' is as Windows' are")
        }
    }
}
