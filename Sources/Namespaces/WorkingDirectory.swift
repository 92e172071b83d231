// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Makes and enters the program's working directory, inside the zone only.
enum WorkingDirectory {
    static func makeIfWanted(_ process: ProcessPlan, root: CInt) throws(LaunchFailure) {
        guard process.createsWorkingDirectory, process.workingDirectory != "/" else { return }
        let inside = InsidePath(root: root)
        let found = inside.findOrMake(process.workingDirectory, directory: true, noSymlinks: false)
        _ = Descriptor(owning: try attempt(.workingDirectory, found))
    }

    /// Enters the directory with the rights of the user.
    ///
    /// Magic links are refused, so that no path such as /proc/self/fd/7 leads to a directory of the host, and the
    /// result is checked once more: the kernel calls a directory outside the root "unreachable" (CVE-2024-21626).
    static func enter(_ process: ProcessPlan, root: CInt) throws(LaunchFailure) {
        let inside = InsidePath(root: root)
        let found = inside.find(process.workingDirectory, flags: [.path, .directory])
        let directory = Descriptor(owning: try attempt(.workingDirectory, found))
        try attempt(.workingDirectory, zn_fchdir(directory.raw))
        guard let path = getcwd(nil, 0) else { throw LaunchFailure(.workingDirectory, .noEntry) }
        defer { free(path) }
        if path[0] != CChar(bitPattern: UInt8(ascii: "/")) { throw LaunchFailure(.workingDirectory, .noEntry) }
    }
}
