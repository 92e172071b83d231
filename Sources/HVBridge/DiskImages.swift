// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem
import OCI

/// Makes disks and looks after them, by `qemu-img`.
///
/// Where it reads what others wrote, it runs as nobody and is served the bytes (``ServedProgram``). Where it makes a
/// file, it reads none: an image over another one is made without a look at that other one.
public enum DiskImages {
    /// For making an image, and for looking at one.
    private static let milliseconds = 30_000
    /// The longest name of a backing file in a qcow2 image.
    private static let longestName = 1023

    /// Makes an empty disk of so many bytes, a multiple of 512, mode 0600. `format`: raw, which takes no room until it is
    /// written to, or qcow2. Throws where the path is taken.
    public static func create(_ path: String, size: Int64, format: DiskFormat) throws(DiskFault) {
        try check(path)
        try check(size: size)
        switch format {
        case .raw:
            let file = try claim(path)
            if file.truncate(to: size) { return }
            _ = unlink(path)
            throw DiskFault(.system, "\(path) cannot be made \(size) bytes long")
        case .qcow2: try make(path, ["-f", "qcow2", path, "\(size)"])
        default: throw DiskFault(.unsupported, "disks are made as raw or qcow2, not as \(format.rawValue)")
        }
    }

    /// Makes a qcow2 image of mode 0600 at `path` that takes what is written, and shows what is in `base` elsewhere. The
    /// name and the format of the base are recorded in it, and are ours; the image itself is not to be taken from others.
    public static func overlay(over base: String, _ header: DiskHeader, at path: String) throws(DiskFault) {
        try check(path)
        try check(base)
        if base.utf8.count > longestName { throw DiskFault(.unsupported, "the base's path has more than 1023 bytes") }
        // A base whose size is no multiple cannot be told of: the rest of the sector is zeros.
        let size = (header.virtualSize + 511) / 512 * 512
        // -u: the base is not opened, and nothing is asked of it.
        try make(path, ["-u", "-f", "qcow2", "-b", base, "-F", header.format.driver, path, "\(size)"])
    }

    /// What `qemu-img info` tells of an image.
    public struct Information: Sendable, Equatable {
        public let virtualSize: Int64
        /// Bytes; nil where the format has none.
        public let clusterSize: Int64?
        /// Names of the snapshots in it.
        public let snapshots: [String]
        public let isDirty: Bool
    }

    /// Asks `qemu-img` what it thinks of an image, after our own look at its header.
    public static func info(
        _ descriptor: borrowing Descriptor, format: DiskFormat
    ) throws(DiskFault) -> Information {
        let (status, text) = try read(descriptor, format, ["info"])
        guard status == .exited(0) else { throw DiskFault(.failed, "qemu-img info failed") }
        let json = try parse(text)
        if json["backing-filename"] != nil { throw DiskFault(.backingFile, "qemu-img sees a backing file") }
        if json["encrypted"] == .bool(true) { throw DiskFault(.encrypted, "qemu-img sees that it is encrypted") }
        guard let size = json["virtual-size"]?.number else { throw DiskFault(.failed, "qemu-img tells no size") }
        var names: [String] = []
        if case .array(let snapshots)? = json["snapshots"] {
            for case .string(let name)? in snapshots.prefix(1000).map({ $0["name"] }) { names.append(name) }
        }
        return Information(
            virtualSize: size, clusterSize: json["cluster-size"]?.number, snapshots: names,
            isDirty: json["dirty-flag"] == .bool(true))
    }

    /// What `qemu-img check` found.
    public struct Check: Sendable, Equatable {
        /// Clusters that are used and counted wrongly: content may be lost.
        public let corruptions: Int64
        /// Clusters that are counted and not used: room is lost.
        public let leaks: Int64
    }

    /// Checks an image without changing it; nil where its format has nothing to check.
    public static func check(_ descriptor: borrowing Descriptor, format: DiskFormat) throws(DiskFault) -> Check? {
        if format.isPlain { return nil }
        let (status, text) = try read(descriptor, format, ["check"])
        switch status {
        // Of 1, the check did not come to its end.
        case .exited(0), .exited(2), .exited(3):
            let json = try parse(text)
            return Check(corruptions: json["corruptions"]?.number ?? 0, leaks: json["leaks"]?.number ?? 0)
        case .exited(63): return nil
        default: throw DiskFault(.failed, "qemu-img check failed")
        }
    }

    // MARK: qemu-img

    private static func read(
        _ descriptor: borrowing Descriptor, _ format: DiskFormat, _ verb: [String]
    ) throws(DiskFault) -> (ExitStatus, [UInt8]) {
        // What is refused is not given to anybody.
        _ = try DiskHeader.read(descriptor, as: format)
        let file = try FileDisk(copyOf: descriptor)
        let options = ["--output=json", "--image-opts", ServedProgram.file(format, listens: false)]
        var program = try ServedProgram("qemu-img", verb + options, serving: file, milliseconds: milliseconds)
        let status = try program.finish()
        if status == .exited(1) { throw program.failure() }
        return (status, program.output)
    }

    private static func parse(_ text: [UInt8]) throws(DiskFault) -> JSON {
        do throws(JSONError) { return try JSON(parsing: text) } catch {
            throw DiskFault(.failed, "qemu-img does not answer in JSON: \(error)")
        }
    }

    /// Runs `qemu-img create` for a file that is ours already, so that nobody's link is followed; it is removed where that
    /// fails.
    private static func make(_ path: String, _ arguments: [String]) throws(DiskFault) {
        _ = try claim(path)
        do throws(DiskFault) { try run(["create", "-q"] + arguments) } catch {
            _ = unlink(path)
            throw error
        }
    }

    private static func run(_ arguments: [String]) throws(DiskFault) {
        let outcome: HostProgram.Outcome
        do throws(SystemError) {
            let words = ["--as=4294967296", "--core=0", try HostProgram.find("qemu-img")]
            var program = try HostProgram("prlimit", words + arguments)
            program.milliseconds = milliseconds
            program.limit = 64 << 10
            outcome = try program.run()
        } catch {
            if error.errno == .noEntry {
                throw DiskFault(.noProgram, "\(error)", hint: "Debian's package qemu-utils has it")
            }
            throw DiskFault(error)
        }
        if outcome.status == .exited(0) { return }
        throw DiskFault(.failed, outcome.reason.isEmpty ? "qemu-img failed" : outcome.reason)
    }

    private static func claim(_ path: String) throws(DiskFault) -> Descriptor {
        do throws(SystemError) {
            return try Descriptor.open(path, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600)
        } catch { throw DiskFault(error) }
    }

    /// QEMU takes `json:…`, and what has a colon before the first slash, for more than a path.
    private static func check(_ path: String) throws(DiskFault) {
        if path.utf8.first == UInt8(ascii: "/"), !path.utf8.contains(0) { return }
        throw DiskFault(.unsupported, "a disk's path begins with a slash")
    }

    private static func check(size: Int64) throws(DiskFault) {
        if size > 0, size % 512 == 0, UInt64(size) <= DiskHeader.largest { return }
        throw DiskFault(.unsupported, "\(size) bytes are no size of a disk: sectors of 512, up to 64 PiB")
    }
}

extension JSON {
    fileprivate var number: Int64? {
        guard case .number(let digits) = self else { return nil }
        return Int64(digits)
    }
}
