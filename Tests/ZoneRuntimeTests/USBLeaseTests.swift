// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import ZoneRuntime

/// Devices that look as sysfs shows them, with files in the place of their nodes.
@Suite struct USBLeaseTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func plug(_ port: String, _ id: String, bus: Int, number: Int, serial: String? = nil) throws {
        let device = try Descriptor.makePath("\(folder.path)/sys/\(port)")
        let (vendor, product) = id.halves(":")
        for (name, value) in [
            ("idVendor", vendor), ("idProduct", product ?? ""), ("busnum", String(bus)), ("devnum", String(number)),
        ] {
            try device.replaceFile(name, Array("\(value)\n".utf8))
        }
        if let serial { try device.replaceFile("serial", Array("\(serial)\n".utf8)) }
        let nodes = try Descriptor.makePath("\(folder.path)/dev/00\(bus)")
        try nodes.replaceFile("00\(number)", [])
    }

    private func lease(_ zone: String) -> USBLease {
        USBLease(
            notes: "\(folder.path)/notes", zone: zone, system: "\(folder.path)/sys", devices: "\(folder.path)/dev")
    }

    private func request(_ device: String, serial: String? = nil, port: String? = nil) -> USBRequest {
        var request = USBRequest()
        (request.device, request.serial, request.port) = (device, serial, port)
        return request
    }

    @Test func oneZoneHasADeviceUntilItsLastDescriptorIsClosed() throws {
        try plug("1-2", "046d:c31c", bus: 1, number: 4)
        let held = try lease("web").take(request("046d:c31c"))
        do {
            _ = try lease("db").take(request("046d:c31c"))
            Issue.record("two zones have it")
        } catch {
            #expect(error.detail.contains("zone web has it"))
        }
        // QEMU's copy.
        let copy = try held.duplicate()
        drop(held)
        #expect(throws: ZoneError.self) { _ = try lease("db").take(request("046d:c31c")) }
        drop(copy)
        _ = try lease("db").take(request("046d:c31c"))
    }

    @Test func ofTwoAlikeOneMustBeNamed() throws {
        try plug("1-2", "0951:1666", bus: 1, number: 4, serial: "A1")
        try plug("1-3.1", "0951:1666", bus: 1, number: 5, serial: "B2")
        do {
            _ = try lease("web").take(request("0951:1666"))
            Issue.record("one of two was taken")
        } catch {
            #expect(error.detail.contains("2 such devices"))
            #expect(error.hint?.contains("serial=B2") == true)
        }
        let first = try lease("web").take(request("0951:1666", serial: "B2"))
        let second = try lease("db").take(request("0951:1666", port: "1-2"))
        #expect(first.raw != second.raw)
    }

    @Test func whatIsNotThereIsSaid() throws {
        do {
            _ = try lease("web").take(request("ffff:ffff"))
            Issue.record("what is not there was taken")
        } catch {
            #expect(error.code == .notFound)
        }
    }

    @Test func damagedEntriesAreNoDevices() throws {
        try plug("1-2", "046d:c31c", bus: 1, number: 4)
        let device = try Descriptor.open("\(folder.path)/sys/1-2", [.readOnly, .directory])
        for text in ["", "-1", "99999999999", "\u{0}"] {
            try device.replaceFile("busnum", Array(text.utf8))
            #expect(lease("web").all().isEmpty)
        }
    }
}
