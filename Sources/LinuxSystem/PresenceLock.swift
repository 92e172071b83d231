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
        let numbers = Array("\(hexadecimal(device.major)):\(hexadecimal(device.minor)):".utf8)
        let table = try readHostFile("/proc/locks")
        var found: Set<UInt64> = []
        for line in table.split(separator: UInt8(ascii: "\n")) {
            // `1: OFDLCK ADVISORY  READ -1 fe:00:1234 0 EOF`; one that is waited for has `->` behind the number.
            guard let kind = line.firstIndex(of: UInt8(ascii: " ")), line[kind...].starts(with: " OFDLCK ".utf8) else {
                continue
            }
            let fields = line[kind...].split(separator: UInt8(ascii: " "), maxSplits: 5)
            guard fields.count > 4, fields[4].starts(with: numbers) else { continue }
            if let inode = decimal(fields[4].dropFirst(numbers.count)) { found.insert(inode) }
        }
        return found
    }

    /// Without a string for each of a thousand lines.
    private static func decimal(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9"), number < UInt64.max / 10 else { return nil }
            number = number * 10 + UInt64(digit - UInt8(ascii: "0"))
        }
        return digits.isEmpty ? nil : number
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
