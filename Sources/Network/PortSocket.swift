// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Sockets of ports, ip(7), ipv6(7). They are non-blocking.
public enum PortSocket {
    /// Takes a port of one of the host's addresses, and lets connections come. `port`: 0 for any that is free. An address of
    /// IPv6 stands for IPv6 only. `.addressInUse`, `.addressUnavailable` where the kernel says so.
    public static func listen(
        _ transport: FilterField.Transport, _ address: IPAddress, port: UInt16
    ) throws(SystemError) -> Descriptor {
        let socket = try make(transport, address.family)
        var on: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        // Connections of a former listener are still being ended; a second listener is refused all the same.
        if transport == .tcp { _ = setsockopt(socket.raw, SOL_SOCKET, SO_REUSEADDR, &on, size) }
        if address.family == .v6 { _ = setsockopt(socket.raw, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &on, size) }
        let name = "\(address) port \(port)"
        let bound = withAddress(address, port) { Glibc.bind(socket.raw, $0, $1) }
        if bound < 0 { throw SystemError("bind", name, Errno(rawValue: errno)) }
        if transport == .tcp, Glibc.listen(socket.raw, 4096) < 0 {
            throw SystemError("listen", name, Errno(rawValue: errno))
        }
        return socket
    }

    /// Begins to connect; the socket can be written once that is done.
    static func connect(
        _ transport: FilterField.Transport, _ address: IPAddress, port: UInt16
    ) throws(SystemError) -> Descriptor {
        let socket = try make(transport, address.family)
        let result = withAddress(address, port) { Glibc.connect(socket.raw, $0, $1) }
        if result < 0, errno != EINPROGRESS {
            throw SystemError("connect", "\(address) port \(port)", Errno(rawValue: errno))
        }
        return socket
    }

    /// The port that a socket has been given.
    public static func port(of socket: borrowing Descriptor) throws(SystemError) -> UInt16 {
        var address = sockaddr_in6()
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket.raw, $0, &size) }
        }
        if result < 0 { throw SystemError("getsockname", "", Errno(rawValue: errno)) }
        // At the same place in both families.
        return UInt16(bigEndian: address.sin6_port)
    }

    private static func make(
        _ transport: FilterField.Transport, _ family: IPAddress.Family
    ) throws(SystemError) -> Descriptor {
        let type = (transport == .tcp ? CInt(SOCK_STREAM.rawValue) : CInt(SOCK_DGRAM.rawValue))
        let raw = socket(family.number, type | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        if raw < 0 { throw SystemError("socket", transport.name, Errno(rawValue: errno)) }
        return Descriptor(owning: raw)
    }

    private static func withAddress<Result>(
        _ address: IPAddress, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        switch address.family {
        case .v4:
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = port.bigEndian
            withUnsafeMutableBytes(of: &name.sin_addr) { $0.copyBytes(from: address.bytes) }
            return withUnsafePointer(to: name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        case .v6:
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &name.sin6_addr) { $0.copyBytes(from: address.bytes) }
            return withUnsafePointer(to: name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
    }
}
