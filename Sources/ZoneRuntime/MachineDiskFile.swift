// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import LinuxSystem

/// A machine's disk, open and leased: nobody else who asks has it for writing, for as long as any copy of the descriptor is open, which
/// QEMU's is. So the lease goes with the machine, whoever is killed.
struct MachineDiskFile: ~Copyable {
    private let file: Descriptor
    let isBlockDevice: Bool
    let header: DiskHeader

    private init(_ file: consuming Descriptor, _ header: DiskHeader, isBlockDevice: Bool) {
        self.file = file
        self.header = header
        self.isBlockDevice = isBlockDevice
    }

    /// `writes`: else others may read it at the same time.
    static func open(
        _ path: String, _ disk: MachineDisk, zone: String, _ store: ZoneStore, writes: Bool
    ) throws(ZoneError) -> MachineDiskFile {
        let status: FileStatus
        do throws(SystemError) { status = try FileStatus.of(path) } catch {
            throw ZoneError(
                error.errno == .noEntry ? .notFound : .system, "disk \(path) of zone \(zone): \(error)",
                hint: error.errno == .noEntry ? "it was there when the zone was made; has it been moved?" : nil)
        }
        guard status.kind == .regular || status.kind == .blockDevice else {
            throw ZoneError(.invalid, "disk \(path): neither a file nor a block device")
        }
        let isBlockDevice = status.kind == .blockDevice
        // Of a block device O_EXCL means: held by nobody, neither mounted nor part of another device (open(2)).
        var flags: OpenFlags = writes ? [.readWrite] : [.readOnly]
        if isBlockDevice, writes { flags.insert(.exclusive) }
        let file: Descriptor
        do throws(SystemError) { file = try Descriptor.open(path, flags) } catch {
            guard error.errno == .busy else { throw ZoneError("open disk \(path)", error) }
            throw ZoneError(
                .wrongState, "disk \(path): the host uses it: it is mounted, swap, or part of another device",
                hint: "'lsblk \(path)' tells; unmount it first")
        }
        // flock(2): LOCK_EX or LOCK_SH, with LOCK_NB.
        let result = zn_flock(file.raw, (writes ? 2 : 1) | 4)
        if result == -EAGAIN {
            let owner = owner(of: status, besides: zone, store)
            throw ZoneError(
                .wrongState, "disk \(path) is in use by " + (owner.map { "zone \($0)" } ?? "another machine"),
                hint: owner.map { "'zonectl stop \($0)' ends that" })
        }
        _ = try attempting("lock disk \(path)") { () throws(SystemError) in try check(result, "flock", path) }
        // It may have changed since: an image must still be what was recorded (P19).
        let header: DiskHeader
        do throws(DiskFault) { header = try DiskHeader.read(file, as: DiskFormat(name: disk.format) ?? .raw) } catch {
            throw ZoneError(error, disk: path)
        }
        return MachineDiskFile(file, header, isBlockDevice: isBlockDevice)
    }

    consuming func release() -> Descriptor { file }

    /// Another zone that runs and names the same file.
    private static func owner(of file: FileStatus, besides zone: String, _ store: ZoneStore) -> String? {
        for name in (try? store.names()) ?? [] where name != zone {
            guard let machine = (try? store.definition(of: name))??.machine, store.entry(name).state.isUp else {
                continue
            }
            for disk in machine.disks {
                let path = disk.path.isAbsolutePath ? disk.path : "\(store.folders.persistent(name))/\(disk.path)"
                if let other = try? FileStatus.of(path), other.device == file.device, other.inode == file.inode {
                    return name
                }
            }
        }
        return nil
    }
}
