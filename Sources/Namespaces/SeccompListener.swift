// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The program that answers for system calls of a zone (`SCMP_ACT_NOTIFY`), and what it is told about the zone:
/// config-linux.md "The Container Process State".
///
/// The descriptor of the notifications goes from the child over the channel to whoever waits for the program to run
/// (`run`, `exec` or `start`) and from there to the listener. The child could not do that itself: it does not know its
/// pid on the host, and what `exec` brings into a running zone must be nothing of the host's but the channel.
public struct SeccompListener: Sendable {
    /// A unix socket of the host's, `linux.seccomp.listenerPath`.
    public var path: String
    /// The state as JSON: before, between and after the two places where the pid is written.
    public var state: (head: String, middle: String, tail: String)

    /// The corresponding C constant is `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    public static let filterFlag: UInt32 = 1 << 3

    public init(path: String, state: (head: String, middle: String, tail: String)) {
        self.path = path
        self.state = state
    }

    /// Sends the notifications of a process on their way.
    func forward(_ notifications: borrowing Descriptor, pid: Int32) throws(LaunchError) {
        let text = state.head + String(pid) + state.middle + String(pid) + state.tail
        let connected = zn_unix_connect(path, 1 /* SOCK_STREAM */)
        if connected < 0 { throw failure(connected, "connect to") }
        let socket = Descriptor(owning: connected)
        let bytes = Array(text.utf8)
        // The descriptor comes with the first byte; a stream may take less than all at once.
        let sent = bytes.withUnsafeBytes { buffer in
            buffer.baseAddress.map { zn_send_fd(socket.raw, $0, buffer.count, notifications.raw) } ?? 0
        }
        if sent < 0 { throw failure(CInt(truncatingIfNeeded: sent), "send to") }
        do throws(SystemError) { try socket.writeAll(Array(bytes[sent...])) } catch {
            throw failure(-error.errno.rawValue, "send to")
        }
    }

    private func failure(_ result: CInt, _ act: String) -> LaunchError {
        let errno = Errno(rawValue: -result)
        return LaunchError(
            step: .seccomp, errno: errno, sentence: "\(act) the seccomp listener \(path): \(errno.message)")
    }
}
