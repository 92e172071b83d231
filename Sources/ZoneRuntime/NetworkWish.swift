// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network

/// What a network that is made is to have: what somebody asks for, where nobody else has it.
extension NetworkStore {
    /// Whether the host speaks IPv6, ip-sysctl.
    private static var hasSix: Bool {
        ["all", "default"].allSatisfy { scope in
            (try? readHostFile("/proc/sys/net/ipv6/conf/\(scope)/disable_ipv6", limit: 16))?.first == UInt8(ascii: "0")
        }
    }

    /// Those that are asked for, which must be free, or free ones.
    func subnets(_ wish: Wish, _ name: String) throws(ZoneError) -> [Subnet] {
        let links = try attempting("look at the host's routes") { () throws(SystemError) in try Links() }
        if try attempting(
            "look at the host's links", { () throws(SystemError) in try links.link(folders.bridge(name)) })
            != nil
        {
            throw ZoneError(
                .exists, "network \(name): the host has a link \(folders.bridge(name)) already",
                hint: "choose another name")
        }
        let routed = try attempting("look at the host's routes") { () throws(SystemError) in try links.routedSubnets() }
        var taken = routed.map { (subnet: $0, owner: "a route of the host's") }
        for network in try list() {
            taken += network.ranges.map { (subnet: $0, owner: "network \(network.name)") }
        }
        if wish.subnets.isEmpty {
            guard let four = SubnetPool.four(besides: taken.map(\.subnet)) else {
                throw ZoneError(
                    .unsupported, "no private subnet of IPv4 is free", hint: "choose one with --subnet")
            }
            return [four, NetworkStore.hasSix ? SubnetPool.six() : nil].compactMap { $0 }
        }
        var found: [Subnet] = []
        for text in wish.subnets {
            guard let subnet = Subnet(text), subnet.hosts >= 2 else {
                throw ZoneError(
                    .invalid, "--subnet \"\(text)\" is no subnet for zones",
                    hint: "such as 10.20.0.0/24 or fd00:20::/64, with room for two addresses at least")
            }
            if let other = taken.first(where: { $0.subnet.length > 0 && $0.subnet.overlaps(subnet) }) {
                throw ZoneError(
                    .exists, "--subnet \(text) overlaps with \(other.subnet), \(other.owner)",
                    hint: "choose another subnet, or leave it to zonectl")
            }
            if found.contains(where: { $0.base.family == subnet.base.family }) {
                throw ZoneError(.invalid, "--subnet \(text): a network has one subnet of each of IPv4 and IPv6")
            }
            found.append(subnet)
        }
        return found.sorted { $0.base.family == .v4 && $1.base.family == .v6 }
    }

    /// Those that are asked for, one for each subnet at most.
    func gateways(_ wish: Wish, _ subnets: [Subnet]) throws(ZoneError) -> [String] {
        var found: [IPAddress] = []
        for text in wish.gateways {
            guard let address = IPAddress(text), let subnet = subnets.first(where: { $0.isHost(address) }) else {
                throw ZoneError(
                    .invalid,
                    "--gateway \"\(text)\" is no address of \(subnets.map(\.description).joined(separator: ", or "))",
                    hint: "such as \(subnets.first?.host(1)?.description ?? "10.20.0.1")")
            }
            if found.contains(where: { subnet.contains($0) }) {
                throw ZoneError(.invalid, "--gateway \(text): subnet \(subnet) has one already")
            }
            found.append(address)
        }
        return found.map(\.description)
    }

    func verifyVLAN(_ wish: Wish) throws(ZoneError) {
        guard wish.parent != nil || wish.vlan != nil else { return }
        guard let parent = wish.parent, wish.vlan != nil else {
            throw ZoneError(
                .invalid, "--vlan and --parent go together: a VLAN is one of a link of the host's",
                hint: "zonectl network create --parent eth0 --vlan 20 NETWORK")
        }
        let found = try attempting("look at link \(parent)") { () throws(SystemError) in
            try NetworkAttachment.isLink(parent) ? Links().link(parent) : nil
        }
        if found != nil { return }
        throw ZoneError(.notFound, "--parent \(parent): the host has no such link", hint: "'ip -br link' lists them")
    }
}

/// Subnets that nobody else has, as far as can be known.
enum SubnetPool {
    /// The first /20 of 10.64.0.0/10 that overlaps with none of these: far from what people and docker choose.
    static func four(besides taken: [Subnet]) -> Subnet? {
        for number in 0..<UInt64(1024) {
            guard let base = IPAddress("10.64.0.0")?.advanced(by: number << 12), let subnet = Subnet(base, length: 20)
            else { return nil }
            if !taken.contains(where: { $0.length > 0 && $0.overlaps(subnet) }) { return subnet }
        }
        return nil
    }

    /// A unique local one, RFC 4193: nobody else has it, as 40 of its bits are chance.
    static func six() -> Subnet? {
        let chance = (0..<5).map { _ in UInt8.random(in: 0...255) }
        return IPAddress(bytes: [0xfd] + chance + [UInt8](repeating: 0, count: 10)).flatMap { Subnet($0, length: 64) }
    }
}
