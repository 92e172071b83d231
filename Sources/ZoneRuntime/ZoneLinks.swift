// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network

/// The links of one zone to its networks. A link goes with the zone's network namespace, and so with the zone, whoever is
/// killed; what stays of one is an element in a set and a name, which do nobody any harm and are found by its next start.
struct ZoneLinks {
    private let networks: NetworkStore
    private let definition: ZoneDefinition
    private var folders: ZoneFolders { networks.folders }

    init(_ store: ZoneStore, _ definition: ZoneDefinition) {
        networks = NetworkStore(store)
        self.definition = definition
    }

    /// What may come from the zone's links.
    static func elements(_ definition: ZoneDefinition, _ folders: ZoneFolders) -> [FilterElement] {
        definition.networks.flatMap { network in
            guard let mac = MACAddress(network.mac) else { return [FilterElement]() }
            return FilterElement.sender(
                folders.link(definition.name, network.name), mac, network.addresses.compactMap { IPAddress($0) })
        }
    }

    /// Connects a zone whose first process has its namespaces and waits: `eth0` is in the first network, by which all else
    /// is reached, `eth1` in the next one.
    func connect(_ process: Int32) throws(ZoneError) {
        if definition.networks.isEmpty { return }
        let zone = definition.name
        let links = try attempting("connect zone \(zone)") { () throws(SystemError) in try Links() }
        var bridges: [(network: NetworkRecord, index: Int32)] = []
        for attachment in definition.networks {
            let network = try networks.find(attachment.name)
            bridges.append((network, try NetworkBridge(networks).ensure(network, links)))
        }
        // Before there is a link that anything could come from.
        try allow()
        do throws(SystemError) {
            let namespace = try Descriptor.open("/proc/\(process)/ns/net", [.readOnly])
            let inside = try Links(of: namespace)
            for (number, attachment) in definition.networks.enumerated() {
                let (network, bridge) = bridges[number]
                let own = Links.End(name: folders.link(zone, attachment.name))
                let other = Links.End(name: "eth\(number)", mac: MACAddress(attachment.mac))
                // Of a former run whose namespace is just going.
                try links.remove(own.name)
                try links.makePair(
                    own, other, in: namespace, bridge: bridge, mtu: network.mtu.map { UInt32(clamping: $0) })
                try settle(attachment, network, other.name, inside, isFirst: number == 0)
                try NetworkNames(folders).add(zone, attachment)
            }
        } catch {
            throw ZoneError("connect zone \(zone)", error)
        }
    }

    private func settle(
        _ attachment: NetworkAttachment, _ network: NetworkRecord, _ name: String, _ inside: borrowing Links,
        isFirst: Bool
    ) throws(SystemError) {
        guard let link = try inside.link(name) else { throw SystemError("look at link", name, .noDevice) }
        try inside.bringUp(link.index)
        for (text, range) in zip(attachment.addresses, network.ranges) {
            guard let address = IPAddress(text), let gateway = range.host(1) else { continue }
            do throws(SystemError) { try inside.addAddress(address, length: range.length, to: link.index) } catch {
                // The zone wants no IPv6: net.ipv6.conf.all.disable_ipv6.
                if address.family == .v6, error.errno == .accessDenied { continue }
                throw error
            }
            if isFirst, !network.isInternal { try inside.addDefaultRoute(by: gateway, on: link.index) }
        }
    }

    private func allow() throws(ZoneError) {
        let elements = ZoneLinks.elements(definition, folders)
        // Nobody makes the tables anew meanwhile.
        let shared = try networks.lock(isShared: true)
        defer { shared.unlock() }
        do throws(SystemError) {
            let filter = try PacketFilter()
            do throws(SystemError) { return try filter.change(folders.filterTable, add: elements) } catch {
                // The tables are gone, as after `nft flush ruleset`.
                guard error.errno == .noEntry else { throw error }
            }
        } catch {
            throw ZoneError("let zone \(definition.name) send", error)
        }
        // For who makes them.
        shared.unlock()
        let lock = try networks.lock()
        defer { lock.unlock() }
        try NetworkBridge(networks).loadFilter()
        try attempting("let zone \(definition.name) send") { () throws(SystemError) in
            try PacketFilter().change(folders.filterTable, add: elements)
        }
    }

    /// Takes back what a zone that has ended had beside its links.
    func disconnect() {
        if definition.networks.isEmpty { return }
        // First what would send, should anything still have the namespace.
        if let links = try? Links() {
            for network in definition.networks { try? links.remove(folders.link(definition.name, network.name)) }
        }
        // What is gone already is as good; the next one makes the tables whole.
        try? PacketFilter().change(folders.filterTable, remove: ZoneLinks.elements(definition, folders))
        for network in definition.networks { NetworkNames(folders).remove(definition.name, network.name) }
    }
}
