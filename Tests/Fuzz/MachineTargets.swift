// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

@testable import HVBridge
@testable import ZoneRuntime

/// What comes from disks, and from guests.
let machineTargets = [
    FuzzTarget(name: "disk") { disk($0) },
    FuzzTarget(name: "guest-frame") { guestFrame($0) },
    FuzzTarget(name: "guest-configuration") { guestConfiguration($0) },
]

private func disk(_ input: Input) {
    var disk = MemoryDisk(input.bytes)
    for format in [nil] + DiskFormat.allCases.map(Optional.some) {
        guard let header = try? DiskHeader.read(&disk, as: format) else { continue }
        expect(header.virtualSize > 0, "a disk has a size")
        expect(format == nil || header.format == format, "a format that was named is taken")
        guard header.format.isPlain, let found = try? DiskInspection.inspect(&disk, header) else { continue }
        for partition in found.partitions {
            expect(
                partition.start > 0 && partition.size > 0 && partition.start <= disk.size - partition.size,
                "a partition lies on the disk")
        }
    }
}

/// The bytes in two pieces give the same frames as in one.
private func guestFrame(_ input: Input) {
    let bytes = input.bytes
    let whole = frames([bytes[...]])
    let half = bytes.count / 2
    expect(frames([bytes[..<half], bytes[half...]]) == whole, "frames depend on how they come")
    for frame in whole {
        expect(frame.payload.count <= GuestFrame.longest + 1, "a frame is longer than it may be")
        var reader = GuestFrameReader()
        reader.append(frame.bytes)
        expect((try? reader.next()) == frame, "a frame is read as it was written")
    }
}

private func frames(_ parts: [ArraySlice<UInt8>]) -> [GuestFrame] {
    var reader = GuestFrameReader()
    var found: [GuestFrame] = []
    for part in parts {
        reader.append(part)
        do throws(GuestFrameError) {
            while let frame = try reader.next() { found.append(frame) }
        } catch {
            return found
        }
    }
    return found
}

private func guestConfiguration(_ input: Input) {
    guard let configuration = try? GuestConfiguration(parsing: input.bytes) else { return }
    let text = configuration.serialized()
    guard let again = try? GuestConfiguration(parsing: text) else { return expect(false, "it is read as written") }
    expect(again == configuration, "it is read as it was written")
}
