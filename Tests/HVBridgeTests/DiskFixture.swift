// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport

@testable import HVBridge

/// Disks that are made of bytes, or by programs where they are installed.
enum DiskFixture {
    static let hasTools = ["qemu-img", "qemu-nbd", "sgdisk", "mformat", "mcopy", "mmd", "setpriv"].allSatisfy {
        (try? HostProgram.find($0)) != nil
    }
    static let hasImages = (try? HostProgram.find("qemu-img")) != nil && (try? HostProgram.find("qemu-nbd")) != nil
    static let hasDiscs = (try? HostProgram.find("genisoimage")) != nil

    /// Runs a program that must succeed.
    static func run(_ name: String, _ arguments: [String]) throws {
        var program = try HostProgram(name, arguments)
        program.environment.append("MTOOLS_SKIP_CHECK=1")
        let outcome = try program.run()
        guard outcome.status == .exited(0) else {
            throw DiskFault(.failed, "\(name): \(String(decoding: outcome.errors + outcome.output, as: UTF8.self))")
        }
    }

    /// What a header is refused for; nil where it is taken.
    static func code(_ bytes: [UInt8], as format: DiskFormat? = nil, size: Int64? = nil) -> DiskFault.Code? {
        var disk = MemoryDisk(bytes, size: size)
        do throws(DiskFault) { _ = try DiskHeader.read(&disk, as: format) } catch { return error.code }
        return nil
    }

    /// A qcow2 image of 1 GiB: header, reference counts, L1 table, each a cluster of 64 KiB.
    static func qcow2(_ change: (inout [UInt8]) -> Void = { _ in }) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4 << 16)
        put(&bytes, 0, [0x51, 0x46, 0x49, 0xFB])
        put(&bytes, 4, big: 3, 4)
        put(&bytes, 20, big: 16, 4)
        put(&bytes, 24, big: 1 << 30, 8)
        put(&bytes, 36, big: 2, 4)
        put(&bytes, 40, big: 3 << 16, 8)
        put(&bytes, 48, big: 1 << 16, 8)
        put(&bytes, 56, big: 1, 4)
        put(&bytes, 96, big: 4, 4)
        put(&bytes, 100, big: 104, 4)
        change(&bytes)
        return bytes
    }

    /// A sparse VMDK of 64 MiB with its description.
    static func vmdk(
        _ description: String = "createType=\"monolithicSparse\"\nRW 131072 SPARSE \"a.vmdk\"\n",
        _ change: (inout [UInt8]) -> Void = { _ in }
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 128 << 10)
        put(&bytes, 0, Array("KDMV".utf8))
        put(&bytes, 4, little: 1, 4)
        put(&bytes, 12, little: 131_072, 8)
        put(&bytes, 20, little: 128, 8)
        put(&bytes, 28, little: 1, 8)
        put(&bytes, 36, little: 20, 8)
        put(&bytes, 44, little: 512, 4)
        put(&bytes, 56, little: 26, 8)
        put(&bytes, 64, little: 128, 8)
        put(&bytes, 73, [0x0A, 0x20, 0x0D, 0x0A])
        put(&bytes, 512, Array("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\(description)".utf8))
        change(&bytes)
        return bytes
    }

    static func put(_ bytes: inout [UInt8], _ place: Int, _ part: [UInt8]) {
        bytes.replaceSubrange(place..<place + part.count, with: part)
    }

    static func put(_ bytes: inout [UInt8], _ place: Int, big value: UInt64, _ width: Int) {
        put(&bytes, place, NBDServer.big(value, width))
    }

    static func put(_ bytes: inout [UInt8], _ place: Int, little value: UInt64, _ width: Int) {
        put(&bytes, place, NBDServer.big(value, width).reversed())
    }

    /// A GPT with right sums on a disk of 64 sectors: entries of types, each with first and last sector.
    static func gpt(
        _ entries: [(type: [UInt8], first: UInt64, last: UInt64)], count: UInt64 = 128, width: UInt64 = 128
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64 << 9)
        put(&bytes, 450, [0xEE])
        put(&bytes, 510, [0x55, 0xAA])
        for (index, entry) in entries.enumerated() {
            put(&bytes, 1024 + 128 * index, entry.type)
            put(&bytes, 1024 + 128 * index + 32, little: entry.first, 8)
            put(&bytes, 1024 + 128 * index + 40, little: entry.last, 8)
        }
        put(&bytes, 512, Array("EFI PART".utf8))
        put(&bytes, 524, little: 92, 4)
        put(&bytes, 584, little: 2, 8)
        put(&bytes, 592, little: count, 4)
        put(&bytes, 596, little: width, 4)
        put(&bytes, 600, little: UInt64(CRC32.sum(Array(bytes[1024..<1024 + 16384]))), 4)
        put(&bytes, 528, little: UInt64(CRC32.sum(Array(bytes[512..<604]))), 4)
        return bytes
    }

    static let efiSystem: [UInt8] = [
        0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B,
    ]

    /// A FAT16 volume of which one folder's chain of clusters bites its own tail, and has no end.
    static func loopingFAT() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 8 << 20)
        put(&bytes, 0, [0xEB, 0x3C, 0x90])
        put(&bytes, 11, little: 512, 2)
        put(&bytes, 13, [1, 1, 0, 1])
        put(&bytes, 17, little: 16, 2)
        put(&bytes, 19, little: 16384, 2)
        put(&bytes, 22, little: 64, 2)
        put(&bytes, 54, Array("FAT16   ".utf8))
        put(&bytes, 510, [0x55, 0xAA])
        put(&bytes, 65 << 9, Array("EFI        ".utf8) + [0x10])
        put(&bytes, (65 << 9) + 26, little: 2, 2)
        // Cluster 2 is followed by 3, and that by 2.
        put(&bytes, 512 + 4, little: 3, 2)
        put(&bytes, 512 + 6, little: 2, 2)
        for entry in stride(from: 66 << 9, to: 68 << 9, by: 32) {
            put(&bytes, entry, Array("OTHER      ".utf8) + [0x20])
        }
        return bytes
    }

    /// Numbers that are the same in each run.
    struct Numbers: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }
}

/// Takes any bytes through all that looks at disks: for the fuzzer, too.
func fuzzDisk(_ bytes: [UInt8]) {
    var disk = MemoryDisk(bytes)
    for format in [nil] + DiskFormat.allCases.map(Optional.some) {
        guard let header = try? DiskHeader.read(&disk, as: format) else { continue }
        precondition(header.virtualSize > 0 && UInt64(header.virtualSize) <= DiskHeader.largest)
        precondition(format == nil || header.format == format)
        precondition(header.format != .luks)
        // The look inside is the same for each name of plain content.
        if format == .raw, header.notes.isEmpty { continue }
        guard header.format.isPlain, let found = try? DiskInspection.inspect(&disk, header) else { continue }
        for partition in found.partitions {
            precondition(partition.start > 0 && partition.size > 0 && partition.start <= disk.size - partition.size)
        }
    }
    _ = try? FATVolume(&disk, at: 0)?.lookUp(&disk, ["EFI", "Microsoft", "Boot", "bootmgfw.efi"])
    _ = try? ISOVolume(&disk)?.lookUp(&disk, ["EFI", "BOOT", "BOOTX64.EFI"])
    var server = NBDServer()
    server.take(bytes[...])
    while let reply = try? server.answer(&disk) { precondition(reply.count <= 33 << 20) }
}
