// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

extension LimitChange.Rate {
    /// A bound on the disk whose device node is at an absolute path of the host's.
    public init(_ kind: Kind, disk path: String, rate: UInt64) throws(ZoneError) {
        let option = "--\(kind.rawValue)"
        let status: FileStatus
        do throws(SystemError) { status = try FileStatus.of(path) } catch {
            throw ZoneError(.invalid, "\(option): \(path): \(error.errno.message)", hint: "'lsblk -p' lists disks")
        }
        guard status.kind == .blockDevice else {
            throw ZoneError(.invalid, "\(option): \(path) is not a disk", hint: "'lsblk -p' lists disks")
        }
        // The kernel counts what reaches a disk, and refuses its parts.
        let place = "/sys/dev/block/\(status.major):\(status.minor)"
        if (try? FileStatus.of("\(place)/partition")) != nil {
            // …/sda/sda1
            let disk = (try? Descriptor.open(place, [.path, .noFollow]).readLink(""))?.pathComponents.dropLast().last
            throw ZoneError(
                .invalid, "\(option): \(path) is a partition",
                hint: "only whole disks can be bounded\(disk.map { ": give /dev/\($0)" } ?? "")")
        }
        self.init(kind, major: status.major, minor: status.minor, rate: rate)
    }
}

extension Spec.DeviceRate {
    /// The name of the disk below /dev where it has one now, else its numbers.
    public var disk: String {
        let place = "/sys/dev/block/\(major):\(minor)"
        guard let link = try? Descriptor.open(place, [.path, .noFollow]).readLink(""),
            let name = link.pathComponents.last
        else { return "\(major):\(minor)" }
        return "/dev/\(name)"
    }
}
