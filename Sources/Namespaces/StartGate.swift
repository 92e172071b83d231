// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Where a created zone's first process waits for `start`, and tells it how the start went.
///
/// A listening socket instead of the fifo that other runtimes use: the connection tells `start` when the program runs,
/// or why it cannot. The socket is a file of mode 0600 in the zone's state folder; besides, the process only obeys the
/// user who made it.
public enum StartGate {
    /// SOCK_SEQPACKET.
    private static let type: CInt = 5

    /// Makes the socket `name` in a folder. Reached through /proc/self/fd, as an address has room for 107 bytes only.
    public static func make(in folder: borrowing Descriptor, _ name: String) throws(SystemError) -> Descriptor {
        let path = "/proc/self/fd/\(folder.raw)/\(name)"
        return Descriptor(owning: try check(zn_unix_listen(path, type), "listen", name))
    }

    /// Lets the program start, and returns once it runs. Throws the reason where it cannot; `description` is asked
    /// for the words of it. `listener` is asked for where the filter notifies somebody about process `pid`.
    public static func open(
        in folder: borrowing Descriptor,
        _ name: String,
        pid: Int32,
        listener: () -> SeccompListener?,
        _ description: () -> LaunchDescription
    ) throws(LaunchError) {
        let channel = try connect(folder, name)
        while true {
            var message = Message(.ready)
            var notifications: Descriptor?
            do throws(SystemError) {
                let size = try withUnsafeMutableBytes(of: &message) { (bytes) throws(SystemError) in
                    try channel.receive(into: bytes, descriptor: &notifications)
                }
                // The program runs.
                guard size == MemoryLayout<Message>.size else { return }
            } catch {
                throw LaunchError(error)
            }
            guard Message.Kind(rawValue: message.kind) == .notifications else { throw description().error(message) }
            guard let listener = listener(), let notifications else { continue }
            do throws(LaunchError) { try listener.forward(notifications, pid: pid) } catch {
                // Its calls would be refused in a way that it cannot expect; with `create` gone it is ours to end.
                if let process = try? ProcessHandle(pid: pid) { try? process.signal(SIGKILL) }
                throw error
            }
        }
    }

    private static func connect(_ folder: borrowing Descriptor, _ name: String) throws(LaunchError) -> Channel {
        do throws(SystemError) {
            let raw = zn_unix_connect("/proc/self/fd/\(folder.raw)/\(name)", type)
            return Channel(owning: try check(raw, "connect", name))
        } catch {
            throw LaunchError(error)
        }
    }

    /// In the child: waits for `start`, whose connection takes the channel's place.
    static func wait(_ gate: CInt, _ channel: borrowing Channel) throws(LaunchFailure) {
        var owner: uid_t = 0
        try attempt(.parent, zn_peer_uid(channel.raw, &owner))
        while true {
            let connection = Descriptor(owning: try attempt(.parent, zn_accept(gate)))
            var peer: uid_t = 0
            // Both numbers as this user namespace shows them.
            guard zn_peer_uid(connection.raw, &peer) >= 0, peer == owner else { continue }
            // O_CLOEXEC.
            try attempt(.parent, zn_dup3(connection.raw, channel.raw, OpenFlags.closeOnExec.rawValue))
            return
        }
    }
}
