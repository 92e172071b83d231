// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// A command line for QEMU in the making.
struct QEMUCommandLine {
    private(set) var words: [String] = []
    /// The drivers of all devices, in order.
    private(set) var deviceNames: [String] = []
    private var sets: Set<CInt> = []

    /// Adds words as they are.
    mutating func add(_ words: String...) {
        self.words += words
    }

    /// Adds an option and its value `FIRST,KEY=VALUE,…`; what is `nil` is left out.
    mutating func add(_ option: String, _ first: String?, _ pairs: KeyValuePairs<String, String?>) {
        var parts: [String] = []
        if let first { parts.append(QEMUCommandLine.escaped(first)) }
        for case (let key, let value?) in pairs { parts.append("\(key)=\(QEMUCommandLine.escaped(value))") }
        words += [option, parts.joined(separator: ",")]
    }

    /// Adds a device that is plugged in where QEMU or the board decides.
    mutating func device(_ driver: String, _ pairs: KeyValuePairs<String, String?>) {
        device(driver, Place(), pairs)
    }

    /// Adds a device. `place` is where it is plugged in.
    mutating func device(_ driver: String, _ place: Place, _ pairs: KeyValuePairs<String, String?>) {
        deviceNames.append(driver)
        var parts = [QEMUCommandLine.escaped(driver)]
        for case (let key, let value?) in pairs { parts.append("\(key)=\(QEMUCommandLine.escaped(value))") }
        if let bus = place.bus { parts.append("bus=\(bus)") }
        if let address = place.address { parts.append("addr=\(address)") }
        if place.isMultifunction { parts.append("multifunction=on") }
        words += ["-device", parts.joined(separator: ",")]
    }

    /// Adds a block node, as JSON: nothing in a file's name can mean anything there.
    mutating func blockNode(_ members: [JSON.Member]) {
        var writer = JSONWriter()
        JSON.object(members).write(to: &writer)
        words += ["-blockdev", String(decoding: writer.bytes, as: UTF8.self)]
    }

    /// Adds a character device on a socket that QEMU inherits, and returns its name.
    mutating func socket(_ id: String, _ descriptor: CInt) -> String {
        add("-chardev", "socket", ["id": id, "fd": "\(descriptor)"])
        return id
    }

    /// Hands an inherited descriptor to QEMU's table of files, and returns the name by which it opens it.
    mutating func file(_ descriptor: CInt) -> String {
        if sets.insert(descriptor).inserted {
            add("-add-fd", nil, ["fd": "\(descriptor)", "set": "\(descriptor)"])
        }
        return "/dev/fdset/\(descriptor)"
    }

    /// A comma ends a value unless there are two.
    static func escaped(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            bytes.append(byte)
            if byte == UInt8(ascii: ",") { bytes.append(byte) }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Where a device is plugged in; all `nil` where QEMU or the board decides.
    struct Place {
        var bus: String?
        var address: String?
        var isMultifunction = false
    }
}

/// `on` or `off`.
func onOff(_ isOn: Bool) -> String { isOn ? "on" : "off" }
