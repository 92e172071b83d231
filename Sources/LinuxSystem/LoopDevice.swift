// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// A block device whose blocks are a file's, loop(4). It is set up for as long as this value, a mount or anybody else has
/// it open, and goes by itself then, also when who set it up is killed.
public struct LoopDevice: ~Copyable {
    /// Such as `/dev/loop3`.
    public let path: String
    private let device: Descriptor

    /// As often as another process may be faster.
    private static let mostTries = 64

    /// Takes the device that has a file already, or sets one up. Two of one file would each write what the other does not
    /// know: who calls this holds a lock on the file. `name`: the end of the file's path, which tells it from most others.
    public init(of file: borrowing Descriptor, named name: String) throws(SystemError) {
        let status = try file.stat()
        if let found = try LoopDevice.find(status, name) {
            self = found
            return
        }
        let control = try Descriptor.open("/dev/loop-control", [.readWrite])
        for _ in 0..<LoopDevice.mostTries {
            let number = try check(
                zn_ioctl(control.raw, UInt(ZN_LOOP_CTL_GET_FREE), 0), "find a free loop device")
            let path = "/dev/loop\(number)"
            let device = try Descriptor.open(path, [.readWrite])
            let result = zn_loop_configure(device.raw, file.raw)
            // Another process was faster.
            if result == -EBUSY { continue }
            try check(result, "set up", path)
            self.init(path: path, device: device)
            return
        }
        throw SystemError("find a free loop device", "", .busy)
    }

    private init(path: String, device: consuming Descriptor) {
        self.path = path
        self.device = device
    }

    /// Whether a device has a file.
    public static func exists(of file: borrowing Descriptor, named name: String) throws(SystemError) -> Bool {
        try find(try file.stat(), name) != nil
    }

    private static func find(_ status: FileStatus, _ name: String) throws(SystemError) -> LoopDevice? {
        // Without a /sys there is nothing to be found, and the kernel refuses to mount two devices as one.
        guard let blocks = try? Descriptor.open("/sys/block", [.readOnly, .directory]) else { return nil }
        for block in try blocks.entries() where block.hasPrefix("loop") {
            // Only of a device that has a file; the path is as the kernel sees it now, wherever it was renamed to.
            guard let text = try? readHostFile("/sys/block/\(block)/loop/backing_file"),
                String(decoding: text, as: UTF8.self).hasSuffix("\(name)\n")
            else { continue }
            let path = "/dev/\(block)"
            // Held open, it stays until it is mounted.
            guard let device = try? Descriptor.open(path, [.readOnly]) else { continue }
            if zn_loop_has_file(device.raw, status.device, status.inode) == 1 {
                return LoopDevice(path: path, device: device)
            }
        }
        return nil
    }

    /// Lets the device be as large as its file has become.
    public func takeSize() throws(SystemError) {
        try check(zn_ioctl(device.raw, UInt(ZN_LOOP_SET_CAPACITY), 0), "resize", path)
    }
}

/// What a file system has room for.
public struct FileSystemSize: Sendable, Equatable {
    /// Bytes; of a directory with a quota of its own, the quota's.
    public let total: Int64
    public let available: Int64

    /// Looks at the file system that holds an open file.
    public init(of file: borrowing Descriptor) throws(SystemError) {
        var total: Int64 = 0
        var available: Int64 = 0
        try check(zn_fstatfs_sizes(file.raw, &total, &available), "statfs")
        (self.total, self.available) = (total, available)
    }
}

/// Lets a mounted ext4 become larger while it is in use; it needs CAP_SYS_RESOURCE.
public func growExt4(_ mount: borrowing Descriptor, blocks: Int64) throws(SystemError) {
    // An ioctl needs an open file, which the descriptor of a mount is not.
    let top = try mount.open(".", [.readOnly, .directory], resolve: .beneath)
    try check(zn_ext4_resize(top.raw, UInt64(blocks)), "resize ext4")
}
