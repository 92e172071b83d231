// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Gives a device on the host's USB to one zone at a time (P17). The lease is a lock, flock(2), on the open device node, which QEMU
/// holds: it goes with the machine. A note beside says whose it is.
struct USBLease {
    private let notes: String
    private let zone: String
    private let system: String
    private let devices: String

    init(_ store: ZoneStore, _ zone: String, system: String = "/sys/bus/usb/devices", devices: String = "/dev/bus/usb")
    {
        self.init(notes: "\(store.folders.root)/.usb", zone: zone, system: system, devices: devices)
    }

    init(notes: String, zone: String, system: String, devices: String) {
        self.notes = notes
        self.zone = zone
        self.system = system
        self.devices = devices
    }

    /// A device as sysfs tells of it.
    struct Device: Sendable, Equatable {
        /// Where it is plugged in, `1-2.3`.
        var port = ""
        /// `046d:c31c`.
        var id = ""
        var serial: String?
        var bus: UInt16 = 0
        var number: UInt16 = 0
        /// Names of drivers of the host's that have it.
        var drivers: [String] = []
    }

    /// Opens and leases the device that a request means.
    func take(_ request: USBRequest, others: [USBRequest] = []) throws(ZoneError) -> Descriptor {
        let found = all().filter { device in
            device.id == request.device.lowercased() && (request.serial.map { $0 == device.serial } ?? true)
                && (request.port.map { $0 == device.port } ?? true)
        }
        guard let device = found.first else {
            throw ZoneError(
                .notFound, "--usb \(request.text): no such device is plugged in", hint: "'lsusb' lists what is there")
        }
        guard found.count == 1 else {
            let ports = found.map { "port=\($0.port)" + ($0.serial.map { ",serial=\($0)" } ?? "") }
            throw ZoneError(
                .invalid, "--usb \(request.text): \(found.count) such devices are plugged in",
                hint: "say which: " + ports.joined(separator: " or "))
        }
        if let driver = device.drivers.first(where: { ["usb-storage", "uas"].contains($0) }), isMounted(device) {
            throw ZoneError(
                .wrongState, "--usb \(request.text): the host has mounted it (\(driver))", hint: "unmount it first")
        }
        let path = "\(devices)/\(USBLease.digits(device.bus))/\(USBLease.digits(device.number))"
        let node = try attempting("--usb \(request.text)") { () throws(SystemError) in
            try Descriptor.open(path, [.readWrite])
        }
        let result = zn_flock(node.raw, 2 | 4 /* LOCK_EX, LOCK_NB */)
        let name = "\(device.bus)-\(device.number)"
        if result == -EAGAIN {
            let owner = (try? readHostFile("\(notes)/\(name)", limit: 256)).map { String(decoding: $0, as: UTF8.self) }
            throw ZoneError(
                .wrongState, "--usb \(request.text): zone \(owner ?? "of another root") has it",
                hint: owner.map { "'zonectl stop \($0)' gives it back" })
        }
        try attempting("--usb \(request.text)") { () throws(SystemError) in
            try check(result, "lock", path)
            try Descriptor.makePath(notes, mode: 0o700).replaceFile(name, Array(zone.utf8), mode: 0o600)
        }
        return node
    }

    private static func digits(_ number: UInt16) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 3 - text.utf8.count)) + text
    }

    /// What is plugged in; hubs' interfaces (`1-2:1.0`) are none.
    func all() -> [Device] {
        guard let folder = try? Descriptor.open(system, [.readOnly, .directory]), let names = try? folder.entries()
        else {
            return []
        }
        var result: [Device] = []
        for name in names.sorted() where !name.utf8.contains(UInt8(ascii: ":")) {
            guard let vendor = text(name, "idVendor"), let product = text(name, "idProduct"),
                let bus = text(name, "busnum").flatMap({ UInt16($0) }),
                let number = text(name, "devnum").flatMap({ UInt16($0) })
            else { continue }
            var device = Device()
            (device.port, device.id, device.bus, device.number) = (name, "\(vendor):\(product)", bus, number)
            device.serial = text(name, "serial")
            device.drivers = names.filter { $0.hasPrefix("\(name):") }.compactMap { interface in
                (try? Descriptor.open("\(system)/\(interface)", [.path, .directory]).readLink("driver"))?
                    .pathComponents.last
            }
            result.append(device)
        }
        return result
    }

    private func text(_ device: String, _ file: String) -> String? {
        guard let bytes = try? readHostFile("\(system)/\(device)/\(file)", limit: 256) else { return nil }
        let line = bytes.prefix { $0 != 0x0A }
        return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
    }

    /// Whether a disk behind it is mounted: its blocks are found by the device's own path in sysfs.
    private func isMounted(_ device: Device) -> Bool {
        guard let table = try? readHostFile("/proc/self/mountinfo", limit: 4 << 20) else { return false }
        for line in String(decoding: table, as: UTF8.self).fields("\n") {
            let fields = line.fields(" ")
            guard fields.count > 2 else { continue }
            let place = try? Descriptor.open("/sys/dev/block", [.path, .directory]).readLink(fields[2])
            if place?.pathComponents.contains(device.port) ?? false { return true }
        }
        return false
    }
}

extension USBRequest {
    /// As `--usb` has it.
    public var text: String {
        device + (serial.map { ",serial=\($0)" } ?? "") + (port.map { ",port=\($0)" } ?? "")
    }
}
