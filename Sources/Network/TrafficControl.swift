// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNetlink
import Glibc
public import LinuxSystem

/// What the kernel's traffic control does for a zone's port, tc(8): it goes with the link, and nobody has to take it back.
extension Links {
    /// The parents and handles of tc(8), TC_H_….
    private enum Handle {
        static let root: UInt32 = 0xFFFF_FFFF
        static let clsact: UInt32 = 0xFFFF_FFF1
        static let clsactHandle: UInt32 = 0xFFFF_0000
        static let ingress: UInt32 = 0xFFFF_FFF2
    }

    /// Lets only that come from a port which is the zone's own. A guard that is there already gives way to it.
    public func guardPort(_ index: Int32, _ guardian: PortGuard) throws(SystemError) {
        guard let program = guardian.program else { throw SystemError("guard link", "\(index)", .tooBig) }
        try addClassifiers(index)
        var message = try NetlinkMessage(CInt(RTM_NEWTFILTER), flags: NLM_F_CREATE | NLM_F_ACK)
        var header = tcmsg()
        header.tcm_ifindex = index
        header.tcm_parent = Handle.ingress
        // The first one, for ETH_P_ALL; a handle, so that a second one takes its place.
        header.tcm_handle = 1
        header.tcm_info = 1 << 16 | UInt32(UInt16(ETH_P_ALL).bigEndian)
        message.append(header)
        message.put(TCA_KIND, "bpf")
        try message.nest(TCA_OPTIONS) { (message) throws(SystemError) in
            message.put(TCA_BPF_FLAGS, UInt32(TCA_BPF_FLAG_ACT_DIRECT))
            message.put(TCA_BPF_OPS_LEN, UInt16(clamping: program.count))
            message.put(TCA_BPF_OPS, bytes: program.flatMap(\.bytes))
        }
        try socket.request(message, "guard link", "\(index)")
    }

    private func addClassifiers(_ index: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWQDISC), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)
        var header = tcmsg()
        header.tcm_ifindex = index
        header.tcm_parent = Handle.clsact
        header.tcm_handle = Handle.clsactHandle
        message.append(header)
        message.put(TCA_KIND, "clsact")
        do throws(SystemError) { try socket.request(message, "guard link", "\(index)") } catch {
            guard error.errno == .exists else { throw error }
        }
    }
}

// MARK: - Rates

extension Links {
    /// The time that a packet may wait, and the one in which a burst may come at once: seconds.
    private static let (wait, burst) = (0.2, 0.02)

    /// Limits what goes to a port, and what comes from it, in bits per second; `nil` for no limit. What comes from it waits on
    /// a link of its own, `brake` (an ifb), as the kernel queues only what is sent.
    public func limit(_ port: Int32, toPort: Int64?, fromPort: Int64?, brake: String) throws(SystemError) {
        try setRate(port, toPort)
        try removeRedirect(port)
        try remove(brake)
        guard let fromPort else { return }
        var message = try NetlinkMessage(CInt(RTM_NEWLINK), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)
        var header = ifinfomsg()
        header.ifi_flags = UInt32(IFF_UP)
        header.ifi_change = header.ifi_flags
        message.append(header)
        message.put(IFLA_IFNAME, brake)
        try message.nest(IFLA_LINKINFO) { (message) throws(SystemError) in message.put(IFLA_INFO_KIND, "ifb") }
        try socket.request(message, "make link", brake)
        guard let made = try link(brake) else { throw SystemError("look at link", brake, .noDevice) }
        try setRate(made.index, fromPort)
        try redirect(port, to: made.index)
    }

    /// tc-tbf(8).
    private func setRate(_ index: Int32, _ bits: Int64?) throws(SystemError) {
        var header = tcmsg()
        header.tcm_ifindex = index
        header.tcm_parent = 0xFFFF_FFFF
        header.tcm_handle = 1 << 16
        guard let bits else {
            var message = try NetlinkMessage(CInt(RTM_DELQDISC), flags: NLM_F_ACK)
            message.append(header)
            do throws(SystemError) { try socket.request(message, "limit link", "\(index)") } catch {
                // There is none.
                guard error.errno == .noEntry || error.errno == .invalid else { throw error }
            }
            return
        }
        var message = try NetlinkMessage(CInt(RTM_NEWQDISC), flags: NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK)
        message.append(header)
        message.put(TCA_KIND, "tbf")
        let bytes = Double(bits) / 8
        // A packet of the largest size, with what several ones are joined to, passes at once.
        let burst = UInt32(clamping: Int64(max(bytes * Links.burst, 70_000)))
        var options = tc_tbf_qopt()
        options.limit = UInt32(clamping: Int64(bytes * Links.wait) + Int64(burst))
        // TC_LINKLAYER_ETHERNET: then no table is needed.
        options.rate.linklayer = 1
        options.rate.rate = UInt32(clamping: Int64(bytes))
        try message.nest(TCA_OPTIONS) { (message) throws(SystemError) in
            message.put(TCA_TBF_PARMS, bytes: withUnsafeBytes(of: options) { Array($0) })
            message.put(TCA_TBF_BURST, burst)
            if bytes > Double(UInt32.max) {
                message.put(TCA_TBF_RATE64, bytes: withUnsafeBytes(of: UInt64(bytes)) { Array($0) })
            }
        }
        try socket.request(message, "limit link", "\(index)")
    }

    /// The filter behind the guard.
    private func redirectHeader(_ port: Int32) -> tcmsg {
        var header = tcmsg()
        header.tcm_ifindex = port
        header.tcm_parent = 0xFFFF_FFF2
        header.tcm_handle = 1
        header.tcm_info = 2 << 16 | UInt32(UInt16(ETH_P_ALL).bigEndian)
        return header
    }

    private func removeRedirect(_ port: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_DELTFILTER), flags: NLM_F_ACK)
        message.append(redirectHeader(port))
        message.put(TCA_KIND, "bpf")
        do throws(SystemError) { try socket.request(message, "limit link", "\(port)") } catch {
            // There is none.
            guard error.errno == .noEntry || error.errno == .invalid else { throw error }
        }
    }

    /// Makes two links one cable: what comes by either is sent by the other, and nothing of it reaches this kernel.
    public func couple(_ one: Int32, _ other: Int32) throws(SystemError) {
        for (from, to) in [(one, other), (other, one)] {
            try addClassifiers(from)
            try redirect(from, to: to)
        }
    }

    /// tc-mirred(8): all that comes is sent on another link, which gives it back.
    private func redirect(_ port: Int32, to target: Int32) throws(SystemError) {
        var message = try NetlinkMessage(CInt(RTM_NEWTFILTER), flags: NLM_F_CREATE | NLM_F_ACK)
        message.append(redirectHeader(port))
        message.put(TCA_KIND, "bpf")
        var all = PacketProgram()
        all.end(PortGuard.pass)
        let program = all.assembled() ?? []
        var action = tc_mirred()
        // TC_ACT_STOLEN, TCA_EGRESS_REDIR
        action.action = 4
        action.eaction = 1
        action.ifindex = UInt32(bitPattern: target)
        try message.nest(TCA_OPTIONS) { (message) throws(SystemError) in
            message.put(TCA_BPF_OPS_LEN, UInt16(clamping: program.count))
            message.put(TCA_BPF_OPS, bytes: program.flatMap(\.bytes))
            try message.nest(TCA_BPF_ACT) { (message) throws(SystemError) in
                try message.nest(1) { (message) throws(SystemError) in
                    message.put(TCA_ACT_KIND, "mirred")
                    try message.nest(TCA_ACT_OPTIONS) { (message) throws(SystemError) in
                        message.put(TCA_MIRRED_PARMS, bytes: withUnsafeBytes(of: action) { Array($0) })
                    }
                }
            }
        }
        try socket.request(message, "redirect link", "\(port)")
    }
}
