// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Network
import OCI

extension ZoneDefinition {
    /// What a definition says of networks, published ports and names. Whether addresses are free shows when they are given out.
    public func verifyNetworks() throws(DefinitionFault) {
        if network == .zone {
            guard let networkZone, ZoneName.isValid(networkZone), networkZone != name else {
                throw DefinitionFault(
                    "networkZone", "\"\(networkZone ?? "")\" is not the name of another zone",
                    hint: "whose network is shared")
            }
        } else if networkZone != nil {
            throw DefinitionFault("networkZone", "goes with \"network\": \"zone\"")
        }
        for (index, attachment) in networks.enumerated() {
            let place: [JSONStep] = [.name("networks"), .index(index)]
            guard attachment.kind != nil, Network(rawValue: attachment.name) == nil else {
                throw DefinitionFault(
                    place + [.name("name")], "\"\(attachment.name)\" is not the name of a network",
                    hint: "one of 'zonectl network ls', bridge:LINK or macvlan:LINK")
            }
            if network != .none {
                throw DefinitionFault(place, "a zone in the network of \(networkText) is in no other")
            }
            if networks[..<index].contains(where: { $0.name == attachment.name }) {
                throw DefinitionFault(place, "\"\(attachment.name)\" is there twice")
            }
            if let text = attachment.addresses.first(where: { IPAddress($0) == nil }) {
                throw DefinitionFault(place + [.name("addresses")], "\"\(text)\" is not an address")
            }
            if !attachment.isOfZones, !attachment.addresses.isEmpty {
                throw DefinitionFault(
                    place + [.name("addresses")], "addresses in \(attachment.name) are given by its own DHCP")
            }
            if !attachment.mac.isEmpty, MACAddress(attachment.mac)?.isStation != true {
                throw DefinitionFault(
                    place + [.name("mac")], "\"\(attachment.mac)\" is not the MAC address of one station",
                    hint: "such as 02:00:5e:00:53:01")
            }
            if !attachment.link.isEmpty, !NetworkAttachment.isLink(attachment.link) || attachment.link == "lo" {
                throw DefinitionFault(place + [.name("link")], "\"\(attachment.link)\" is not a name for a link")
            }
            for (name, rate) in [("inRate", attachment.inRate), ("outRate", attachment.outRate)] {
                guard let rate else { continue }
                if !(BitRate.least...BitRate.most).contains(rate) {
                    throw DefinitionFault(
                        place + [.name(name)],
                        "\(rate) is not a rate from \(BitRate.least) to \(BitRate.most) bits per second")
                }
                if case .macvlan = attachment.kind {
                    throw DefinitionFault(
                        place + [.name(name)], "\(attachment.name) has no end on the host that could be limited")
                }
            }
        }
        try verifyPorts()
        for (index, text) in nameServers.enumerated() where IPAddress(text) == nil {
            throw DefinitionFault([.name("nameServers"), .index(index)], "\"\(text)\" is not an address")
        }
        for (index, text) in hosts.enumerated() where ZoneDefinition.host(text) == nil {
            throw DefinitionFault(
                [.name("hosts"), .index(index)], "\"\(text)\" is not NAME:ADDRESS", hint: "such as db:10.20.0.7")
        }
    }

    private func verifyPorts() throws(DefinitionFault) {
        for (index, port) in ports.enumerated() {
            let place: [JSONStep] = [.name("ports"), .index(index)]
            if let fault = port.fault { throw DefinitionFault(place, fault.detail, hint: fault.hint) }
            if let other = ports[..<index].first(where: { $0.overlaps(port) }) {
                throw DefinitionFault(place, "\(port.text) is there already, in \(other.text)")
            }
            if network == .host {
                throw DefinitionFault(
                    place, "a zone in the host's network has the host's ports", hint: "leave out what is published")
            }
            if !networks.contains(where: \.isOfZones) {
                throw DefinitionFault(
                    place, "ports are published on a network of zones, and the zone is in none",
                    hint: "such as \(NetworkStore.standard)")
            }
        }
    }

    /// The parts of `NAME:ADDRESS`.
    static func host(_ text: String) -> (name: String, address: String)? {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let name = text[..<colon]
        let address = String(text[text.index(after: colon)...])
        let isName = name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || [0x2D, 0x2E, 0x5F].contains(byte)
        }
        guard isName, (1...253).contains(name.utf8.count), IPAddress(address) != nil else { return nil }
        return (String(name), address)
    }
}
