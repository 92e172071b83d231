// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// Firmware of the host's that starts a full machine.
public enum Firmware: Sendable, Equatable {
    /// QEMU has it: nothing is to be given.
    case builtIn
    case uefi(UEFI)
    /// A loader that goes into the place of a kernel; its path.
    case bootLoader(path: String)

    public struct UEFI: Sendable, Equatable {
        /// The path of the code.
        public let code: String
        /// The path of the file of variables that a new machine gets a copy of.
        public let template: String
        /// Whether the code protects the variables in system management mode: `isSecure` of the machine's firmware.
        public let isSecure: Bool

        public init(code: String, template: String, isSecure: Bool) {
            self.code = code
            self.template = template
            self.isSecure = isSecure
        }
    }

    /// Which signatures the firmware asks for.
    public enum SecureBoot: Sendable, Equatable {
        case off
        /// Of what Microsoft signed: Windows, and Linux by its shim.
        case enrolled
        /// None until the guest enrolls keys of its own.
        case ownKeys
    }

    /// Finds firmware for an architecture's own board: by the descriptors that QEMU's documentation calls
    /// docs/interop/firmware.json, then where Debian has it. Throws `.missing` with the package's name.
    public static func find(
        _ architecture: GuestArchitecture, secureBoot: SecureBoot = .off
    ) throws(MachineFault) -> Firmware {
        try FirmwareSearch().find(architecture, secureBoot)
    }
}

/// A search for firmware; tests have a root of their own.
struct FirmwareSearch {
    /// Goes in front of every path that is looked at, and of none that is returned.
    var root = ""
    /// Folders of descriptors. A file in the first hides one of the same name in the second.
    var folders = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"]

    func find(
        _ architecture: GuestArchitecture, _ secureBoot: Firmware.SecureBoot
    ) throws(MachineFault) -> Firmware {
        switch architecture {
        case .amd64, .i386, .aarch64, .armv7:
            for descriptor in descriptors() {
                if let found = descriptor.firmware(architecture, secureBoot), isThere(found) { return .uefi(found) }
            }
            for found in FirmwareSearch.debian(architecture, secureBoot) where isThere(found) { return .uefi(found) }
        case .riscv64:
            if secureBoot != .off { break }
            // OpenSBI is QEMU's own and knows no disks.
            let path = "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf"
            if isFile(path) { return .bootLoader(path: path) }
        case .ppc64le, .s390x:
            if secureBoot == .off { return .builtIn }
        }
        throw missing(architecture, secureBoot)
    }

    private func missing(_ architecture: GuestArchitecture, _ secureBoot: Firmware.SecureBoot) -> MachineFault {
        switch architecture {
        case .riscv64 where secureBoot != .off, .ppc64le, .s390x:
            return MachineFault(.unsupported, "a machine of \(architecture.rawValue) has no secure boot")
        default: break
        }
        let kind = secureBoot == .off ? "firmware" : "firmware with secure boot"
        return MachineFault(
            .missing, "there is no \(kind) for \(architecture.rawValue) machines on this host",
            hint: "install the package \(architecture.firmwarePackage)")
    }

    /// Descriptors in the order of their names, which begin with a priority. Damaged ones are left out, as QEMU's rules have
    /// it; so is an empty file, by which an administrator hides one.
    private func descriptors() -> [FirmwareDescriptor] {
        var paths: [String: String] = [:]
        for folder in folders {
            guard let directory = try? Descriptor.open(root + folder, [.readOnly, .directory]),
                let names = try? directory.entries()
            else { continue }
            for name in names.prefix(1024) where name.hasSuffix(".json") && paths[name] == nil {
                paths[name] = "\(root)\(folder)/\(name)"
            }
        }
        var found: [FirmwareDescriptor] = []
        for (_, path) in paths.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            // Looked at first: to open a FIFO would wait for a writer.
            guard let kind = try? FileStatus.of(path).kind, kind == .regular,
                let bytes = try? readHostFile(path, limit: 1 << 18), let json = try? JSON(parsing: bytes),
                let descriptor = FirmwareDescriptor(json)
            else { continue }
            found.append(descriptor)
        }
        return found
    }

    private func isThere(_ found: Firmware.UEFI) -> Bool { isFile(found.code) && isFile(found.template) }

    private func isFile(_ path: String) -> Bool {
        (try? FileStatus.of(root + path))?.kind == .regular
    }

    /// Debian's places, best first.
    private static func debian(
        _ architecture: GuestArchitecture, _ secureBoot: Firmware.SecureBoot
    ) -> [Firmware.UEFI] {
        func pair(_ folder: String, _ code: String, _ variables: String, _ isSecure: Bool = false) -> Firmware.UEFI {
            Firmware.UEFI(
                code: "/usr/share/\(folder)/\(code).fd", template: "/usr/share/\(folder)/\(variables).fd",
                isSecure: isSecure)
        }
        switch (architecture, secureBoot) {
        case (.amd64, .off):
            return [pair("OVMF", "OVMF_CODE_4M", "OVMF_VARS_4M"), pair("OVMF", "OVMF_CODE", "OVMF_VARS")]
        case (.amd64, .enrolled):
            return [
                pair("OVMF", "OVMF_CODE_4M.ms", "OVMF_VARS_4M.ms", true),
                pair("OVMF", "OVMF_CODE_4M.secboot", "OVMF_VARS_4M.ms", true),
                pair("OVMF", "OVMF_CODE.secboot", "OVMF_VARS.ms", true),
            ]
        case (.amd64, .ownKeys):
            return [
                pair("OVMF", "OVMF_CODE_4M.secboot", "OVMF_VARS_4M", true),
                pair("OVMF", "OVMF_CODE.secboot", "OVMF_VARS", true),
            ]
        // The only one of 32 bits needs system management mode, whether its variables hold keys or not.
        case (.i386, .off), (.i386, .ownKeys): return [pair("OVMF", "OVMF32_CODE_4M.secboot", "OVMF32_VARS_4M", true)]
        case (.aarch64, .off):
            return [pair("AAVMF", "AAVMF_CODE.no-secboot", "AAVMF_VARS"), pair("AAVMF", "AAVMF_CODE", "AAVMF_VARS")]
        case (.aarch64, .enrolled):
            return [
                pair("AAVMF", "AAVMF_CODE.ms", "AAVMF_VARS.ms"), pair("AAVMF", "AAVMF_CODE.secboot", "AAVMF_VARS.ms"),
            ]
        case (.aarch64, .ownKeys): return [pair("AAVMF", "AAVMF_CODE.secboot", "AAVMF_VARS")]
        case (.armv7, .off): return [pair("AAVMF", "AAVMF32_CODE", "AAVMF32_VARS")]
        default: return []
        }
    }
}

/// One descriptor, as far as it is of use here.
private struct FirmwareDescriptor {
    private let code: String
    private let template: String
    private let features: Set<String>
    /// Architectures by QEMU's names, with patterns of boards.
    private let targets: [(architecture: String, machines: [String])]

    /// `nil` for what is no UEFI in two flash chips of raw bytes, and for what is damaged.
    init?(_ json: JSON) {
        guard json["interface-types"].strings.contains("uefi"), let mapping = json["mapping"],
            mapping["device"] == .string("flash"), mapping["mode"] == nil || mapping["mode"] == .string("split"),
            let code = FirmwareDescriptor.rawFile(mapping["executable"]),
            let template = FirmwareDescriptor.rawFile(mapping["nvram-template"]),
            case .array(let targets)? = json["targets"]
        else { return nil }
        self.code = code
        self.template = template
        features = Set(json["features"].strings)
        self.targets = targets.compactMap { target in
            guard case .string(let architecture)? = target["architecture"] else { return nil }
            return (architecture, target["machines"].strings)
        }
    }

    /// An absolute path; the code's must be where QEMU sees it, and both are: distributions have them in /usr.
    private static func rawFile(_ json: JSON?) -> String? {
        guard let json, json["format"] == .string("raw"), case .string(let path)? = json["filename"],
            path.after("/usr/") != nil, !path.utf8.contains(UInt8(ascii: ",")), !path.holds("/../")
        else { return nil }
        return path
    }

    /// Patterns are globs, in every descriptor that there is with one star at the end: more is not understood here, as a
    /// pattern of many stars can keep fnmatch(3) busy without end.
    private static func matches(_ board: String, _ pattern: String) -> Bool {
        pattern.utf8.last == UInt8(ascii: "*") ? board.utf8.starts(with: pattern.utf8.dropLast()) : board == pattern
    }

    func firmware(_ architecture: GuestArchitecture, _ secureBoot: Firmware.SecureBoot) -> Firmware.UEFI? {
        let (name, board) =
            switch architecture {
            case .amd64: ("x86_64", "pc-q35-7.2")
            case .i386: ("i386", "pc-q35-7.2")
            case .aarch64: ("aarch64", "virt-7.2")
            case .armv7: ("arm", "virt-7.2")
            case .riscv64, .ppc64le, .s390x: ("", "")
            }
        let isForBoard = targets.contains { target in
            target.architecture == name && target.machines.contains { FirmwareDescriptor.matches(board, $0) }
        }
        let isSecure = features.contains("secure-boot")
        let hasKeys = features.contains("enrolled-keys")
        let isWanted =
            switch secureBoot {
            case .off: !isSecure
            case .enrolled: isSecure && hasKeys
            case .ownKeys: isSecure && !hasKeys
            }
        guard isForBoard, isWanted else { return nil }
        return Firmware.UEFI(code: code, template: template, isSecure: features.contains("requires-smm"))
    }
}

extension JSON? {
    /// The strings of an array; none where it is something else.
    fileprivate var strings: [String] {
        guard case .array(let values)? = self else { return [] }
        return values.compactMap { value in
            guard case .string(let text) = value else { return nil }
            return text
        }
    }
}
