// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// What engines are handed through files and sockets that they name.
enum EngineSockets {
    /// SOCK_STREAM.
    private static let stream: CInt = 1

    /// Connects to a socket of the engine's before anything is made, so that a wrong path costs nothing.
    static func connect(_ path: String, _ option: String) throws(ZoneError) -> Descriptor {
        try attempting("\(option) \(path)") { () throws(SystemError) in
            Descriptor(owning: try check(zn_unix_connect(path, stream), "connect"))
        }
    }

    /// Sends a descriptor with a name for it, as runc does.
    static func send(
        _ descriptor: CInt, named name: String, to socket: CInt, _ option: String
    ) throws(ZoneError) {
        let bytes = Array(name.utf8)
        let result = bytes.withUnsafeBytes { buffer in
            buffer.baseAddress.map { zn_send_fd(socket, $0, buffer.count, descriptor) } ?? 0
        }
        _ = try attempting(option) { () throws(SystemError) in try check(result, "send a descriptor") }
    }

    /// Writes a pid file, whole or not at all: who waits for it reads it the moment that it appears.
    static func write(pid: Int32, to path: String) throws(ZoneError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        guard let name = parts.last, name != ".." else {
            throw ZoneError(.invalid, "--pid-file \"\(path)\" is not a file")
        }
        let parent = path.contains("/") ? String(path.dropLast(name.count)) : "."
        try attempting("--pid-file \(path)") { () throws(SystemError) in
            let folder = try Descriptor.open(parent.isEmpty ? "/" : parent, [.path, .directory])
            try folder.replaceFile(String(name), Array(String(pid).utf8))
        }
    }
}
