// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// Tells the supervisor that started this process how things stand, sd_notify(3): one datagram to the socket that
/// `NOTIFY_SOCKET` names.
public struct ServiceNotifier: Sendable {
    /// A path, or `@` and a name in the abstract namespace.
    public let socket: String

    public init?(socket: String) {
        // One more than the path for its end; an abstract name has its length told.
        guard socket.utf8.count < 108, let first = socket.utf8.first,
            first == UInt8(ascii: "/") || first == UInt8(ascii: "@") && socket.utf8.count > 1
        else { return nil }
        self.socket = socket
    }

    /// Takes the socket out of the environment, so that no child speaks for this process; `nil` where nobody listens.
    public static func take() -> ServiceNotifier? {
        guard let value = getenv("NOTIFY_SOCKET") else { return nil }
        let socket = String(cString: value)
        unsetenv("NOTIFY_SOCKET")
        return ServiceNotifier(socket: socket)
    }

    /// Sends fields, such as `READY=1`. Connects each time: the supervisor may have been replaced meanwhile.
    public func send(_ fields: [String]) throws(SystemError) {
        // A field ends with its line: what an image calls itself must not make another one.
        let lines = fields.map { $0.utf8.map { $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 } }
        let message = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
        let raw = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        if raw < 0 { throw SystemError("socket", "", Errno(rawValue: errno)) }
        let descriptor = Descriptor(owning: raw)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array(socket.utf8)
        if name.first == UInt8(ascii: "@") { name[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let isAbstract = name.first == 0
        let length = MemoryLayout<sa_family_t>.size + name.count + (isAbstract ? 0 : 1)
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                sendto(descriptor.raw, message, message.count, Int32(MSG_NOSIGNAL), address, socklen_t(length))
            }
        }
        if result < 0 { throw SystemError("sendto", socket, Errno(rawValue: errno)) }
    }
}
