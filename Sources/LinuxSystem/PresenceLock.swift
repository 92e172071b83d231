// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

private import CLinux

/// A lock by which others see that a process lives, many of them at one look: shared, so that it keeps nobody from
/// anything, and gone with the process whatever ends it.
///
/// It is the open file's, fcntl_locking(2) "Open file description locks": flock(2) on the same file means something else.
public struct PresenceLock: ~Copyable {
    private let file: Descriptor

    /// Takes the lock on a file or directory that is open for reading.
    public init(_ file: consuming Descriptor) throws(SystemError) {
        try check(zn_ofd_lock_shared(file.raw), "lock")
        self.file = file
    }

    /// The numbers of the inodes on a device that anybody holds such a lock on: by /proc/locks, proc_locks(5). Where the
    /// kernel names the device by another number than stat(2), as of some file systems, none are found.
    public static func inodes(on device: UInt64) throws(SystemError) -> Set<UInt64> {
        let numbers = "\(hexadecimal(device.major)):\(hexadecimal(device.minor)):"
        var found: Set<UInt64> = []
        for line in try readHostFile("/proc/locks").split(separator: UInt8(ascii: "\n")) {
            // `1: OFDLCK ADVISORY  READ -1 fe:00:1234 0 EOF`; one that is waited for has `->` behind the number.
            let fields = line.split(separator: UInt8(ascii: " "))
            guard fields.count >= 6, fields[1].elementsEqual("OFDLCK".utf8), fields[5].starts(with: numbers.utf8) else {
                continue
            }
            if let inode = UInt64(String(decoding: fields[5].dropFirst(numbers.utf8.count), as: UTF8.self)) {
                found.insert(inode)
            }
        }
        return found
    }

    private static func hexadecimal(_ number: UInt64) -> String {
        (number < 16 ? "0" : "") + String(number, radix: 16)
    }
}

extension UInt64 {
    /// Of a device number as stat(2) gives it, makedev(3).
    fileprivate var major: UInt64 { self >> 8 & 0xFFF | self >> 32 & 0xFFFF_F000 }
    fileprivate var minor: UInt64 { self & 0xFF | self >> 12 & 0xFFFF_FF00 }
}
