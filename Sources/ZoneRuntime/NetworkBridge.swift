// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// What a network is on the host: a bridge with the first address of each subnet, rules of the packet filter, and a dnsmasq
/// that knows the zones' names. All of it is made when the first zone starts, and found again by whoever looks next.
struct NetworkBridge {
    private let networks: NetworkStore
    /// Gets warnings.
    private let report: @Sendable (String) -> Void
    private var folders: ZoneFolders { networks.folders }

    init(_ networks: NetworkStore, report: @escaping @Sendable (String) -> Void = { _ in }) {
        self.networks = networks
        self.report = report
    }

    /// Makes sure that a network is up. Returns its bridge's index. Two looks, where it is.
    func ensure(_ network: NetworkRecord, _ links: borrowing Links) throws(ZoneError) -> Int32 {
        let name = folders.bridge(network.name)
        let names = NetworkNames(folders)
        if let bridge = try look(name, network, links), bridge.isUp, names.isRunning(network.name), try hasFilter() {
            return bridge.index
        }
        // One at a time; whoever waited finds it done.
        let lock = try networks.lock()
        defer { lock.unlock() }
        if let bridge = try look(name, network, links), bridge.isUp {
            // As after `nft flush ruleset`.
            if try !hasFilter() { try loadFilter() }
            if !names.isRunning(network.name) { try startNames(network, on: name) }
            return bridge.index
        }
        // Of one that was killed: it comes up last.
        try attempting("remove bridge \(name)") { () throws(SystemError) in try links.remove(name) }
        do throws(ZoneError) { return try make(network, name, links) } catch {
            // The first error is the one to tell.
            try? links.remove(name)
            throw error
        }
    }

    /// The network's bridge, `nil` where there is none; somebody else's link of that name is an error.
    private func look(
        _ name: String, _ network: NetworkRecord, _ links: borrowing Links
    ) throws(ZoneError) -> Links.Link? {
        let found = try attempting("look at bridge \(name)") { () throws(SystemError) in try links.link(name) }
        guard let found else { return nil }
        if found.kind == "bridge", found.mac == network.mac { return found }
        throw ZoneError(
            .exists, "network \(network.name): link \(name) of the host's is in the way",
            hint: "rename that link, or choose another name for the network")
    }

    private func make(
        _ network: NetworkRecord, _ name: String, _ links: borrowing Links
    ) throws(ZoneError) -> Int32 {
        guard let mac = network.mac else {
            throw ZoneError(.invalid, "network \(network.name) has no subnet", hint: "remove it, and make it again")
        }
        let attempt = "set up network \(network.name)"
        let index = try attempting(attempt) { () throws(SystemError) in
            do throws(SystemError) {
                try links.makeBridge(name, mac: mac, mtu: network.mtu.map { UInt32(clamping: $0) })
            } catch {
                guard error.errno == .notSupported else { throw error }
                throw SystemError(
                    error.operation,
                    "\(name): the kernel has no bridges (module bridge); there is --network none, and host", error.errno
                )
            }
            guard let bridge = try links.link(name) else { throw SystemError("look at link", name, .noDevice) }
            for (gateway, length) in network.bridgeAddresses {
                try links.addAddress(gateway, length: length, to: bridge.index)
            }
            return bridge.index
        }
        try loadFilter()
        try extend(network, to: index, links)
        if !network.isInternal { try forward(network) }
        // Zones are no routers.
        try? Descriptor.open("/proc/sys/net/ipv6/conf/\(name)/accept_ra", [.writeOnly]).writeOnce("0", "accept_ra")
        try attempting(attempt) { () throws(SystemError) in try links.bringUp(index) }
        try startNames(network, on: name)
        try rejoin(network, to: index, links)
        for obstacle in obstacles(network) { report("network \(network.name): \(obstacle)") }
        return index
    }

    /// What rules of somebody else's do to a network, and how to let it pass.
    func obstacles(_ network: NetworkRecord) -> [String] {
        found(network).map { "\($0.detail); what lets it pass: \($0.hint)" }
    }

    func found(_ network: NetworkRecord) -> [ForeignRules.Obstacle] {
        let bridge = folders.bridge(network.name)
        let uplinks = (try? Links().defaultLinks()) ?? []
        return ForeignRules.ofHost()?.obstacles(of: bridge, own: folders.filterTable, uplinks: uplinks) ?? []
    }

    /// Makes the network's VLAN a port of the bridge.
    private func extend(_ network: NetworkRecord, to bridge: Int32, _ links: borrowing Links) throws(ZoneError) {
        guard let name = network.parent, let number = network.vlan else { return }
        let attempt = "extend network \(network.name) to VLAN \(number)"
        do throws(SystemError) {
            guard let parent = try links.link(name) else { throw SystemError("look at link", name, .noDevice) }
            let link = folders.vlanLink(network.name)
            try links.remove(link)
            try links.makeVLAN(link, number: UInt16(clamping: number), on: parent.index, bridge: bridge)
        } catch {
            if error.errno == .notSupported {
                throw ZoneError(
                    .unsupported, "\(attempt): the kernel knows no VLANs: \(error)", hint: "it is the module 8021q")
            }
            throw ZoneError(attempt, error)
        }
    }

    /// Connects zones again that run while somebody has removed the bridge.
    private func rejoin(_ network: NetworkRecord, to bridge: Int32, _ links: borrowing Links) throws(ZoneError) {
        for definition in try networks.connected() {
            for attachment in definition.networks where attachment.name == network.name {
                try attempting("connect zone \(definition.name) again") { () throws(SystemError) in
                    guard let port = try links.link(folders.link(attachment)), port.master == nil else { return }
                    try links.join(port.index, bridge: bridge)
                }
            }
        }
    }

    /// Makes the packet filter's table again where it is gone, as after `nft flush ruleset`. Returns whether it was.
    func heal() throws(ZoneError) -> Bool {
        if try hasFilter() { return false }
        let lock = try networks.lock()
        defer { lock.unlock() }
        // One of several makes it.
        if try hasFilter() { return false }
        try loadFilter()
        return true
    }

    private func hasFilter() throws(ZoneError) -> Bool {
        try attempting("look at the packet filter") { () throws(SystemError) in
            try PacketFilter().has(folders.filterTable)
        }
    }

    /// Also those of zones that run already, where an earlier dnsmasq has died.
    private func startNames(_ network: NetworkRecord, on bridge: String) throws(ZoneError) {
        let names = NetworkNames(folders)
        try names.start(network, on: bridge)
        var advertises = false
        for definition in try networks.connected() {
            for attachment in definition.networks where attachment.name == network.name {
                try attempting("tell network \(network.name) of zone \(definition.name)") { () throws(SystemError) in
                    try names.add(definition, attachment, to: network)
                }
                advertises = advertises || definition.bootsDisk
            }
        }
        if advertises { try names.advertise(network, on: bridge) }
    }

    /// Lets a machine that boots its own disk, which the network knows already, find out its address of IPv6.
    func advertise(_ network: NetworkRecord) throws(ZoneError) {
        let lock = try networks.lock()
        defer { lock.unlock() }
        try NetworkNames(folders).advertise(network, on: folders.bridge(network.name))
    }

    /// Lets the host pass on what zones send and get. Switched on, and never off: others may need it, too.
    private func forward(_ network: NetworkRecord) throws(ZoneError) {
        for (family, path) in [
            (IPAddress.Family.v4, "/proc/sys/net/ipv4/ip_forward"),
            (.v6, "/proc/sys/net/ipv6/conf/all/forwarding"),
        ] where network.ranges.contains(where: { $0.base.family == family }) {
            guard let now = try? readHostFile(path, limit: 16), now.first != UInt8(ascii: "1") else { continue }
            if family == .v6 { keepAdvertisements() }
            do throws(SystemError) { try Descriptor.open(path, [.writeOnly]).writeOnce("1", path) } catch {
                throw ZoneError(
                    .notPermitted, "network \(network.name): forwarding is off, and cannot be switched on: \(error)",
                    hint: "sysctl -w \(family == .v4 ? "net.ipv4.ip_forward=1" : "net.ipv6.conf.all.forwarding=1")")
            }
        }
    }

    /// A host that passes on IPv6 no longer listens to routers itself, and would lose the default route that it has from
    /// them: unless it is told that it does both (`accept_ra`, ip-sysctl).
    private func keepAdvertisements() {
        let folder = "/proc/sys/net/ipv6/conf"
        for link in (try? Descriptor.open(folder, [.readOnly, .directory]).entries()) ?? [] where link != "all" {
            let path = "\(folder)/\(link)/accept_ra"
            guard let now = try? readHostFile(path, limit: 16), now.first == UInt8(ascii: "1") else { continue }
            try? Descriptor.open(path, [.writeOnly]).writeOnce("2", path)
        }
    }

    // MARK: The packet filter

    /// Makes the table as a whole, with all that is known of networks and running zones. The caller holds the lock.
    func loadFilter(without removed: String? = nil) throws(ZoneError) {
        var filtered: [FilteredNetwork] = []
        for network in try networks.list() where network.name != removed {
            var one = FilteredNetwork(
                bridge: folders.bridge(network.name), subnets: network.ranges,
                gateways: network.bridgeAddresses.map(\.address))
            one.isInternal = network.isInternal
            filtered.append(one)
        }
        var places: Set<FilterElement.Place> = []
        let elements = try networks.connected().flatMap { ZonePorts.elements($0) }.filter { element in
            // Of two that want one port, as while both try to start, one has it.
            places.insert(element.place).inserted
        }
        let table = FilterTable(name: folders.filterTable, networks: filtered)
        do throws(SystemError) {
            var program = try HostProgram("nft", ["-f", "-"])
            program.input = Array(table.text(elements: elements).utf8)
            let outcome = try program.run()
            if outcome.status == .exited(0) { return }
            throw SystemError("nft", outcome.reason, .ioError)
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "networks of zones need nft, which is not installed",
                    hint: "install Debian's package nftables, or use --network none or host")
            }
            throw ZoneError("set up the packet filter", error)
        }
    }

    // MARK: The end

    /// Removes what there is of a network. The caller holds the lock.
    func takeDown(_ network: NetworkRecord) throws(ZoneError) {
        try NetworkNames(folders).stop(network.name)
        let name = folders.bridge(network.name)
        try attempting("remove bridge \(name)") { () throws(SystemError) in
            let links = try Links()
            // Somebody else's stays.
            if let found = try links.link(name), found.kind == "bridge", found.mac == network.mac {
                try links.remove(name)
            }
            if network.vlan != nil { try links.remove(folders.vlanLink(network.name)) }
        }
        // Without nft there is no table.
        if (try? HostProgram.find("nft")) != nil { try loadFilter(without: network.name) }
    }
}
