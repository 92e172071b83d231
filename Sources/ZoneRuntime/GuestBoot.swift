// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// What a machine's first process finds and makes before it can talk to the host. What can wait is done once it has.
enum GuestBoot {
    /// The name of the port on the host's side.
    static let portName = "zone.agent.0"
    private static let ports = "/sys/class/virtio-ports"

    /// How long the port may take to appear, and the host to open its end, in milliseconds.
    private static let patience: Int64 = 30_000

    static func mountDevices() throws(SystemError) {
        try mount("sysfs", "/sys", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))
        try mount("devtmpfs", "/dev", UInt(MS_NOSUID), "mode=755")
    }

    static func mountRest() throws(SystemError) {
        try mount("proc", "/proc", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))
        try mount("tmpfs", "/run", UInt(MS_NOSUID | MS_NODEV), "mode=755")
    }

    private static func mount(
        _ type: String, _ place: String, _ flags: UInt, _ options: String = ""
    ) throws(SystemError) {
        let made = zn_mkdirat(AT_FDCWD, place, 0o755)
        if made != -EEXIST { try check(made, "mkdir", place) }
        let result = zn_mount(type, place, type, flags, options)
        // The kernel may have mounted it by itself.
        if result != -EBUSY { try check(result, "mount \(type)", place) }
    }

    /// Waits for the port, and for the host at its other end.
    static func openPort() throws(SystemError) -> Descriptor {
        let begin = MonotonicClock.milliseconds
        while true {
            if let name = findPort() {
                let port = try Descriptor.open("/dev/\(name)", [.readWrite, .nonBlocking])
                while !isConnected(port) {
                    try waitMore(begin)
                }
                return port
            }
            try waitMore(begin)
        }
    }

    private static func waitMore(_ begin: Int64) throws(SystemError) {
        if MonotonicClock.milliseconds - begin > patience {
            throw SystemError("wait for the port", portName, .timedOut)
        }
        pause(milliseconds: 1)
    }

    private static func findPort() -> String? {
        guard let folder = try? Descriptor.open(ports, [.path, .directory]), let names = try? folder.entries() else {
            return nil
        }
        return names.first { name in
            guard let text = try? readHostFile("\(ports)/\(name)/name", limit: 4096) else { return false }
            return text.elementsEqual(Array("\(portName)\n".utf8))
        }
    }

    private static func isConnected(_ port: borrowing Descriptor) -> Bool {
        var entry = pollfd(fd: port.raw, events: Int16(POLLOUT), revents: 0)
        return zn_poll(&entry, 1, 0) >= 0 && entry.revents & Int16(POLLHUP) == 0
    }
}

/// The drivers that came with the kernel: `/modules/order` has a line for each feature, `net: a.ko b.ko`.
struct GuestModules {
    private static let folder = "/modules"

    private let features: [(name: String, files: [String])]
    private var loaded: Set<String> = []

    /// A kernel without a list has everything built in.
    init() {
        let text = (try? readHostFile("\(GuestModules.folder)/order", limit: 64 << 10)) ?? []
        features = GuestModules.features(of: text)
    }

    static func features(of text: [UInt8]) -> [(name: String, files: [String])] {
        text.split(separator: UInt8(ascii: "\n")).compactMap { line in
            let (name, rest) = String(decoding: line, as: UTF8.self).halves(":")
            guard let rest else { return nil }
            let files = rest.utf8.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
            return (name, files)
        }
    }

    /// Loads what a feature needs, up to a module where one is given.
    mutating func load(_ feature: String, through last: String? = nil) throws(SystemError) {
        for entry in features where entry.name == feature {
            for file in entry.files {
                if loaded.insert(file).inserted, isUseful(file) { try load(file: file) }
                if file == last { return }
            }
        }
    }

    private func load(file: String) throws(SystemError) {
        let path = "\(GuestModules.folder)/\(file)"
        let module = try Descriptor.open(path, [.readOnly])
        let result = zn_load_module(module.raw)
        // Built in, or loaded by the kernel itself.
        if result != -EEXIST { try check(result, "load module", path) }
    }

    /// A machine without that bus needs no driver of it.
    private func isUseful(_ file: String) -> Bool {
        guard file.hasPrefix("virtio_pci") else { return true }
        guard let folder = try? Descriptor.open("/sys/bus/pci/devices", [.path, .directory]) else { return false }
        return (try? folder.entries())?.isEmpty == false
    }

    /// Loads drivers for devices that nobody waits for.
    mutating func loadForDevices() throws(SystemError) {
        let place = "/sys/bus/virtio/devices"
        guard let folder = try? Descriptor.open(place, [.path, .directory]) else { return }
        for name in try folder.entries() {
            // Numbers of the virtio specification, section 5.
            let number = (try? readHostFile("\(place)/\(name)/device", limit: 4096)) ?? []
            switch String(decoding: number, as: UTF8.self) {
            case "0x0004\n": try load("rng")
            case "0x0005\n": try load("balloon")
            default: break
            }
        }
    }
}
