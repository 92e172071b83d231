// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import LinuxSystem

/// A netlink message that is being put together, netlink(7). libnl lays it out; one that became too long for it is refused
/// when it is sent.
struct NetlinkMessage: ~Copyable {
    let raw: OpaquePointer
    private(set) var isWhole = true

    /// `type`: such as RTM_NEWLINK; `flags`: besides NLM_F_REQUEST.
    init(_ type: CInt, flags: CInt = 0) throws(SystemError) {
        guard let raw = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags) else {
            throw SystemError("netlink", "", .noMemory)
        }
        self.raw = raw
    }

    deinit {
        nlmsg_free(raw)
    }

    /// Adds a family's header, such as `ifinfomsg`.
    mutating func append<Header: BitwiseCopyable>(_ header: Header) {
        var header = header
        note(nlmsg_append(raw, &header, MemoryLayout<Header>.size, CInt(NLMSG_ALIGNTO)))
    }

    // MARK: Attributes

    mutating func put(_ attribute: some BinaryInteger, bytes: [UInt8]) {
        note(nla_put(raw, CInt(attribute), CInt(clamping: bytes.count), bytes))
    }

    mutating func put(_ attribute: some BinaryInteger, _ text: String) {
        note(nla_put_string(raw, CInt(attribute), text))
    }

    mutating func put(_ attribute: some BinaryInteger, _ number: UInt32) {
        note(nla_put_u32(raw, CInt(attribute), number))
    }

    mutating func put(_ attribute: some BinaryInteger, _ number: UInt16) {
        note(nla_put_u16(raw, CInt(attribute), number))
    }

    mutating func put(_ attribute: some BinaryInteger, _ number: UInt8) {
        note(nla_put_u8(raw, CInt(attribute), number))
    }

    mutating func nest(_ attribute: some BinaryInteger, _ body: (inout NetlinkMessage) throws(SystemError) -> Void)
        throws(SystemError)
    {
        guard let start = nla_nest_start(raw, CInt(attribute)) else { return isWhole = false }
        try body(&self)
        note(nla_nest_end(raw, start))
    }

    private mutating func note(_ result: CInt) {
        if result < 0 { isWhole = false }
    }
}

/// Arrays cannot hold what cannot be copied.
final class OwnedMessage {
    let message: NetlinkMessage

    init(_ message: consuming NetlinkMessage) {
        self.message = message
    }
}

/// A message that came, without its length: what follows the header of all messages.
struct NetlinkReply {
    let type: UInt16
    private let payload: ArraySlice<UInt8>
    private let family: Int

    /// `family`: the size of the header that comes before the attributes.
    init(type: UInt16, payload: ArraySlice<UInt8>, family: Int) {
        self.type = type
        self.payload = payload
        self.family = family
    }

    /// The family's header; `nil` where the message is shorter.
    func header<Header: BitwiseCopyable>(_ type: Header.Type) -> Header? {
        guard payload.count >= MemoryLayout<Header>.size else { return nil }
        return payload.withUnsafeBytes { $0.loadUnaligned(as: Header.self) }
    }

    /// The value of an attribute of the message, not of one inside another.
    func attribute(_ wanted: some BinaryInteger) -> ArraySlice<UInt8>? {
        let aligned = (family + 3) & ~3
        guard payload.count >= aligned else { return nil }
        return NetlinkReply.attribute(UInt16(wanted), in: payload.dropFirst(aligned))
    }

    static func attribute(_ wanted: UInt16, in bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        var rest = bytes
        // struct nlattr: length and type, 2 bytes each, in the host's order; values are padded to 4.
        while rest.count >= 4 {
            let length = Int(number(rest.prefix(2)))
            // Two bits of the type are flags, netlink(7).
            let type = number(rest.dropFirst(2).prefix(2)) & 0x3FFF
            guard length >= 4, length <= rest.count else { return nil }
            if type == wanted { return rest.prefix(length).dropFirst(4) }
            rest = rest.dropFirst(min((length + 3) & ~3, rest.count))
        }
        return nil
    }

    static func number(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        bytes.withUnsafeBytes { $0.count == 2 ? $0.loadUnaligned(as: UInt16.self) : 0 }
    }
}
