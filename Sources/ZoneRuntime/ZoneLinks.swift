// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network

/// The links of one zone to its networks. A link goes with the zone's network namespace, and so with the zone, whoever is
/// killed; the guard on it goes with it. What stays of one is a name, which does nobody any harm.
struct ZoneLinks {
    private let networks: NetworkStore
    private let definition: ZoneDefinition
    /// Gets warnings.
    private let report: @Sendable (String) -> Void
    private var zone: String { definition.name }
    private var folders: ZoneFolders { networks.folders }

    init(_ store: ZoneStore, _ definition: ZoneDefinition, report: @escaping @Sendable (String) -> Void = { _ in }) {
        networks = NetworkStore(store)
        self.report = report
        self.definition = definition
    }

    /// The two sides of a link.
    private struct Sides: ~Copyable {
        /// The host's.
        let links: Links
        /// The zone's network namespace, and what is in it.
        let namespace: Descriptor
        let inside: Links

        init(_ process: Int32) throws(SystemError) {
            let links = try Links()
            let namespace = try Descriptor.open("/proc/\(process)/ns/net", [.readOnly])
            inside = try Links(of: namespace)
            self.links = links
            self.namespace = namespace
        }
    }

    // MARK: Connecting

    /// Connects a zone whose first process has its namespaces and waits, or runs. `only`: to these networks, the others being
    /// connected.
    func connect(_ process: Int32, only: [String]? = nil) throws(ZoneError) {
        let attachments = definition.networks.filter { only?.contains($0.name) ?? true }
        if attachments.isEmpty { return }
        let attempt = "connect zone \(zone)"
        let sides = try attempting(attempt) { () throws(SystemError) in try Sides(process) }
        for attachment in attachments {
            switch attachment.kind {
            case .zones: try connect(attachment, sides)
            case .bridge(let bridge): try connect(attachment, toBridge: bridge, process, sides, isRunning: only != nil)
            case .macvlan(let parent):
                try connect(attachment, toNetworkOf: parent, process, sides, isRunning: only != nil)
            case nil: throw ZoneError(.invalid, "\(attempt): \"\(attachment.name)\" is not a network")
            }
        }
        try route(sides)
        // The zone does so itself as well, in its own time.
        if ZoneResolver.isNeeded(definition) {
            try attempting(attempt) { () throws(SystemError) in
                if let loopback = try sides.inside.link("lo") { try sides.inside.bringUp(loopback.index) }
            }
        }
        try ZoneResolver(networks, definition).update(sides.namespace, process, report: report)
    }

    /// A pair of links of which one is born in the zone, and the other as a port of the bridge, where a guard is on it before
    /// anything can come from the zone.
    private func connect(_ attachment: NetworkAttachment, _ sides: borrowing Sides) throws(ZoneError) {
        let network = try networks.find(attachment.name)
        let bridge = try NetworkBridge(networks, report: report).ensure(network, sides.links)
        do throws(SystemError) {
            try pair(attachment, bridge: bridge, mtu: network.mtu, addresses: attachment.ipAddresses, sides)
            guard let link = try sides.inside.link(attachment.link) else {
                throw SystemError("look at link", attachment.link, .noDevice)
            }
            ignoreRouters(attachment, sides)
            try sides.inside.bringUp(link.index)
            for range in network.ranges {
                guard let address = attachment.ipAddresses.first(where: { range.contains($0) }) else { continue }
                do throws(SystemError) {
                    try sides.inside.addAddress(address, length: range.length, to: link.index)
                } catch {
                    // The zone wants no IPv6: net.ipv6.conf.all.disable_ipv6.
                    guard address.family == .v6, error.errno == .accessDenied else { throw error }
                }
            }
            try NetworkNames(folders).add(definition, attachment, to: network)
        } catch {
            throw ZoneError("connect zone \(zone) to network \(network.name)", error)
        }
    }

    /// The zone has its addresses and routes from us: what the network tells machines (`NetworkNames.advertise`) is not for it.
    /// The kernel shows the settings of the network namespace that the caller is in.
    private func ignoreRouters(_ attachment: NetworkAttachment, _ sides: borrowing Sides) {
        // Without IPv6 there are none.
        try? NetworkNamespace.inside(sides.namespace) { () throws(SystemError) in
            try Descriptor.open("/proc/sys/net/ipv6/conf/\(attachment.link)/accept_ra", [.writeOnly])
                .writeOnce("0", "accept_ra")
        }
    }

    private func connect(
        _ attachment: NetworkAttachment, toBridge name: String, _ process: Int32, _ sides: borrowing Sides,
        isRunning: Bool
    ) throws(ZoneError) {
        let attempt = "connect zone \(zone) to \(attachment.name)"
        let found = try attempting(attempt) { () throws(SystemError) in try sides.links.link(name) }
        guard let bridge = found, bridge.kind == "bridge" else {
            throw ZoneError(
                .notFound, "\(attempt): the host has no bridge \(name)",
                hint: found == nil
                    ? "'ip link show type bridge' lists them" : "\(name) is another kind of link: macvlan:\(name)")
        }
        try attempting(attempt) { () throws(SystemError) in
            // Addresses are its own DHCP's matter.
            try pair(attachment, bridge: bridge.index, mtu: Int64(bridge.mtu), addresses: nil, sides)
            guard let link = try sides.inside.link(attachment.link) else {
                throw SystemError("look at link", attachment.link, .noDevice)
            }
            try sides.inside.bringUp(link.index)
        }
        try NetworkClient(networks.zones, definition, attachment).start(
            sides.namespace, process, isRunning: isRunning, report: report)
    }

    private func connect(
        _ attachment: NetworkAttachment, toNetworkOf name: String, _ process: Int32, _ sides: borrowing Sides,
        isRunning: Bool
    ) throws(ZoneError) {
        let attempt = "connect zone \(zone) to \(attachment.name)"
        let found = try attempting(attempt) { () throws(SystemError) in try sides.links.link(name) }
        guard let parent = found else {
            throw ZoneError(.notFound, "\(attempt): the host has no link \(name)", hint: "'ip -br link' lists them")
        }
        try attempting(attempt) { () throws(SystemError) in
            let own = Links.End(name: attachment.link, mac: MACAddress(attachment.mac))
            try sides.links.makeMacvlan(own, in: sides.namespace, parent: parent.index)
            guard let link = try sides.inside.link(attachment.link) else {
                throw SystemError("look at link", attachment.link, .noDevice)
            }
            // The station may still be that of a former run whose namespace is just going.
            for attempt in 0... {
                do throws(SystemError) { return try sides.inside.bringUp(link.index) } catch {
                    guard error.errno == .addressInUse, attempt < 200 else { throw error }
                    pause(milliseconds: 20)
                }
            }
        }
        try NetworkClient(networks.zones, definition, attachment).start(
            sides.namespace, process, isRunning: isRunning, report: report)
    }

    private func pair(
        _ attachment: NetworkAttachment, bridge: Int32, mtu: Int64?, addresses: [IPAddress]?, _ sides: borrowing Sides
    ) throws(SystemError) {
        guard let mac = MACAddress(attachment.mac) else { throw SystemError("connect", attachment.mac, .invalid) }
        let own = Links.End(name: folders.link(attachment))
        let other = Links.End(name: attachment.link, mac: mac)
        let mtu = mtu.map { UInt32(clamping: $0) }
        do throws(SystemError) {
            try sides.links.makePair(own, other, in: sides.namespace, bridge: bridge, mtu: mtu)
        } catch {
            guard error.errno == .exists else { throw error }
            // Of a former run whose namespace is just going, or which somebody holds.
            try sides.links.remove(own.name)
            try sides.links.makePair(own, other, in: sides.namespace, bridge: bridge, mtu: mtu)
        }
        guard let port = try sides.links.link(own.name) else { throw SystemError("look at link", own.name, .noDevice) }
        try guardPort(
            sides.links, port.index,
            PortGuard(mac: mac, addresses: addresses ?? [], open: addresses == nil ? [.v4, .v6] : []))
        if attachment.inRate != nil || attachment.outRate != nil {
            try sides.links.limit(
                port.index, toPort: attachment.inRate, fromPort: attachment.outRate, brake: folders.brake(attachment))
        }
    }

    private func guardPort(
        _ links: borrowing Links, _ index: Int32, _ guardian: PortGuard
    ) throws(SystemError) {
        do throws(SystemError) { try links.guardPort(index, guardian) } catch {
            guard [.notSupported, .noEntry].contains(error.errno) else { throw error }
            throw SystemError(
                error.operation,
                "\(error.subject): the kernel cannot guard against spoofed addresses (modules sch_ingress and cls_bpf)",
                .notSupported)
        }
    }

    // MARK: Machines

    /// Connects a machine's network card: the same segment, the same guard, the same name as a container's. The descriptor is
    /// handed to QEMU; the link goes with its last copy.
    func tap(_ attachment: NetworkAttachment) throws(ZoneError) -> Descriptor {
        let attempt = "connect machine \(zone) to network \(attachment.name)"
        let network = try networks.find(attachment.name)
        let links = try attempting(attempt) { () throws(SystemError) in try Links() }
        let segment = NetworkBridge(networks, report: report)
        let bridge = try segment.ensure(network, links)
        let tap = try attempting(attempt) { () throws(SystemError) in
            guard let mac = MACAddress(attachment.mac) else { throw SystemError("connect", attachment.mac, .invalid) }
            let name = folders.link(attachment)
            // Of a former run, which somebody holds.
            try links.remove(name)
            let tap = try Tap.make(name)
            guard let port = try links.link(name) else { throw SystemError("look at link", name, .noDevice) }
            try guardPort(links, port.index, PortGuard(mac: mac, addresses: attachment.ipAddresses))
            if let mtu = network.mtu { try links.setMTU(port.index, UInt32(clamping: mtu)) }
            try links.join(port.index, bridge: bridge)
            if attachment.inRate != nil || attachment.outRate != nil {
                try links.limit(
                    port.index, toPort: attachment.inRate, fromPort: attachment.outRate,
                    brake: folders.brake(attachment))
            }
            try links.bringUp(port.index)
            try NetworkNames(folders).add(definition, attachment, to: network)
            return tap
        }
        // A machine without that has IPv4 still, as on a host whose kernel has no IPv6.
        if definition.bootsDisk {
            do throws(ZoneError) { try segment.advertise(network) } catch { report(error.detail) }
        }
        return tap
    }

    /// Everything else is reached by the first network that leads anywhere, of each family.
    private func route(_ sides: borrowing Sides) throws(ZoneError) {
        var served: [IPAddress.Family] = []
        for attachment in definition.networks where attachment.isOfZones {
            let network = try networks.find(attachment.name)
            if network.isInternal { continue }
            for range in network.ranges where !served.contains(range.base.family) {
                guard let gateway = network.gateway(in: range),
                    attachment.ipAddresses.contains(where: { range.contains($0) })
                else { continue }
                served.append(range.base.family)
                try attempting("route zone \(zone)") { () throws(SystemError) in
                    guard let link = try sides.inside.link(attachment.link) else { return }
                    do throws(SystemError) { try sides.inside.setDefaultRoute(by: gateway, on: link.index) } catch {
                        // Without IPv6 there is no way to its gateway.
                        guard gateway.family == .v6 else { throw error }
                    }
                }
            }
        }
    }

    // MARK: Rates

    /// Limits what goes in and out, or no longer does.
    func limit(_ attachments: [NetworkAttachment]) throws(ZoneError) {
        if attachments.isEmpty { return }
        try attempting("limit the network of zone \(zone)") { () throws(SystemError) in
            let links = try Links()
            for attachment in attachments {
                guard let port = try links.link(folders.link(attachment)) else { continue }
                try links.limit(
                    port.index, toPort: attachment.inRate, fromPort: attachment.outRate,
                    brake: folders.brake(attachment))
            }
        }
    }

    // MARK: The end

    /// Takes a zone that goes on out of some networks, which its definition names no more.
    func disconnect(_ left: [NetworkAttachment], of process: Int32) throws(ZoneError) {
        let sides = try attempting("disconnect zone \(zone)") { () throws(SystemError) in try Sides(process) }
        for attachment in left {
            try attempting("disconnect zone \(zone) from \(attachment.name)") { () throws(SystemError) in
                try remove(attachment, sides)
            }
            if attachment.isOfZones {
                NetworkNames(folders).remove(zone, attachment.name)
            } else {
                NetworkClient(networks.zones, definition, attachment).stop()
            }
            if attachment.outRate != nil { try? sides.links.remove(folders.brake(attachment)) }
        }
        try route(sides)
        try ZoneResolver(networks, definition).update(sides.namespace, process, report: report)
    }

    /// By the host's end, as the zone may call its own anything; with it that goes, too.
    private func remove(_ attachment: NetworkAttachment, _ sides: borrowing Sides) throws(SystemError) {
        guard case .macvlan = attachment.kind else { return try sides.links.remove(folders.link(attachment)) }
        // It has none. What is no other attachment's by its station is this one.
        let others = definition.networks.map(\.mac)
        for link in try sides.inside.all() where link.kind == "macvlan" {
            if link.name == attachment.link || !others.contains(link.mac?.description ?? "") {
                try sides.inside.remove(link.name)
            }
        }
    }

    /// Takes back what a zone that has ended had beside its links. These go by themselves, and nobody waits for that.
    func forget() {
        ZonePorts.withdraw(definition.ports, of: definition, folders)
        for attachment in definition.networks {
            if attachment.isOfZones { NetworkNames(folders).remove(zone, attachment.name) }
            // It is no end of the link, and stays.
            if attachment.outRate != nil { try? Links().remove(folders.brake(attachment)) }
        }
    }
}
