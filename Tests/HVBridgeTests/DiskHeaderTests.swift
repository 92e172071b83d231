// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import TestSupport
import Testing

@testable import HVBridge

/// Headers that are taken, and those that are refused.
struct DiskHeaderTests {
    @Test func aPlainQCow2IsTaken() throws {
        var disk = MemoryDisk(DiskFixture.qcow2())
        let header = try DiskHeader.read(&disk)
        #expect(header.format == .qcow2)
        #expect(header.virtualSize == 1 << 30)
        #expect(!header.isDirty)
        var dirty = MemoryDisk(DiskFixture.qcow2 { $0[79] = 1 })
        #expect(try DiskHeader.read(&dirty).isDirty)
    }

    @Test(
        arguments: [
            (8, 8, 512, DiskFault.Code.backingFile), (72, 8, 4, .otherFiles), (72, 8, 2, .damaged),
            (72, 8, 32, .unsupported),
            (72, 8, 1 << 63, .unsupported), (32, 4, 1, .encrypted), (32, 4, 2, .encrypted), (4, 4, 9, .unsupported),
            (4, 4, 1, .unsupported), (20, 4, 0, .damaged), (20, 4, 63, .damaged), (20, 4, 0xFFFF_FFFF, .damaged),
            (24, 8, 0, .empty), (24, 8, UInt64.max, .damaged), (36, 4, 1, .damaged), (36, 4, 0xFFFF_FFFF, .damaged),
            (40, 8, 0, .damaged), (40, 8, 1 << 40, .truncated), (40, 8, UInt64.max & ~0xFFFF, .truncated),
            (40, 8, 7, .damaged),
            (48, 8, 0, .damaged), (48, 8, 1 << 40, .truncated), (56, 4, 4, .truncated), (56, 4, 0xFFFF_FFFF, .damaged),
            (60, 4, 1 << 20, .damaged), (64, 8, 0, nil), (100, 4, 0, .damaged), (100, 4, 0xFFFF_FFF8, .damaged),
            (100, 4, 105, .damaged), (96, 4, 7, .damaged), (104, 8, 0x4441_5441_0000_0000, .otherFiles),
            (104, 8, 0x0537_BE77_0000_0010, .encrypted), (104, 8, 0xE279_2ACA_0000_0005, .backingFile),
            (104, 8, 0x1234_5678_FFFF_FFFF, .damaged), (104, 8, 0x6803_F857_0000_0008, nil),
        ] as [(Int, Int, UInt64, DiskFault.Code?)])
    func aFieldOfQCow2(_ place: Int, _ width: Int, _ value: UInt64, _ code: DiskFault.Code?) {
        let bytes = DiskFixture.qcow2 { DiskFixture.put(&$0, place, big: value, width) }
        #expect(DiskFixture.code(bytes) == code)
        // Who names the format is refused the same.
        #expect(DiskFixture.code(bytes, as: .qcow2) == code)
    }

    @Test func whatIsCutOffIsRefused() {
        let image = DiskFixture.qcow2()
        for count in stride(from: 0, to: 1024, by: 8) {
            #expect(DiskFixture.code(Array(image[..<count])) != nil, "\(count)")
        }
        #expect(DiskFixture.code(Array(image[..<(3 << 16)])) == .truncated)
        #expect(DiskFixture.code([]) == .empty)
    }

    @Test func rawIsTakenWhereItBeginsAsADisk() {
        var disk = [UInt8](repeating: 0, count: 128 << 10)
        #expect(DiskFixture.code(disk) == .unknown)
        #expect(DiskFixture.code(disk, as: .raw) == nil)
        #expect(DiskFixture.code(disk + [0], as: .raw) == .truncated)
        for (place, magic) in [
            (510, "\u{55}"), (512, "EFI PART"), (4096, "EFI PART"), (0, "XFSB"), (65600, "_BHRfS_M"),
            (4086, "SWAPSPACE2"), (512, "LABELONE"),
        ] {
            var other = disk
            DiskFixture.put(&other, place, Array(magic.utf8))
            if place == 510 { other[511] = 0xAA }
            #expect(DiskFixture.code(other) == nil, "\(magic)")
        }
        DiskFixture.put(&disk, 0, [0x1F, 0x8B, 0x08])
        #expect(DiskFixture.code(disk) == .unsupported)
    }

    @Test func rawIsWhatIsAskedForButNotSilently() throws {
        var disk = MemoryDisk(DiskFixture.qcow2 { DiskFixture.put(&$0, 8, big: 512, 8) })
        let header = try DiskHeader.read(&disk, as: .raw)
        #expect(header.format == .raw && header.notes.count == 1)
        #expect(DiskFixture.code(disk.content, as: .vdi) == .otherFormat)
        #expect(DiskFixture.code(disk.content, as: .iso) == .otherFormat)
    }

    @Test func encryptionIsRefused() {
        let luks = Array("LUKS".utf8) + [0xBA, 0xBE] + [UInt8](repeating: 0, count: 4090)
        #expect(DiskFixture.code(luks) == .encrypted)
        #expect(DiskFixture.code(luks, as: .luks) == .encrypted)
    }

    @Test func aDiscThatIsAnImageIsAmbiguous() {
        let bytes = DiskFixture.qcow2 { DiskFixture.put(&$0, 32768, [1] + Array("CD001".utf8)) }
        #expect(DiskFixture.code(bytes) == .ambiguous)
        #expect(DiskFixture.code(bytes, as: .qcow2) == nil)
    }

    @Test func vmdk() throws {
        var disk = MemoryDisk(DiskFixture.vmdk())
        #expect(try DiskHeader.read(&disk).virtualSize == 64 << 20)
        let others = [
            "parentFileNameHint=\"/etc/shadow\"\n", "PARENTFILENAMEHINT = \"x\"\n", "parentCID=12345678\n",
        ]
        for line in others { #expect(DiskFixture.code(DiskFixture.vmdk(line)) == .backingFile, "\(line)") }
        for type in ["twoGbMaxExtentSparse", "monolithicFlat", "vmfs"] {
            #expect(DiskFixture.code(DiskFixture.vmdk("createType=\"\(type)\"\n")) == .otherFiles)
        }
        #expect(DiskFixture.code(DiskFixture.vmdk("RW 1 FLAT \"/etc/shadow\"\nRW 1 FLAT \"b\"\n")) == .otherFiles)
        func field(_ place: Int, _ value: UInt64, _ width: Int = 8) -> DiskFault.Code? {
            DiskFixture.code(DiskFixture.vmdk { DiskFixture.put(&$0, place, little: value, width) })
        }
        #expect(field(12, 0) == .otherFiles)
        #expect(field(12, UInt64.max) == .damaged)
        #expect(field(20, 3) == .damaged)
        #expect(field(44, 0, 4) == .damaged)
        #expect(field(28, 1 << 40) == .truncated)
        #expect(field(36, UInt64.max) == .truncated)
        #expect(field(56, 1 << 40) == .truncated)
        #expect(field(56, UInt64.max) == .truncated)
        #expect(field(4, 4, 4) == .unsupported)
        let text = Array("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n".utf8)
        #expect(DiskFixture.code(text) == .otherFiles)
        #expect(DiskFixture.code(Array("# x\n\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n".utf8)) == .otherFiles)
        #expect(DiskFixture.code(Array("COWD".utf8) + [UInt8](repeating: 0, count: 4092)) == .unsupported)
    }

    @Test(.enabled(if: DiskFixture.hasImages, "qemu-img is not installed"))
    func imagesOfQEMUs() throws {
        let folder = try TemporaryFolder()
        for (format, options) in [
            (DiskFormat.qcow2, []), (.qcow2, ["-o", "compat=0.10"]), (.qcow2, ["-o", "extended_l2=on"]),
            (.qcow2, ["-o", "compression_type=zstd"]), (.vmdk, []), (.vmdk, ["-o", "subformat=streamOptimized"]),
            (.vdi, []),
            (.vdi, ["-o", "static=on"]), (.vhdx, []), (.vpc, ["-o", "force_size=on"]),
            (.vpc, ["-o", "subformat=fixed,force_size=on"]), (.qed, []),
        ] {
            let path = "\(folder.path)/\(format.rawValue)"
            try? folder.descriptor.removeTree(format.rawValue)
            try DiskFixture.run("qemu-img", ["create", "-q", "-f", format.rawValue] + options + [path, "64M"])
            let bytes = try Descriptor.open(path, [.readOnly]).readAll(limit: 80 << 20)
            var disk = MemoryDisk(bytes)
            let header = try DiskHeader.read(&disk)
            #expect(header.format == format)
            #expect(header.virtualSize == 64 << 20, "\(format) \(options)")
            // Cut anywhere in what describes it, each is refused or another thing; none traps.
            // A VDI without content is whole once its map is there.
            for count in stride(from: 0, to: min(bytes.count, format == .vdi ? 768 : 8192), by: 64) {
                #expect(DiskFixture.code(Array(bytes[..<count])) != nil, "\(format) \(options) \(count)")
            }
        }
        for subformat in ["monolithicFlat", "twoGbMaxExtentSparse"] {
            let path = "\(folder.path)/\(subformat)"
            try DiskFixture.run(
                "qemu-img", ["create", "-q", "-f", "vmdk", "-o", "subformat=\(subformat)", path, "64M"])
            let file = try Descriptor.open(path, [.readOnly])
            #expect(throws: DiskFault.self) { try DiskHeader.read(file) }
        }
        // An image over another, and one whose content is elsewhere.
        try DiskFixture.run(
            "qemu-img",
            ["create", "-q", "-f", "qcow2", "-b", "\(folder.path)/qcow2", "-F", "qcow2", "\(folder.path)/over"])
        try DiskFixture.run(
            "qemu-img",
            ["create", "-q", "-f", "qcow2", "-o", "data_file=\(folder.path)/data", "\(folder.path)/elsewhere", "64M"])
        try DiskFixture.run(
            "qemu-img",
            ["create", "-q", "-f", "vmdk", "-b", "\(folder.path)/vmdk", "-F", "vmdk", "\(folder.path)/overvmdk"])
        for (name, code) in [
            ("over", DiskFault.Code.backingFile), ("elsewhere", .otherFiles), ("overvmdk", .backingFile),
        ] {
            let bytes = try Descriptor.open("\(folder.path)/\(name)", [.readOnly]).readAll(limit: 80 << 20)
            #expect(DiskFixture.code(bytes) == code, "\(name)")
        }
    }

    @Test(.enabled(if: DiskFixture.hasImages, "qemu-img is not installed"))
    func fieldsOfVDIAndVPC() throws {
        let folder = try TemporaryFolder()
        func bytes(_ format: String) throws -> [UInt8] {
            try DiskFixture.run("qemu-img", ["create", "-q", "-f", format, "\(folder.path)/\(format)", "64M"])
            return try Descriptor.open("\(folder.path)/\(format)", [.readOnly]).readAll(limit: 80 << 20)
        }
        let vdi = try bytes("vdi")
        func change(_ place: Int, _ value: UInt64, _ width: Int = 4) -> DiskFault.Code? {
            var copy = vdi
            DiskFixture.put(&copy, place, little: value, width)
            return DiskFixture.code(copy)
        }
        #expect(change(76, 4) == .backingFile)
        #expect(change(440, 1) == .backingFile)
        #expect(change(340, 0xFFFF_FE00) == .truncated)
        #expect(change(384, 0xFFFF_FFFF) == .damaged)
        #expect(change(388, 64) == .truncated)
        #expect(change(376, 7) == .unsupported)
        #expect(change(368, UInt64.max, 8) == .damaged)
        var vpc = try bytes("vpc")
        vpc[63] = 4
        #expect(DiskFixture.code(vpc) == .damaged)
        // With the right sum.
        let sum = (0..<512).reduce(UInt32(0)) { (64..<68).contains($1) ? $0 : $0 &+ UInt32(vpc[$1]) }
        DiskFixture.put(&vpc, 64, big: UInt64(~sum), 4)
        #expect(DiskFixture.code(vpc) == .backingFile)
    }

    @Test func whatIsNoFileIsRefused() throws {
        for path in ["/dev/null", "/", "/proc/self/fd"] {
            #expect(throws: DiskFault.self, "\(path)") { try DiskInspection.inspect(path: path) }
        }
    }
}
