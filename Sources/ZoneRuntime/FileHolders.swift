// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Processes that hold a file open, found through /proc. For what was started with that file and may have left
/// everything else that tells whose it is.
struct FileHolders {
    private let device: UInt64
    private let inode: UInt64

    /// `nil` where there is no such file.
    init?(of path: String) {
        guard let status = try? FileStatus.of(path, followLinks: false) else { return nil }
        device = status.device
        inode = status.inode
    }

    /// Kills them all, and those that get it from them meanwhile; `false` where some are left after `milliseconds`.
    func kill(milliseconds: Int = 5000) throws(SystemError) -> Bool {
        var waited = 0
        while true {
            let found = try processes()
            if found.isEmpty { return true }
            if waited >= milliseconds { return false }
            for pid in found {
                // One that has ended by itself is as good.
                guard let handle = try? ProcessHandle(pid: pid), holds(pid) else { continue }
                try? handle.signal(SIGKILL)
            }
            pause(milliseconds: 10)
            waited += 10
        }
    }

    private func processes() throws(SystemError) -> [Int32] {
        try Descriptor.open("/proc", [.readOnly, .directory]).entries().compactMap { Int32($0) }
            .filter { $0 != getpid() && holds($0) }
    }

    private func holds(_ pid: Int32) -> Bool {
        // Of a process that has just ended nothing can be read, and nothing needs to be.
        guard let folder = try? Descriptor.open("/proc/\(pid)/fd", [.readOnly, .directory]),
            let names = try? folder.entries()
        else { return false }
        return names.contains { name in
            guard let status = try? FileStatus.of("/proc/\(pid)/fd/\(name)") else { return false }
            return status.device == device && status.inode == inode
        }
    }
}
