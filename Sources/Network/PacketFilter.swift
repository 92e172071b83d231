// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import Glibc
public import LinuxSystem

/// Adds elements to sets and maps of nftables, and takes them away: by netlink, as a zone's start must not wait for a
/// program. All of a change happens, or nothing of it. The tables themselves are nft's matter, see ``FilterTable``.
public struct PacketFilter: ~Copyable {
    private let socket: NetlinkSocket

    /// Of the network namespace that the calling thread is in.
    public init() throws(SystemError) {
        socket = try NetlinkSocket(NETLINK_NETFILTER)
    }

    /// Changes a table's elements. What is to be removed and is not there, or is to be added and is there already, with
    /// another value, fails; `.noEntry`: the table may be gone, as after `nft flush ruleset`.
    public func change(
        _ table: String, add: [FilterElement] = [], remove: [FilterElement] = []
    ) throws(SystemError) {
        var messages: [OwnedMessage] = []
        messages.append(OwnedMessage(try PacketFilter.boundary(CInt(NFNL_MSG_BATCH_BEGIN))))
        for (elements, type, flags) in [
            (remove, CInt(NFT_MSG_DELSETELEM.rawValue), 0), (add, CInt(NFT_MSG_NEWSETELEM.rawValue), NLM_F_CREATE),
        ] {
            for container in FilterElement.Container.allCases {
                let part = elements.filter { $0.container == container }
                if part.isEmpty { continue }
                messages.append(
                    OwnedMessage(try PacketFilter.elements(table, container, part, type, flags: CInt(flags))))
            }
        }
        if messages.count == 1 { return }
        messages.append(OwnedMessage(try PacketFilter.boundary(CInt(NFNL_MSG_BATCH_END))))
        try socket.batch(messages, "change the packet filter", "table \(table)")
    }

    /// NFPROTO_INET
    private static let family: UInt8 = 1

    /// Whether there is a table; it is not after `nft flush ruleset`.
    public func has(_ table: String) throws(SystemError) -> Bool {
        var message = try NetlinkMessage(
            CInt(NFNL_SUBSYS_NFTABLES) << 8 | CInt(NFT_MSG_GETTABLE.rawValue), flags: NLM_F_ACK)
        message.append(nfgenmsg(nfgen_family: PacketFilter.family, version: 0, res_id: 0))
        message.put(NFTA_TABLE_NAME.rawValue, table)
        do throws(SystemError) { try socket.request(message, "look at the packet filter", "table \(table)") } catch {
            if error.errno == .noEntry { return false }
            throw error
        }
        return true
    }

    /// Whether an element is there with the same value: what another one has put in its place is none of ours.
    public func holds(_ table: String, _ element: FilterElement) throws(SystemError) -> Bool {
        let type = CInt(NFT_MSG_GETSETELEM.rawValue)
        let message = try PacketFilter.elements(table, element.container, [element], type, flags: 0, hasValues: false)
        var value: [UInt8]?
        do throws(SystemError) {
            try socket.exchange(
                message, "look at the packet filter", "table \(table)", family: MemoryLayout<nfgenmsg>.size
            ) { reply in
                let list = reply.attribute(NFTA_SET_ELEM_LIST_ELEMENTS.rawValue)
                let found = list.flatMap { NetlinkReply.attribute(UInt16(NFTA_LIST_ELEM.rawValue), in: $0) }
                let data = found.flatMap { NetlinkReply.attribute(UInt16(NFTA_SET_ELEM_DATA.rawValue), in: $0) }
                value = data.flatMap { NetlinkReply.attribute(UInt16(NFTA_DATA_VALUE.rawValue), in: $0) }.map {
                    Array($0)
                }
            }
        } catch {
            if error.errno == .noEntry { return false }
            throw error
        }
        return value == element.value.flatMap(\.bytes)
    }

    /// NFNL_MSG_BATCH_BEGIN and its end; what lies between is one transaction.
    private static func boundary(_ type: CInt) throws(SystemError) -> NetlinkMessage {
        var message = try NetlinkMessage(type)
        // The subsystem, in the network's order.
        message.append(
            nfgenmsg(nfgen_family: UInt8(AF_UNSPEC), version: 0, res_id: UInt16(NFNL_SUBSYS_NFTABLES).bigEndian))
        return message
    }

    private static func elements(
        _ table: String, _ container: FilterElement.Container, _ elements: [FilterElement], _ type: CInt, flags: CInt,
        hasValues: Bool = true
    ) throws(SystemError) -> NetlinkMessage {
        var message = try NetlinkMessage(CInt(NFNL_SUBSYS_NFTABLES) << 8 | type, flags: flags | NLM_F_ACK)
        message.append(nfgenmsg(nfgen_family: PacketFilter.family, version: 0, res_id: 0))
        message.put(NFTA_SET_ELEM_LIST_TABLE.rawValue, table)
        message.put(NFTA_SET_ELEM_LIST_SET.rawValue, container.rawValue)
        try message.nest(NFTA_SET_ELEM_LIST_ELEMENTS.rawValue) { (message) throws(SystemError) in
            for element in elements {
                try message.nest(NFTA_LIST_ELEM.rawValue) { (message) throws(SystemError) in
                    try put(element.key, as: NFTA_SET_ELEM_KEY.rawValue, into: &message)
                    if element.value.isEmpty || !hasValues { return }
                    try put(element.value, as: NFTA_SET_ELEM_DATA.rawValue, into: &message)
                }
            }
        }
        return message
    }

    private static func put(
        _ fields: [FilterField], as attribute: UInt32, into message: inout NetlinkMessage
    ) throws(SystemError) {
        try message.nest(attribute) { (message) throws(SystemError) in
            message.put(NFTA_DATA_VALUE.rawValue, bytes: fields.flatMap(\.bytes))
        }
    }
}
