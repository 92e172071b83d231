// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import HVBridge

/// What is concluded from a disk's content, whatever it lies in.
@Suite(.serialized) struct DiskInspectionTests {
    // MARK: Tables

    @Test func gpt() throws {
        var disk = MemoryDisk(DiskFixture.gpt([(DiskFixture.efiSystem, 40, 49)]))
        let table = try PartitionTable.read(&disk)
        #expect(table.scheme == .gpt)
        #expect(table.partitions.count == 1)
        #expect(table.partitions[0].isEFISystem)
        #expect(table.partitions[0].start == 40 * 512 && table.partitions[0].size == 10 * 512)
        #expect(!table.hasBootCode)
    }

    @Test(
        arguments: [
            (0xFFFF_FFFF, 128), (128, 0xFFFF_FFFF), (0, 128), (128, 0), (128, 129), (4096, 4096), (1 << 20, 128),
        ] as [(UInt64, UInt64)])
    func gptOfInsaneSize(_ count: UInt64, _ width: UInt64) throws {
        var disk = MemoryDisk(DiskFixture.gpt([(DiskFixture.efiSystem, 40, 49)], count: count, width: width))
        let table = try PartitionTable.read(&disk)
        #expect(table.scheme == .mbr && table.partitions.isEmpty)
        #expect(table.notes.first?.hasPrefix("its GPT is not taken") == true)
    }

    @Test(
        arguments: [
            (40, 64), (49, 40), (1 << 60, 1 << 61), (0, UInt64.max), (UInt64.max, UInt64.max), (1 << 49, 1 << 49),
            (0, 10),
        ] as [(UInt64, UInt64)])
    func gptPartitionsBeyondTheEnd(_ first: UInt64, _ last: UInt64) throws {
        var disk = MemoryDisk(DiskFixture.gpt([(DiskFixture.efiSystem, first, last), (DiskFixture.efiSystem, 34, 35)]))
        let table = try PartitionTable.read(&disk)
        #expect(table.partitions.map(\.number) == [2])
    }

    @Test func gptWithWrongSums() throws {
        for place in [520, 528, 600, 1030] {
            var bytes = DiskFixture.gpt([(DiskFixture.efiSystem, 40, 49)])
            bytes[place] ^= 1
            var disk = MemoryDisk(bytes)
            #expect(try PartitionTable.read(&disk).scheme == .mbr, "\(place)")
        }
    }

    @Test func mbrWithLogicalPartitionsWithoutEnd() throws {
        var bytes = [UInt8](repeating: 0, count: 64 << 9)
        func entry(_ sector: Int, _ index: Int, _ flag: UInt8, _ type: UInt8, _ start: UInt64, _ count: UInt64) {
            DiskFixture.put(&bytes, sector * 512 + 446 + 16 * index, [flag, 0, 0, 0, type])
            DiskFixture.put(&bytes, sector * 512 + 446 + 16 * index + 8, little: start, 4)
            DiskFixture.put(&bytes, sector * 512 + 446 + 16 * index + 12, little: count, 4)
            DiskFixture.put(&bytes, sector * 512 + 510, [0x55, 0xAA])
        }
        bytes[0] = 0xFA
        entry(0, 0, 0x80, 0x83, 1, 4)
        entry(0, 1, 0, 5, 10, 50)
        entry(10, 0, 0, 0x83, 1, 2)
        entry(10, 1, 0, 5, 10, 10)
        entry(20, 0, 0, 0x82, 1, 2)
        // Back to the first one.
        entry(20, 1, 0, 5, 0, 10)
        var disk = MemoryDisk(bytes)
        let table = try PartitionTable.read(&disk)
        #expect(table.partitions.map(\.number) == [1, 5, 6])
        #expect(table.partitions.map(\.start) == [512, 11 * 512, 21 * 512])
        let found = try DiskInspection.inspect(&disk, try DiskHeader.read(&disk))
        #expect(found.isBootableByBIOS && !found.hasEFISystemPartition && !found.isWindows)
    }

    // MARK: FAT

    @Test func aChainThatBitesItsTailEnds() throws {
        var disk = MemoryDisk(DiskFixture.loopingFAT())
        let volume = try #require(try FATVolume(&disk, at: 0))
        #expect(try volume.lookUp(&disk, ["EFI"])?.isFolder == true)
        #expect(try volume.lookUp(&disk, ["efi", "boot", "bootx64.efi"]) == nil)
        #expect(try volume.lookUp(&disk, ["EFI", "other"])?.isFolder == false)
        #expect(try volume.lookUp(&disk, ["EFI", "other", "more"]) == nil)
    }

    @Test(.enabled(if: DiskFixture.hasTools, "qemu-utils, gdisk or mtools are not installed"), arguments: [12, 16, 32])
    func pathsOnVolumesOfMtools(_ width: Int) throws {
        let folder = try TemporaryFolder()
        let sectors = [12: 4096, 16: 65536, 32: 204_800][width] ?? 0
        try folder.write("a", "content")
        try DiskFixture.run(
            "mformat", ["-C", "-i", "\(folder.path)/fat", "-T", "\(sectors)"] + (width == 32 ? ["-F"] : []) + ["::"])
        try DiskFixture.run("mmd", ["-i", "\(folder.path)/fat", "::/EFI", "::/EFI/A long name"])
        for number in 0..<40 {
            try DiskFixture.run(
                "mcopy", ["-i", "\(folder.path)/fat", "\(folder.path)/a", "::/EFI/A long name/file number \(number)"])
        }
        var disk = try FileDisk(try Descriptor.open("\(folder.path)/fat", [.readOnly]))
        let volume = try #require(try FATVolume(&disk, at: 0))
        let file = try #require(try volume.lookUp(&disk, ["efi", "a LONG name", "File Number 39"]))
        #expect(file.size == 7 && !file.isFolder)
        #expect(try volume.lookUp(&disk, ["EFI", "A long name", "file number 40"]) == nil)
    }

    // MARK: Whole disks

    /// A disk with a GPT and, on an EFI system partition, Windows' boot manager and the file for x64.
    private static func windowsDisk(_ folder: TemporaryFolder) throws -> String {
        let path = "\(folder.path)/raw"
        try DiskImages.create(path, size: 64 << 20, format: .raw)
        try DiskFixture.run(
            "sgdisk", ["-n", "1:2048:67583", "-t", "1:EF00", "-n", "2:67584:+1M", "-t", "2:0C01", "-n", "3:0:0", path])
        try folder.write("efi", "MZ")
        let volume = "\(path)@@1M"
        try DiskFixture.run("mformat", ["-i", volume, "-T", "65536", "::"])
        try DiskFixture.run(
            "mmd", ["-i", volume, "::/EFI", "::/EFI/Boot", "::/EFI/Microsoft", "::/EFI/Microsoft/Boot"])
        for name in ["Boot/bootx64.efi", "Microsoft/Boot/bootmgfw.efi"] {
            try DiskFixture.run("mcopy", ["-i", volume, "\(folder.path)/efi", "::/EFI/\(name)"])
        }
        return path
    }

    @Test(.enabled(if: DiskFixture.hasTools, "qemu-utils, gdisk or mtools are not installed"))
    func theSameInEachFormat() throws {
        let folder = try TemporaryFolder()
        let raw = try Self.windowsDisk(folder)
        let first = try DiskInspection.inspect(path: raw)
        #expect(first.format == .raw && first.hasEFISystemPartition && first.isWindows && !first.isCD)
        #expect(first.efiArchitectures == [.x64])
        #expect(first.windowsEvidence == ["EFI/Microsoft/Boot/bootmgfw.efi is on partition 1"])
        #expect(first.partitions.map(\.number) == [1, 2, 3])
        #expect(!first.isBootableByBIOS)
        for (format, options) in [
            (DiskFormat.qcow2, []), (.vmdk, []), (.vmdk, ["-o", "subformat=streamOptimized"]), (.vdi, []), (.vhdx, []),
            (.vpc, ["-o", "force_size=on"]), (.vpc, ["-o", "subformat=fixed,force_size=on"]), (.qed, []),
        ] {
            let path = "\(folder.path)/image"
            try DiskFixture.run(
                "qemu-img", ["convert", "-f", "raw", "-O", format.rawValue] + options + [raw, path])
            // Whoever reads it as nobody has no right to the file.
            chmod(path, 0o600)
            let found = try DiskInspection.inspect(path: path)
            #expect(found.format == format)
            #expect(found.virtualSize == 64 << 20)
            #expect(found.table == first.table, "\(format)")
            #expect(found.windowsEvidence == first.windowsEvidence)
            #expect(found.reasons == first.reasons)
            let file = try Descriptor.open(path, [.readOnly])
            let check = try DiskImages.check(file, format: format)
            #expect(check == nil || check == DiskImages.Check(corruptions: 0, leaks: 0))
            #expect(try DiskImages.info(file, format: format).virtualSize == 64 << 20)
            unlink(path)
        }
    }

    @Test(.enabled(if: DiskFixture.hasImages, "qemu-utils are not installed"))
    func whatQEMURefusesIsAFault() throws {
        let folder = try TemporaryFolder()
        // An L2 table that is at no cluster's beginning: a look at the header does not see it.
        let image = DiskFixture.qcow2 { DiskFixture.put(&$0, 3 << 16, big: 1 << 63 | 0x10200, 8) }
        try Descriptor.open("\(folder.path)/bad", [.writeOnly, .create], mode: 0o600).writeAll(image)
        let fault = #expect(throws: DiskFault.self) { try DiskInspection.inspect(path: "\(folder.path)/bad") }
        #expect(fault?.code == .failed || fault?.code == .damaged)
        // Reference counts of 0 everywhere: `check` says so.
        let file = try Descriptor.open("\(folder.path)/bad", [.readOnly])
        #expect(try DiskImages.check(file, format: .qcow2)?.corruptions ?? 0 > 0)
    }

    @Test(.enabled(if: DiskFixture.hasImages, "qemu-utils are not installed"))
    func imagesAreMade() throws {
        let folder = try TemporaryFolder()
        let base = "\(folder.path)/base, with a comma"
        try DiskImages.create(base, size: 16 << 20, format: .qcow2)
        #expect(try FileStatus.of(base).mode == 0o600)
        let file = try Descriptor.open(base, [.readOnly])
        let header = try DiskHeader.read(file)
        #expect(header.format == .qcow2 && header.virtualSize == 16 << 20)
        let over = "\(folder.path)/over"
        try DiskImages.overlay(over: base, header, at: over)
        var bytes = MemoryDisk(try Descriptor.open(over, [.readOnly]).readAll(limit: 1 << 20))
        #expect(DiskFixture.code(bytes.content) == .backingFile)
        #expect(try bytes.bytes(at: 0, 4096).holds(base))
        // Nothing is overwritten, and no link followed.
        #expect(throws: DiskFault.self) { try DiskImages.create(over, size: 512, format: .qcow2) }
        #expect(throws: DiskFault.self) { try DiskImages.create("nbd:127.0.0.1:1", size: 512, format: .qcow2) }
        #expect(throws: DiskFault.self) { try DiskImages.create("\(folder.path)/c", size: 100, format: .raw) }
        #expect(throws: DiskFault.self) { try DiskImages.create("\(folder.path)/c", size: 512, format: .vmdk) }
        #expect(!folder.has("c"))
    }

    // MARK: Discs

    @Test(.enabled(if: DiskFixture.hasDiscs, "genisoimage is not installed"))
    func discs() throws {
        let folder = try TemporaryFolder()
        try folder.write("tree/sources/install.wim", "x")
        try folder.write("tree/EFI/BOOT/BOOTAA64.EFI", "x")
        try folder.write("tree/boot.img", String(repeating: " ", count: 2048))
        try DiskFixture.run(
            "genisoimage",
            [
                "-quiet", "-V", "WINDOWS", "-o", "\(folder.path)/iso", "-b", "boot.img", "-no-emul-boot", "-J", "-r",
                "\(folder.path)/tree",
            ])
        let found = try DiskInspection.inspect(path: "\(folder.path)/iso")
        #expect(found.isCD && found.format == .iso && found.isBootableByBIOS)
        #expect(found.windowsEvidence == ["sources/install.wim is on the disc"])
        #expect(found.efiArchitectures == [.aa64])
        let bytes = try Descriptor.open("\(folder.path)/iso", [.readOnly]).readAll(limit: 8 << 20)
        #expect(DiskFixture.code(Array(bytes[..<(bytes.count / 2 / 2048 * 2048)])) == .truncated)
    }

    // MARK: Anything

    @Test func mutationsNeverTrap() {
        var numbers = DiskFixture.Numbers(state: 20_261_122)
        var disc = [UInt8](repeating: 0, count: 24 << 11)
        DiskFixture.put(&disc, 16 << 11, [1] + Array("CD001".utf8))
        DiskFixture.put(&disc, (16 << 11) + 80, little: 20, 4)
        DiskFixture.put(&disc, (16 << 11) + 128, little: 2048, 2)
        DiskFixture.put(&disc, (16 << 11) + 158, little: 20, 4)
        DiskFixture.put(&disc, (16 << 11) + 166, little: 2048, 4)
        disc[(16 << 11) + 181] = 2
        DiskFixture.put(&disc, 17 << 11, [0] + Array("CD001\u{1}EL TORITO SPECIFICATION".utf8))
        DiskFixture.put(&disc, (17 << 11) + 71, little: 19, 4)
        DiskFixture.put(&disc, 19 << 11, [1])
        DiskFixture.put(&disc, (19 << 11) + 30, [0x55, 0xAA, 0x88])
        let seeds = [
            DiskFixture.qcow2(), DiskFixture.vmdk(), DiskFixture.gpt([(DiskFixture.efiSystem, 40, 49)]),
            Array(DiskFixture.loopingFAT()[..<(80 << 9)]), disc,
        ].map { Array($0.prefix(64 << 10)) }
        // Where structures are: what is changed elsewhere says little.
        let places = [0..<128, 440..<1200, 32768..<33000, 34816..<35000, 38912..<39000, 33280..<35000]
        for round in 0..<2000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 1...12, using: &numbers) {
                guard let range = places.randomElement(using: &numbers) else { continue }
                let place = Int.random(in: range, using: &numbers)
                if place >= bytes.count { continue }
                bytes[place] =
                    [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &numbers)]
                    .randomElement(using: &numbers) ?? 0
            }
            if round % 7 == 0 { bytes = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &numbers))) }
            fuzzDisk(bytes)
        }
    }

    @Test func theServerTakesAnything() throws {
        var disk = MemoryDisk([UInt8](0..<200))
        var server = NBDServer()
        server.take([0, 0, 0, 3])
        #expect(try server.answer(&disk) == [])
        server.take((NBDServer.Magic.option + [0, 0, 0, 1, 0, 0, 0, 0])[...])
        #expect(try server.answer(&disk) == [0, 0, 0, 0, 0, 0, 0, 200, 0, 3])
        func request(_ type: UInt8, _ place: UInt64, _ count: UInt64) throws -> [UInt8]? {
            let head = NBDServer.big(NBDServer.Magic.request, 4) + [0, 0, 0, type] + NBDServer.big(7, 8)
            server.take((head + NBDServer.big(place, 8) + NBDServer.big(count, 4))[...])
            return try server.answer(&disk)
        }
        let head = NBDServer.big(NBDServer.Magic.reply, 4)
        #expect(try request(0, 10, 3) == head + [0, 0, 0, 0] + NBDServer.big(7, 8) + [10, 11, 12])
        for (place, count) in [(199, 2), (UInt64.max, 1), (0, 0xFFFF_FFFF), (1 << 63, 1)] as [(UInt64, UInt64)] {
            #expect(try request(0, place, count) == head + [0, 0, 0, 22] + NBDServer.big(7, 8))
        }
        #expect(try request(1, 0, 0) == head + [0, 0, 0, 1] + NBDServer.big(7, 8))
        #expect(try request(2, 0, 0) == nil)
        #expect(server.isEnded)
    }
}
