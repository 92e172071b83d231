// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import Images
import LinuxSystem
import Namespaces
import OCI

/// What micro machines boot from: a kernel, an initramfs with `zonectl` itself as its init, and images' files as file systems on
/// read-only disks. Each is made once and shared by all machines.
struct GuestImages {
    let store: ZoneStore
    /// As images name it (GOARCH).
    let architecture: String
    /// Gets lines about what takes its time.
    let report: @Sendable (String) -> Void

    private var folder: String { "\(store.folders.store)/machines" }

    // MARK: The kernel

    static let kernelName = "vmlinux"
    private static let packer = "/usr/bin/mkfs.erofs"

    /// The folder that `images/guest-kernel/build` has filled: as the caller says, or where packages put it.
    static func kernelFolder(_ architecture: String, _ folders: ZoneFolders) throws(ZoneError) -> String {
        let candidates = folders.guests + ["/usr/local/lib/zonectl/guest", "/usr/lib/zonectl/guest"]
        for candidate in candidates {
            for place in ["\(candidate)/\(architecture)", candidate] {
                if (try? FileStatus.of("\(place)/\(GuestImages.kernelName)"))?.kind == .regular,
                    (try? FileStatus.of("\(place)/modules.cpio"))?.kind == .regular,
                    place.hasSuffix(architecture) || architecture == Image.machine.architecture
                {
                    return place
                }
            }
        }
        throw ZoneError(
            .notFound,
            "there is no kernel for micro machines (\(architecture)): looked in \(candidates.joined(separator: ", "))",
            hint: "'make guest-kernel' makes it from Debian's packages; ZONECTL_GUEST names another folder")
    }

    /// The initramfs: the kernel's modules, and this very executable as /init. Made anew for another version of either.
    func initrd(_ kernel: String, agent: String = "/proc/self/exe") throws(ZoneError) -> String {
        try attempting("make the initramfs of micro machines") { () throws(SystemError) in
            let modules = try FileStatus.of("\(kernel)/modules.cpio")
            let program = try FileStatus.of(agent)
            let key = "\(modules.inode)-\(modules.modified)-\(program.inode)-\(program.modified)-\(program.size)"
            let name = "initrd-\(architecture)-\(Digests.short(key + kernel))"
            let machines = try Descriptor.makePath(folder, mode: 0o711)
            if (try? machines.status(name)) != nil { return "\(folder)/\(name)" }
            let temporary = "\(name).\(getpid())"
            let file = try machines.open(
                temporary, [.writeOnly, .create, .truncate, .noFollow], mode: 0o644, resolve: .beneath)
            try GuestInitrd.write(modules: "\(kernel)/modules.cpio", agent: agent, to: file)
            try check(zn_fchmod(file.raw, 0o644), "chmod", name)
            try machines.rename(temporary, to: name)
            return "\(folder)/\(name)"
        }
    }

    // MARK: Images' files

    /// The path of a file with an image's files, an erofs.
    func root(of image: Image) throws(ZoneError) -> String {
        let layers = try attemptingImage { () throws(ImageError) in try store.folders.images.layers(of: image) }
        let name = GuestImages.rootName(layers)
        let path = "\(folder)/\(name)"
        if (try? FileStatus.of(path)) != nil { return path }
        guard access(GuestImages.packer, X_OK) == 0 else {
            throw ZoneError(
                .unsupported, "make a disk of the files of \(image.name): \(GuestImages.packer) is missing",
                hint: "install Debian's package erofs-utils")
        }
        report("making a disk of the files of \(image.name), once for all its machines")
        let machines = try attempting("make the folder of machines") { () throws(SystemError) in
            try Descriptor.makePath(folder, mode: 0o711)
        }
        let temporary = "\(name).\(getpid())"
        var rollback = Rollback()
        rollback.add { unlink("\(folder)/\(temporary)") }
        try make(layers, temporary, machines)
        try attempting("make a disk of image \(image.name)") { () throws(SystemError) in
            try machines.rename(temporary, to: name)
        }
        rollback.commit()
        return path
    }

    private static func rootName(_ layers: [String]) -> String {
        // By the layers' ids: a store that is moved keeps its disks.
        "root-\(Digests.short(layers.map { $0.pathComponents.last ?? "" }.joined(separator: "\n"))).erofs"
    }

    /// Removes the disks of images that are gone. Machines that run keep theirs open. What cannot be removed is the next one's.
    static func tidy(_ store: ZoneStore) {
        guard
            let machines = try? Descriptor.open("\(store.folders.store)/machines", [.readOnly, .directory]),
            let names = try? machines.entries(), let images = try? store.folders.images.list()
        else { return }
        let wanted = images.compactMap { image in (try? store.folders.images.layers(of: image)).map(rootName) }
        guard wanted.count == images.count else { return }
        for name in names where name.hasPrefix("root-") && !wanted.contains(name) { try? machines.remove(name) }
    }

    private func make(_ layers: [String], _ name: String, _ machines: borrowing Descriptor) throws(ZoneError) {
        let attempt = "make a disk of the image's files"
        // Seen together as a zone sees them, with the places for what is mounted in every zone.
        // Where overlayfs cannot work a copy is made for it, in a folder that goes again.
        let place = "\(name).root"
        let own = try attempting(attempt) { () throws(SystemError) in
            try machines.ensureDirectory(place, mode: 0o700)
            return try machines.open(place, [.readOnly, .directory, .noFollow], resolve: .beneath)
        }
        let machinesPath = folder
        var rollback = Rollback()
        rollback.add { try? Descriptor.open(machinesPath, [.readOnly, .directory]).removeTree(place) }
        let overlay = OverlayRoot(layers: layers, store: store.folders.store, zone: "\(folder)/\(place)")
        let root = try overlay.mountForReading(in: own, report)
        let file = try attempting(attempt) { () throws(SystemError) in
            try machines.open(name, [.readWrite, .create, .truncate, .noFollow], mode: 0o644, resolve: .beneath)
        }
        // It reads an image's files: it sees nothing else.
        let outcome = try MachineRoot(store: store, name: "image", user: 0).run(
            [GuestImages.packer, "--quiet", "-T0", "/proc/self/fd/\(file.raw)", MachineRoot.share],
            showing: root, inheriting: [file.raw],
            // What belongs to others, and cannot be read by all.
            capabilities: ["CAP_DAC_READ_SEARCH"])
        drop(rollback)
        guard outcome.status == .exited(0) else { throw ZoneError(.system, "\(attempt): mkfs.erofs: \(outcome.said)") }
    }
}

/// An initramfs of two archives in cpio's format "newc", as the kernel takes them (Documentation/driver-api/early-userspace/buffer-format.rst).
enum GuestInitrd {
    static func write(modules: String, agent: String, to file: borrowing Descriptor) throws(SystemError) {
        try copy(modules, to: file)
        for (name, mode) in [
            ("dev", 0o40755), ("proc", 0o40755), ("sys", 0o40755), ("run", 0o40755), ("lower", 0o40755),
            ("upper", 0o40755),
            ("root", 0o40755),
        ] {
            try file.writeAll(header(name, mode: UInt32(mode), size: 0), name)
        }
        try file.writeAll(header("dev/console", mode: 0o20600, size: 0, device: (5, 1)), "console")
        let status = try FileStatus.of(agent)
        guard let size = UInt32(exactly: status.size) else { throw SystemError("pack", agent, .tooBig) }
        try file.writeAll(header("init", mode: 0o100755, size: size), "init")
        try copy(agent, to: file)
        try file.writeAll(padding(Int(size)), "init")
        try file.writeAll(header("TRAILER!!!", mode: 0, size: 0), "trailer")
    }

    private static func copy(_ path: String, to file: borrowing Descriptor) throws(SystemError) {
        let source = try Descriptor.open(path, [.readOnly])
        while true {
            let bytes = try source.read(upTo: 1 << 20)
            if bytes.isEmpty { return }
            try file.writeAll(bytes, path)
        }
    }

    private static func header(
        _ name: String, mode: UInt32, size: UInt32, device: (UInt32, UInt32) = (0, 0)
    ) -> [UInt8] {
        let fields: [UInt32] = [
            0, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, UInt32(name.utf8.count + 1), 0,
        ]
        let digits = fields.map { field in
            let text = String(field, radix: 16)
            return String(repeating: "0", count: 8 - text.utf8.count) + text
        }
        let bytes = Array(("070701" + digits.joined() + name).utf8) + [0]
        return bytes + padding(bytes.count)
    }

    /// To the next multiple of 4.
    private static func padding(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: (4 - count % 4) % 4) }
}

/// Names made of texts.
enum Digests {
    /// FNV-1a, 64 bits, in hexadecimal: a name, not a secret.
    static func short(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
