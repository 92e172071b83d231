// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The content of an image that is not plain: `qemu-nbd` takes it apart, see ``ServedProgram``, and is asked for parts.
struct ImageDisk: ~Copyable, DiskReader {
    /// For all that is read: a directory that was made to be read for hours is not.
    private static let milliseconds = 20_000
    /// What is read at once; small structures lie beside each other.
    private static let block: Int64 = 64 << 10

    private var program: ServedProgram
    private let client: Descriptor
    let size: Int64
    private var cache: (place: Int64, content: [UInt8]) = (-1, [])

    init(_ file: consuming FileDisk, _ format: DiskFormat) throws(DiskFault) {
        let listener = try PrivateListener()
        let client = try listener.connect()
        listener.hide()
        let options = ["--read-only", "--image-opts", ServedProgram.file(format, listens: true)]
        var program = try ServedProgram(
            "qemu-nbd", options, listener: listener.raw, serving: file, milliseconds: ImageDisk.milliseconds)
        // The program has its own.
        _ = consume listener
        Descriptor.setNonBlocking(client.raw)
        let greeting = try ImageDisk.receive(18, client.raw, &program)
        guard greeting.has(NBDServer.greeting, at: 0) else { throw DiskFault(.failed, "qemu-nbd is no NBD server") }
        // The export without a name.
        try ImageDisk.send([0, 0, 0, 3] + NBDServer.Magic.option + [0, 0, 0, 1, 0, 0, 0, 0], client.raw)
        let export = try ImageDisk.receive(10, client.raw, &program).big64(0)
        guard export <= DiskHeader.largest else { throw DiskFault(.damaged, "its virtual size is \(export) bytes") }
        size = Int64(export)
        self.program = program
        self.client = client
    }

    mutating func read(at offset: Int64, count: Int) throws(DiskFault) -> [UInt8] {
        let wanted = available(at: offset, count)
        var found: [UInt8] = []
        while found.count < wanted {
            let place = offset + Int64(found.count)
            let first = place / ImageDisk.block * ImageDisk.block
            if cache.place != first { cache = (first, try readBlock(first)) }
            let part = cache.content.dropFirst(Int(place - first)).prefix(wanted - found.count)
            if part.isEmpty { break }
            found += part
        }
        return found
    }

    private mutating func readBlock(_ place: Int64) throws(DiskFault) -> [UInt8] {
        let count = available(at: place, Int(ImageDisk.block))
        if count == 0 { return [] }
        var request = NBDServer.big(NBDServer.Magic.request, 4) + [0, 0, 0, 0]
        request += NBDServer.big(UInt64(place), 8) + NBDServer.big(UInt64(place), 8) + NBDServer.big(UInt64(count), 4)
        try ImageDisk.send(request, client.raw)
        let reply = try ImageDisk.receive(16, client.raw, &program)
        guard reply.big(0, 4) == NBDServer.Magic.reply, reply.big64(8) == UInt64(place) else {
            throw DiskFault(.failed, "qemu-nbd answered what it was not asked")
        }
        guard reply.big(4, 4) == 0 else {
            throw DiskFault(.damaged, "the image cannot be read at byte \(place)", hint: "qemu-img check tells more")
        }
        return try ImageDisk.receive(count, client.raw, &program).bytes
    }

    // MARK: Sockets

    /// Receives exactly so many bytes, serving the program meanwhile.
    private static func receive(
        _ count: Int, _ client: CInt, _ program: inout ServedProgram
    ) throws(DiskFault) -> DiskBytes {
        var found: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: min(count, 1 << 16))
        while found.count < count {
            guard try program.serve(until: client) else { throw program.failure() }
            let size = zn_read(client, &buffer, min(buffer.count, count - found.count))
            if size == -Int(EAGAIN) { continue }
            if size <= 0 { throw program.failure() }
            found += buffer[..<size]
        }
        return DiskBytes(found)
    }

    /// A request is smaller than what any socket takes at once.
    private static func send(_ bytes: [UInt8], _ client: CInt) throws(DiskFault) {
        let count = Glibc.send(client, bytes, bytes.count, CInt(MSG_NOSIGNAL))
        if count == bytes.count { return }
        throw DiskFault(.failed, "qemu-nbd takes no requests")
    }
}

/// A listening socket of ours. Its name is gone before any program starts.
private struct PrivateListener: ~Copyable {
    private let descriptor: Descriptor
    private let folder: String

    init() throws(DiskFault) {
        // mkdtemp(3) puts other characters in the place of the last six.
        var template = Array("/tmp/zonectl-disk-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw DiskFault(SystemError("mkdtemp", "/tmp", Errno(rawValue: Glibc.errno)))
        }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let raw = zn_unix_listen("\(folder)/socket", CInt(SOCK_STREAM.rawValue))
        if raw < 0 {
            _ = rmdir(folder)
            throw DiskFault(SystemError("listen", folder, Errno(rawValue: -raw)))
        }
        descriptor = Descriptor(owning: raw)
        self.folder = folder
    }

    deinit { hide() }

    var raw: CInt { descriptor.raw }

    func connect() throws(DiskFault) -> Descriptor {
        let raw = zn_unix_connect("\(folder)/socket", CInt(SOCK_STREAM.rawValue))
        if raw < 0 { throw DiskFault(SystemError("connect", folder, Errno(rawValue: -raw))) }
        return Descriptor(owning: raw)
    }

    /// Nobody connects any more.
    func hide() {
        _ = unlink("\(folder)/socket")
        _ = rmdir(folder)
    }
}
