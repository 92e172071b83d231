// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Opens a terminal of the zone's own devpts and hands its master to the parent.
enum ConsoleSetup {
    /// The corresponding C constant is `DEVPTS_SUPER_MAGIC`.
    private static let devptsMagic: Int64 = 0x1cd1

    /// Returns the terminal's other end, `nil` where the plan asks for no terminal.
    ///
    /// The peer comes from the master itself (`TIOCGPTPEER`), never from a path such as /dev/pts/0, which an image
    /// could have covered (CVE-2025-52565).
    static func open(
        _ plan: borrowing LaunchPlan,
        root: CInt,
        channel: borrowing Channel
    ) throws(LaunchFailure) -> Descriptor? {
        guard plan.process.hasTerminal else { return nil }
        let inside = InsidePath(root: root)
        let directory = Descriptor(owning: try attempt(.console, inside.find("/dev/pts", noSymlinks: true)))
        var magic: Int64 = 0
        try attempt(.console, zn_fstatfs_magic(directory.raw, &magic))
        guard magic == devptsMagic else { throw LaunchFailure(.console, .noDevice) }
        let flags = O_RDWR | O_NOCTTY | OpenFlags.closeOnExec.rawValue
        let master = Descriptor(owning: try attempt(.console, zn_openat(directory.raw, "ptmx", flags, 0)))
        try attempt(.console, Terminal.unlock(master.raw))
        let peer = zn_ioctl(master.raw, UInt(zn_tiocgptpeer()), UInt64(flags))
        let terminal = Descriptor(owning: try attempt(.console, peer))
        if let size = plan.process.terminal { Terminal.setSize(size, of: master.raw) }
        if plan.root != nil {
            let found = inside.findOrMake("/dev/console", directory: false, noSymlinks: true)
            let place = Descriptor(owning: try attempt(.console, found))
            let tree = Descriptor(owning: try attempt(.console, zn_open_tree(terminal.raw, "", false)))
            try attempt(.console, zn_move_mount(tree.raw, place.raw))
        }
        var message = Message(.console)
        do throws(SystemError) {
            try withUnsafeBytes(of: &message) { (bytes) throws(SystemError) in
                try channel.send(bytes, descriptor: master.raw)
            }
        } catch {
            throw LaunchFailure(.console, error.errno)
        }
        return terminal
    }
}
