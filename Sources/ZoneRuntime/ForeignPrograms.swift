// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
public import OCI

/// Programs of another processor's, which the kernel gives to an emulator: binfmt_misc of Linux (Documentation/admin-guide/binfmt-misc.rst).
public enum ForeignPrograms {
    private static let folder = "/proc/sys/fs/binfmt_misc"

    /// Throws `.unsupported` where what is made of an image for `platform` could not execute a program of it. `name`: the image's, for
    /// the sentence.
    public static func check(
        _ definition: ZoneDefinition, _ platform: Platform, name: String
    ) throws(ZoneError) {
        let wanted = platform.architecture
        let own = Image.machine.architecture
        let what = "image \(name) is for \(platform.os)/\(wanted)"
        if let machine = definition.machine {
            let guest = machine.architecture ?? own
            if definition.bootsDisk || guest == wanted { return }
            throw ZoneError(.unsupported, "\(what), and the machine is \(guest)", hint: "give --arch \(wanted)")
        }
        if wanted == own || executed(by: own).contains(wanted) { return }
        let hint = "install Debian's packages qemu-user-static and binfmt-support, or make it a virtual machine: --vm"
        switch find(wanted) {
        case .usable: return
        case .missing:
            throw ZoneError(
                .unsupported, "\(what), and no program here executes that: binfmt_misc has no handler", hint: hint)
        case .unseen(let interpreter):
            throw ZoneError(
                .unsupported,
                "\(what), and a zone does not see what executes that here: the handler \(interpreter) is without flag F",
                hint: hint)
        }
    }

    /// What a processor executes besides its own.
    private static func executed(by architecture: String) -> [String] {
        switch architecture {
        case "amd64": ["386"]
        case "arm64": ["arm"]
        default: []
        }
    }

    enum Finding: Equatable {
        case usable
        case missing
        /// By a path that is looked for in the zone.
        case unseen(String)
    }

    private static func find(_ architecture: String) -> Finding {
        guard let header = header(architecture), let directory = try? Descriptor.open(folder, [.readOnly, .directory]),
            let names = try? directory.entries()
        else { return .missing }
        let texts = names.filter { $0 != "register" && $0 != "status" }.sorted().map { name in
            (try? readHostFile("\(folder)/\(name)", limit: 64 << 10)) ?? []
        }
        return find(header, texts)
    }

    /// What the first of the handlers that takes such a file is worth.
    static func find(_ header: [UInt8], _ handlers: [[UInt8]]) -> Finding {
        var finding = Finding.missing
        for text in handlers {
            guard let handler = FormatHandler(text), handler.isEnabled, handler.takes(header) else { continue }
            if handler.isOpen { return .usable }
            finding = .unseen(handler.interpreter)
        }
        return finding
    }

    /// The first bytes of an executable, elf(5): as far as handlers look.
    static func header(_ architecture: String) -> [UInt8]? {
        let machines: [(name: String, isWide: Bool, isBig: Bool, number: UInt16)] = [
            ("386", false, false, 3), ("amd64", true, false, 62), ("arm", false, false, 40),
            ("arm64", true, false, 183),
            ("loong64", true, false, 258), ("mips64le", true, false, 8), ("ppc64", true, true, 21),
            ("ppc64le", true, false, 21), ("riscv64", true, false, 243), ("s390x", true, true, 22),
        ]
        guard let machine = machines.first(where: { $0.name == architecture }) else { return nil }
        let parts: [UInt16] = [2, machine.number]
        let numbers = parts.flatMap { number in
            let bytes = [UInt8(number & 0xFF), UInt8(number >> 8)]
            return machine.isBig ? bytes.reversed() : bytes
        }
        let kind: [UInt8] = [machine.isWide ? 2 : 1, machine.isBig ? 2 : 1, 1]
        return [0x7F, 0x45, 0x4C, 0x46] + kind + [UInt8](repeating: 0, count: 9) + numbers
    }
}

/// A handler of binfmt_misc, as its file shows it.
struct FormatHandler: Equatable {
    var isEnabled = false
    var interpreter = ""
    /// Opened when it was registered (flag F), so that it need not be in the zone.
    var isOpen = false
    private var offset = 0
    private var magic: [UInt8] = []
    private var mask: [UInt8] = []

    /// `nil` for one that goes by names of files.
    init?(_ text: [UInt8]) {
        for line in String(decoding: text, as: UTF8.self).fields("\n") {
            let (name, value) = line.halves(" ")
            switch (name, value) {
            case ("enabled", nil): isEnabled = true
            case ("interpreter", .some(let path)): interpreter = path
            case ("flags:", .some(let flags)): isOpen = flags.utf8.contains(UInt8(ascii: "F"))
            case ("offset", .some(let number)):
                guard let number = Int(number), (0..<256).contains(number) else { return nil }
                offset = number
            case ("magic", .some(let digits)):
                guard let bytes = FormatHandler.bytes(digits) else { return nil }
                magic = bytes
            case ("mask", .some(let digits)):
                guard let bytes = FormatHandler.bytes(digits) else { return nil }
                mask = bytes
            default: break
            }
        }
        guard !magic.isEmpty, mask.isEmpty || mask.count == magic.count else { return nil }
    }

    /// Whether a file that begins so is for it.
    func takes(_ header: [UInt8]) -> Bool {
        guard offset + magic.count <= header.count else { return false }
        return magic.indices.allSatisfy { index in
            (header[offset + index] ^ magic[index]) & (mask.isEmpty ? 0xFF : mask[index]) == 0
        }
    }

    private static func bytes(_ digits: String) -> [UInt8]? {
        let digits = Array(digits.utf8)
        guard digits.count.isMultiple(of: 2), digits.count <= 512 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index...index + 1], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        return bytes
    }
}
