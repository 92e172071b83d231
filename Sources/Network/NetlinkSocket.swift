// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import CNetlink
import Glibc
import LinuxSystem

/// A netlink socket of the network namespace in which it was made; it stays there, wherever its maker goes.
///
/// libnl builds and sends messages. Answers are read here: libnl's numbers for errors are fewer than the kernel's, and
/// its callbacks know no words of the kernel's about them.
struct NetlinkSocket: ~Copyable {
    private let socket: OpaquePointer

    /// `protocol`: NETLINK_ROUTE, NETLINK_NETFILTER.
    init(_ protocol: CInt) throws(SystemError) {
        guard let socket = nl_socket_alloc() else { throw SystemError("netlink", "", .noMemory) }
        guard nl_connect(socket, `protocol`) >= 0 else {
            nl_socket_free(socket)
            // libnl's number tells no more.
            throw SystemError("netlink", "connect", .notSupported)
        }
        self.socket = socket
        // Requests say themselves what is to be acknowledged: before Linux 6.10 the marks of a transaction are not.
        nl_socket_disable_auto_ack(socket)
        // The kernel answers at once; what does not come must not be waited for for ever.
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        _ = setsockopt(
            nl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var on: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        // Words about errors. Kernels before 4.12 have none.
        _ = setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_EXT_ACK, &on, size)
    }

    deinit {
        nl_socket_free(socket)
    }

    var raw: CInt { nl_socket_get_fd(socket) }

    /// Lets only messages come that a program wants, by a result that is not 0.
    func filter(_ program: PacketProgram) throws(SystemError) {
        var code = (program.assembled() ?? []).flatMap(\.bytes)
        let result = code.withUnsafeMutableBytes { bytes in
            // struct sock_fprog: length, padding, instructions.
            var program = (length: UInt64(bytes.count / 8), instructions: UInt64(UInt(bitPattern: bytes.baseAddress)))
            return setsockopt(raw, SOL_SOCKET, SO_ATTACH_FILTER, &program, 16)
        }
        if result < 0 { throw SystemError("filter netlink", "", Errno(rawValue: errno)) }
    }

    /// Lets messages of a multicast group come.
    func join(group: UInt32) throws(SystemError) {
        var group = group
        // NETLINK_ADD_MEMBERSHIP
        if setsockopt(raw, SOL_NETLINK, 1, &group, 4) < 0 {
            throw SystemError("join netlink group", "\(group)", Errno(rawValue: errno))
        }
    }

    /// Sends a request and waits until it is done. `operation` and `subject` are for the error.
    func request(
        _ message: borrowing NetlinkMessage, _ operation: String, _ subject: String
    ) throws(SystemError) {
        try exchange(message, operation, subject, family: 0) { _ in }
    }

    /// Sends a request that is answered by messages, and calls `body` with each.
    func exchange(
        _ message: borrowing NetlinkMessage, _ operation: String, _ subject: String, family: Int,
        _ body: (NetlinkReply) -> Void
    ) throws(SystemError) {
        guard message.isWhole else { throw SystemError(operation, subject, .tooBig) }
        guard nl_send_auto(socket, message.raw) >= 0, let header = nlmsg_hdr(message.raw) else {
            throw SystemError(operation, "\(subject): send", .ioError)
        }
        let sequence = header.pointee.nlmsg_seq
        var isDone = false
        var failure: SystemError?
        while !isDone {
            try receive(operation, subject) { head, payload in
                // Of an earlier request whose answer nobody waited for.
                guard head.nlmsg_seq == sequence, !isDone else { return }
                switch CInt(head.nlmsg_type) {
                case NLMSG_ERROR:
                    isDone = true
                    do throws(SystemError) {
                        try NetlinkSocket.verify(payload, isShort: head.nlmsg_flags, operation, subject)
                    } catch {
                        failure = error
                    }
                case NLMSG_DONE:
                    isDone = true
                    // What went wrong on the way, rtnetlink(7); kernels before 4.14 say nothing.
                    let result = payload.count >= 4 ? payload.withUnsafeBytes { $0.loadUnaligned(as: Int32.self) } : 0
                    if result < 0 { failure = SystemError(operation, subject, Errno(rawValue: -result)) }
                default: body(NetlinkReply(type: head.nlmsg_type, payload: payload, family: family))
                }
            }
        }
        if let failure { throw failure }
    }

    /// Sends several requests at once, of which the first and the last mark a transaction, and waits until it is done.
    func batch(_ messages: [OwnedMessage], _ operation: String, _ subject: String) throws(SystemError) {
        var bytes: [UInt8] = []
        var waiting: [UInt32] = []
        for owned in messages {
            guard owned.message.isWhole else { throw SystemError(operation, subject, .tooBig) }
            nl_complete_msg(socket, owned.message.raw)
            guard let header = nlmsg_hdr(owned.message.raw) else { continue }
            if CInt(header.pointee.nlmsg_flags) & NLM_F_ACK != 0 { waiting.append(header.pointee.nlmsg_seq) }
            bytes += UnsafeRawBufferPointer(start: header, count: Int(header.pointee.nlmsg_len))
            bytes += [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
        }
        guard nl_sendto(socket, &bytes, bytes.count) >= 0 else {
            throw SystemError(operation, "\(subject): send", .ioError)
        }
        var failure: SystemError?
        // Each is answered, also where another one has failed; the first reason is the one to tell.
        while failure == nil, !waiting.isEmpty {
            try receive(operation, subject) { head, payload in
                guard CInt(head.nlmsg_type) == NLMSG_ERROR else { return }
                do throws(SystemError) {
                    try NetlinkSocket.verify(payload, isShort: head.nlmsg_flags, operation, subject)
                } catch {
                    failure = failure ?? error
                }
                waiting.removeAll { $0 == head.nlmsg_seq }
            }
        }
        if let failure { throw failure }
    }

    /// Reads what has come, at least one message.
    private func receive(
        _ operation: String, _ subject: String, _ body: (nlmsghdr, ArraySlice<UInt8>) -> Void
    ) throws(SystemError) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var size = -Int(EINTR)
        while size == -Int(EINTR) {
            size = buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_read(nl_socket_get_fd(socket), $0, bytes.count) } ?? 0
            }
        }
        var rest = buffer[..<(try check(size, operation, subject))]
        // struct nlmsghdr: length 4, type 2, flags 2, sequence 4, port 4.
        while rest.count >= 16 {
            let head = rest.withUnsafeBytes { $0.loadUnaligned(as: nlmsghdr.self) }
            guard head.nlmsg_len >= 16, head.nlmsg_len <= rest.count else { return }
            let payload = rest.prefix(Int(head.nlmsg_len)).dropFirst(16)
            rest = rest.dropFirst(min((Int(head.nlmsg_len) + 3) & ~3, rest.count))
            body(head, payload)
        }
    }

    /// Reads struct nlmsgerr: the number, the request's header, the request unless it is left out, and attributes.
    private static func verify(
        _ payload: ArraySlice<UInt8>, isShort flags: UInt16, _ operation: String, _ subject: String
    ) throws(SystemError) {
        guard payload.count >= 20 else { throw SystemError(operation, subject, .ioError) }
        let error = payload.withUnsafeBytes { $0.loadUnaligned(as: nlmsgerr.self) }
        if error.error == 0 { return }
        var words = subject
        // NLM_F_CAPPED, NLM_F_ACK_TLVS
        let request = flags & 0x100 != 0 ? 16 : Int(error.msg.nlmsg_len)
        if flags & 0x200 != 0, let text = message(payload.dropFirst(min(4 + (request + 3) & ~3, payload.count))) {
            words += words.isEmpty ? text : ": \(text)"
        }
        throw SystemError(operation, words, Errno(rawValue: CInt(-error.error)))
    }

    /// NLMSGERR_ATTR_MSG.
    private static func message(_ attributes: ArraySlice<UInt8>) -> String? {
        NetlinkReply.attribute(1, in: attributes).map { text in
            String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
