// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// Options about a zone's networks and published ports.
enum NetworkOptions {
    static let network = Option.list(
        "network", nil, "NETWORK[,ip=ADDRESS][,mac=ADDRESS]",
        "A network of zones (default: zone0), bridge:LINK, macvlan:LINK, zone:NAME, host or none; several")
    static let ip = Option.list("ip", nil, "ADDRESS", "Address in the first network; one of IPv4, one of IPv6")
    static let mac = Option.value("mac", nil, "ADDRESS", "MAC address in the first network")
    static let publish = Option.list(
        "publish", "p", "[[ADDRESS:]HOST:]ZONE[/udp]",
        "Lead a port of the host's to the zone's; the loopback's if no address is given")
    static let unpublish = Option.list("unpublish", nil, "[[ADDRESS:]HOST:]ZONE[/udp]", "No longer publish a port")
    static let disconnect = Option.list("disconnect", nil, "NETWORK", "Take the zone out of a network")
    static let nameServer = Option.list("dns", nil, "ADDRESS", "Who is asked for names, instead of the network's own")
    static let host = Option.list("add-host", nil, "NAME:ADDRESS", "A line of the zone's /etc/hosts")
    static let inRate = Option.value("network-in", nil, "RATE", "What may come in, such as 100mbit (0: any)")
    static let outRate = Option.value("network-out", nil, "RATE", "What may go out, such as 10mbit (0: any)")

    static let forRun = [network, ip, mac, publish, nameServer, host, inRate, outRate]
    static let forSet = [network, disconnect, publish, unpublish, inRate, outRate]

    /// Puts what was said into a definition.
    static func apply(_ arguments: Arguments, to definition: inout ZoneDefinition) throws(ZoneError) {
        let texts = arguments.list(network)
        try choose(texts.isEmpty ? [standard] : texts, &definition)
        for text in arguments.list(ip) {
            guard !definition.networks.isEmpty else { throw needsNetwork("--ip \(text)") }
            definition.networks[0].addresses.append(text)
        }
        if let text = arguments.value(mac) {
            guard !definition.networks.isEmpty else { throw needsNetwork("--mac \(text)") }
            definition.networks[0].mac = text
        }
        let rates = (try rate(arguments, inRate), try rate(arguments, outRate))
        for index in definition.networks.indices {
            // What is said of one network alone goes first.
            if let all = rates.0?.positive, definition.networks[index].inRate == nil {
                definition.networks[index].inRate = all
            }
            if let all = rates.1?.positive, definition.networks[index].outRate == nil {
                definition.networks[index].outRate = all
            }
        }
        for text in arguments.list(publish) { definition.ports.append(try PublishedPort(text)) }
        definition.nameServers = arguments.list(nameServer)
        definition.hosts = arguments.list(host)
        // Its words are those of a file; here the name is not known yet.
        var named = definition
        if named.name.isEmpty { named.name = "zone" }
        do throws(DefinitionFault) { try named.verifyNetworks() } catch {
            throw ZoneError(.invalid, "network: \(error.detail)", hint: error.hint)
        }
    }

    /// What a change of `set` says of networks.
    static func change(_ arguments: Arguments) throws(ZoneError) -> NetworkChange {
        var change = NetworkChange()
        var joined = ZoneDefinition()
        try choose(arguments.list(network), &joined)
        if joined.network != .none {
            throw ZoneError(
                .invalid,
                "set: --network \(arguments.list(network).joined(separator: " ")) takes effect only when a zone is made",
                hint: "a zone with a network of its own can be connected to networks of zones, bridges and links")
        }
        change.connects = joined.networks
        change.disconnects = arguments.list(disconnect)
        for text in arguments.list(publish) { change.publishes.append(try PublishedPort(text)) }
        for text in arguments.list(unpublish) { change.unpublishes.append(try PublishedPort(text)) }
        change.inRate = try rate(arguments, inRate)
        change.outRate = try rate(arguments, outRate)
        return change
    }

    /// Where nothing is said. An ordinary user has no networks of zones.
    private static var standard: String {
        if let value = getenv("ZONECTL_NETWORK") { return String(cString: value) }
        return Rootless.isInside || geteuid() != 0 ? "none" : NetworkStore.standard
    }

    private static func choose(_ texts: [String], _ definition: inout ZoneDefinition) throws(ZoneError) {
        for text in texts {
            let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            let name = parts[0]
            if name == "none" || name == "host" || name.hasPrefix("zone:") {
                guard texts.count == 1, parts.count == 1 else {
                    throw ZoneError(.invalid, "--network \(text) goes with no other network, and has no address")
                }
                definition.network = name == "none" ? .none : name == "host" ? .host : .zone
                if definition.network == .zone { definition.networkZone = String(name.dropFirst(5)) }
                continue
            }
            let attachment = try attachment(parts)
            guard attachment.kind != nil, name != "zone" else {
                throw ZoneError(
                    .invalid, "--network \"\(name)\" is not a network",
                    hint:
                        "there is none, host, zone:NAME, bridge:LINK, macvlan:LINK and what 'zonectl network ls' lists")
            }
            guard !definition.networks.contains(where: { $0.name == name }) else {
                throw ZoneError(.invalid, "--network \(name) is given twice")
            }
            definition.networks.append(attachment)
        }
    }

    private static func attachment(_ parts: [String]) throws(ZoneError) -> NetworkAttachment {
        var attachment = NetworkAttachment(parts[0])
        for part in parts.dropFirst() {
            let halves = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard halves.count == 2 else { throw unknown(parts, part) }
            switch halves[0] {
            case "ip", "ip6": attachment.addresses.append(halves[1])
            case "mac", "mac-address": attachment.mac = halves[1]
            case "link": attachment.link = halves[1]
            case "in": attachment.inRate = try rate(halves[1], "--network in=").positive
            case "out": attachment.outRate = try rate(halves[1], "--network out=").positive
            default: throw unknown(parts, part)
            }
        }
        return attachment
    }

    private static func unknown(_ parts: [String], _ part: String) -> ZoneError {
        ZoneError(
            .invalid, "--network \(parts.joined(separator: ",")): \"\(part)\" is not known",
            hint: "there is ip=, mac=, link=, in= and out=")
    }

    private static func needsNetwork(_ option: String) -> ZoneError {
        ZoneError(
            .invalid, "\(option) goes with a network of zones", hint: "such as --network \(NetworkStore.standard)")
    }

    private static func rate(_ arguments: Arguments, _ option: Option) throws(ZoneError) -> Int64? {
        guard let text = arguments.value(option) else { return nil }
        return try rate(text, "--\(option.name)")
    }

    /// Bits per second.
    private static func rate(_ text: String, _ option: String) throws(ZoneError) -> Int64 {
        guard let rate = BitRate.parse(text), rate == 0 || rate >= BitRate.least else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a rate",
                hint: "such as 500kbit, 10mbit or 1gbit, at least \(BitRate.text(BitRate.least)), or 0 for any")
        }
        return rate
    }
}
