// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// The answers of a server for the network block device protocol (the NBD project's doc/proto.md) that gives one disk to
/// one client, to be read only. It holds no socket: bytes come in, and bytes go out.
///
/// What is refused of the protocol is what QEMU can do without: structured replies, TLS, lists of exports.
struct NBDServer {
    enum Magic {
        static let greeting: [UInt8] = Array("NBDMAGIC".utf8)
        static let option: [UInt8] = Array("IHAVEOPT".utf8)
        static let optionReply: UInt64 = 0x0003_E889_0455_65A9
        static let request: UInt64 = 0x2560_9513
        static let reply: UInt64 = 0x6744_6698
    }

    private enum Phase {
        case flags, options, requests, ended
    }

    /// Bytes that one request may ask for; QEMU keeps to 32 MiB.
    private static let most: UInt64 = 32 << 20

    private var phase = Phase.flags
    private var buffer: [UInt8] = []
    /// Whether the client does without 124 zeros.
    private var isTerse = false

    /// What a server says first. Newstyle, and no zeros.
    static let greeting = Magic.greeting + Magic.option + [0, 3]

    var isEnded: Bool { phase == .ended }

    /// Nothing more is answered.
    mutating func close() { _ = end() }

    mutating func take(_ bytes: ArraySlice<UInt8>) {
        if !isEnded { buffer += bytes }
    }

    /// Answers the next message; nil when more of it has to come first, or nothing will.
    mutating func answer(_ disk: inout some DiskReader & ~Copyable) throws(DiskFault) -> [UInt8]? {
        switch phase {
        case .flags:
            guard let flags = message(4) else { return nil }
            isTerse = flags[3] & 2 != 0
            phase = .options
            return []
        case .options:
            guard buffer.count >= 16 else { return nil }
            let length = Int(DiskBytes(Array(buffer[..<16])).big32(12))
            guard length <= 4096 else { return end() }
            guard let option = message(16 + length) else { return nil }
            return answerOption(option, disk.size)
        case .requests:
            guard let request = message(28) else { return nil }
            return try answerRequest(request, &disk)
        case .ended: return nil
        }
    }

    /// Takes `count` bytes off the buffer once they are there.
    private mutating func message(_ count: Int) -> DiskBytes? {
        guard buffer.count >= count else { return nil }
        defer { buffer.removeFirst(count) }
        return DiskBytes(Array(buffer[..<count]))
    }

    private mutating func end() -> [UInt8]? {
        phase = .ended
        buffer = []
        return nil
    }

    private mutating func answerOption(_ option: DiskBytes, _ size: Int64) -> [UInt8]? {
        guard option.has(Magic.option, at: 0) else { return end() }
        let number = option.big32(8)
        // A size, and flags: there are flags, and nothing can be written.
        let export = NBDServer.big(UInt64(size), 8) + [0, 3]
        func reply(_ type: UInt64, _ content: [UInt8] = []) -> [UInt8] {
            NBDServer.big(Magic.optionReply, 8) + NBDServer.big(UInt64(number), 4) + NBDServer.big(type, 4)
                + NBDServer.big(UInt64(content.count), 4) + content
        }
        switch number {
        case 1:  // NBD_OPT_EXPORT_NAME
            phase = .requests
            return export + [UInt8](repeating: 0, count: isTerse ? 0 : 124)
        case 2: return end()  // NBD_OPT_ABORT
        case 6, 7:  // NBD_OPT_INFO, NBD_OPT_GO
            if number == 7 { phase = .requests }
            return reply(3, [0, 0] + export) + reply(1)
        default: return reply(0x8000_0001)
        }
    }

    private mutating func answerRequest(
        _ request: DiskBytes, _ disk: inout some DiskReader & ~Copyable
    ) throws(DiskFault) -> [UInt8]? {
        guard request.big(0, 4) == Magic.request else { return end() }
        let (type, place, count) = (request.big(6, 2), request.big64(16), request.big(24, 4))
        func reply(_ error: UInt64) -> [UInt8] {
            NBDServer.big(Magic.reply, 4) + NBDServer.big(error, 4) + request.part(8, 8)
        }
        switch type {
        case 0:
            guard count <= NBDServer.most, fits(place, count, in: disk.size) else { return reply(22) }
            let content = try disk.read(at: Int64(place), count: Int(count))
            // A file that has become shorter: EIO.
            return content.count == Int(count) ? reply(0) + content : reply(5)
        case 2: return end()
        case 3: return reply(0)
        default: return reply(1)
        }
    }

    /// A number of `width` bytes, the highest first.
    static func big(_ value: UInt64, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (width - 1 - $0))) }
    }
}
