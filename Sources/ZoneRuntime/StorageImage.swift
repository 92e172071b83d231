// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// A file system in a sparse file, which takes as much of the disk as is in it.
enum StorageImage {
    private static let unfinished = "storage.img.new"
    private static let blockSize: Int64 = 4096
    /// How long a device may take to go when nobody has it mounted any more.
    private static let patience: Int64 = 10_000

    // MARK: Making

    /// Makes an image file of a size, in bytes.
    static func make(_ size: Int64, in folder: borrowing Descriptor) throws(ZoneError) {
        let attempt = "make a file system of \(ByteSize.text(size))"
        let file = try attempting(attempt) { () throws(SystemError) in
            // Of one that was killed.
            try folder.removeTree(unfinished)
            let file = try folder.open(
                unfinished, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600, resolve: .beneath)
            try check(zn_ftruncate(file.raw, Int(rounded(size))), "truncate", OwnFiles.image)
            return file
        }
        // Tables and journal read as zeros anyway: nothing is written there, now or later. Nothing is kept for root, whom
        // the kernel would not take the zone's for.
        try run(
            "mkfs.ext4",
            [
                "-q", "-F", "-m", "0", "-b", String(blockSize), "-E",
                "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
            ], file, attempt)
        try attempting(attempt) { () throws(SystemError) in
            try folder.rename(unfinished, to: OwnFiles.image, replace: false)
        }
    }

    /// Whole blocks.
    private static func rounded(_ size: Int64) -> Int64 {
        size / blockSize * blockSize + (size % blockSize == 0 ? 0 : blockSize)
    }

    /// Runs a program of e2fsprogs on an image.
    private static func run(
        _ name: String, _ arguments: [String], _ file: borrowing Descriptor, _ attempt: String, good: [Int32] = [0]
    ) throws(ZoneError) {
        var program: HostProgram
        do throws(SystemError) {
            // The file is the program's descriptor 3: no path is looked up.
            program = try HostProgram(name, arguments + ["/proc/self/fd/3"])
        } catch {
            guard error.errno == .noEntry else { throw ZoneError(attempt, error) }
            throw ZoneError(
                .unsupported, "\(attempt): \(name) is not installed",
                hint: "install e2fsprogs, or let the store be on ext4 or xfs with project quota (prjquota)")
        }
        program.inherited = [file.raw]
        program.milliseconds = 600_000
        let outcome = try attempting(attempt) { () throws(SystemError) in try program.run() }
        if case .exited(let status) = outcome.status, good.contains(status) { return }
        throw ZoneError(.system, "\(attempt): \(name): \(outcome.reason)")
    }

    // MARK: Mounting

    /// Mounts the image in a folder at the path `place`, detached. One that a zone has mounted is the same file system.
    static func mount(in folder: borrowing Descriptor, at place: String) throws(SystemError) -> Descriptor {
        let file = try folder.open(OwnFiles.image, [.readWrite, .noFollow], resolve: .beneath)
        let loop = try LoopDevice(of: file, named: name(at: place))
        let context = try FileSystemContext("ext4", source: loop.path)
        // See above; and what is removed is to take no room on the host's disk.
        try context.set("noinit_itable")
        try context.set("discard")
        let mount = try context.mount()
        // The mount has the device open from here on, and nobody else needs to.
        drop(loop)
        return mount
    }

    private static func name(at place: String) -> String {
        "/\(place.pathComponents.last ?? "")/\(OwnFiles.image)"
    }

    // MARK: Growing

    /// Lets a mounted image become larger while it is in use, which needs CAP_SYS_RESOURCE. Killed in between, it is as it was,
    /// in a file that is larger.
    static func grow(
        to size: Int64, in folder: borrowing Descriptor, at place: String
    ) throws(SystemError) {
        let file = try folder.open(OwnFiles.image, [.readWrite, .noFollow], resolve: .beneath)
        let mount = try mount(in: folder, at: place)
        try check(zn_ftruncate(file.raw, Int(rounded(size))), "truncate", OwnFiles.image)
        let loop = try LoopDevice(of: file, named: name(at: place))
        try loop.takeSize()
        try growExt4(mount, blocks: rounded(size) / blockSize)
    }

    /// Makes a larger copy, in another folder, of an image that no zone has mounted.
    static func copy(
        in folder: borrowing Descriptor, at place: String, to target: borrowing Descriptor, size: Int64
    ) throws(ZoneError) {
        let attempt = "make a file system of \(ByteSize.text(size))"
        let file = try attempting(attempt) { () throws(SystemError) in
            // What the journal holds is put where it belongs.
            drop(try mount(in: folder, at: place))
            let file = try folder.open(OwnFiles.image, [.readOnly, .noFollow], resolve: .beneath)
            let end = MonotonicClock.milliseconds + patience
            while try LoopDevice.exists(of: file, named: name(at: place)) {
                if MonotonicClock.milliseconds > end { throw SystemError("wait for", OwnFiles.image, .busy) }
                _ = usleep(5000)
            }
            var transfer = TreeTransfer(.exact)
            try transfer.copy(file, to: target, as: OwnFiles.image.utf8CString.map { $0 })
            let copy = try target.open(OwnFiles.image, [.readWrite, .noFollow], resolve: .beneath)
            try check(zn_ftruncate(copy.raw, Int(rounded(size))), "truncate", OwnFiles.image)
            return copy
        }
        // 1: it has found and mended something.
        try run("e2fsck", ["-f", "-p"], file, attempt, good: [0, 1])
        try run("resize2fs", [], file, attempt)
    }
}
