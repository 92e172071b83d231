// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Network
import OCI

/// Makes, lists and removes networks, and gives out their addresses.
///
///     STORE/networks/NAME/network.json
///                    NAME/leases/ADDRESS   the name of the zone that has it
///
/// Networks come and go under the lock of STORE/networks, which who makes a zone shares until its definition says where it
/// is. An address is a zone's as soon as its file is there, which only one process can make: so zones need not wait for one
/// another, and no address is given out twice.
public struct NetworkStore: Sendable {
    private static let record = "network.json"
    private static let unfinished = ".new"

    let zones: ZoneStore
    var folders: ZoneFolders { zones.folders }

    public init(_ folders: ZoneFolders) {
        zones = ZoneStore(folders)
    }

    init(_ zones: ZoneStore) {
        self.zones = zones
    }

    // MARK: Looking

    /// Returns all networks, by name.
    public func list() throws(ZoneError) -> [NetworkRecord] {
        var networks: [NetworkRecord] = []
        for name in try zones.names(ofAll: "networks", in: folders.networks) {
            // Removed since the list was read.
            if let network = try network(name) { networks.append(network) }
        }
        return networks
    }

    /// Returns a network, by its whole name.
    public func find(_ name: String) throws(ZoneError) -> NetworkRecord {
        if let network = try network(name) { return network }
        throw ZoneError(
            .notFound, "there is no network \"\(name)\"",
            hint: "'zonectl network ls' lists those that there are, 'zonectl network create' makes one")
    }

    private func network(_ name: String) throws(ZoneError) -> NetworkRecord? {
        guard ZoneName.isValid(name) else { return nil }
        var network: NetworkRecord? = try zones.read("\(folders.network(name))/\(NetworkStore.record)")
        network?.name = name
        return network
    }

    /// The zones that are in each network, running or not.
    public func users() throws(ZoneError) -> [String: [String]] {
        var users: [String: [String]] = [:]
        for zone in try zones.names() {
            guard let definition = try zones.definition(of: zone) else { continue }
            for network in definition.networks { users[network.name, default: []].append(zone) }
        }
        return users
    }

    /// What zones are that are connected, or about to be: by their records, as one that just starts has no process yet.
    func connected() throws(ZoneError) -> [ZoneDefinition] {
        try zones.names().compactMap { zone in
            // One that cannot be read is for who names it; the others' networks go on.
            guard (try? zones.record(of: zone))??.isConnected == true, zones.entry(zone).state.isUp else { return nil }
            return (try? zones.definition(of: zone)) ?? nil
        }
    }

    /// Who knows the names of a zone's networks.
    func gateways(of definition: ZoneDefinition) throws(ZoneError) -> [String] {
        if ZoneResolver.isNeeded(definition) { return [ZoneResolver.address] }
        guard let first = definition.networks.first(where: \.isOfZones) else { return [] }
        return try find(first.name).bridgeAddresses.map(\.address.description)
    }

    /// What rules of somebody else's on the host do to a network, a sentence each, and how to let it pass.
    public func obstacles(_ network: NetworkRecord) -> [String] { NetworkBridge(self).obstacles(network) }

    // MARK: Making

    /// The network that zones are in where nothing else is said; it is made when the first one is.
    public static let standard = "zone0"

    /// Makes the standard network where a zone is to be in it and it is not there. Returns the lock, shared, under which what a
    /// definition names cannot go before that is written; `nil` where it names nothing.
    func provided(for definition: ZoneDefinition) throws(ZoneError) -> Descriptor? {
        guard definition.networks.contains(where: \.isOfZones) else { return nil }
        if definition.networks.contains(where: { $0.name == NetworkStore.standard }),
            try network(NetworkStore.standard) == nil
        {
            do throws(ZoneError) { try create(NetworkStore.standard) } catch {
                // By another one meanwhile.
                if error.code != .exists { throw error }
            }
        }
        return try lock(isShared: true)
    }

    /// What a network is to be, where it is not to be found.
    public struct Wish: Sendable {
        public var subnets: [String] = []
        public var gateways: [String] = []
        public var isInternal = false
        public var mtu: Int64?
        public var parent: String?
        public var vlan: Int64?
        public var labels: [String: String] = [:]

        public init() {}
    }

    /// Makes a network. Returns what it became.
    @discardableResult
    public func create(_ name: String, _ wish: Wish = Wish()) throws(ZoneError) -> NetworkRecord {
        guard ZoneName.isValid(name), ZoneDefinition.Network(rawValue: name) == nil,
            !["bridge", "macvlan"].contains(name)
        else {
            throw ZoneError(
                .invalid, "network name \"\(name)\" is not valid",
                hint:
                    "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit; not none, host, zone, bridge or macvlan"
            )
        }
        if Rootless.isInside {
            throw ZoneError(
                .notPermitted, "an ordinary user can make no networks of zones",
                hint: "use --network none or host, or run zonectl as root")
        }
        let folder = try lock()
        if try network(name) != nil {
            throw ZoneError(
                .exists, "there is a network \"\(name)\" already",
                hint: "choose another name, or remove it with 'zonectl network rm \(name)'")
        }
        var network = NetworkRecord()
        network.name = name
        network.created = Int64(time(nil))
        network.isInternal = wish.isInternal
        network.mtu = wish.mtu
        network.labels = wish.labels
        let subnets = try subnets(wish, name)
        network.subnets = subnets.map(\.description)
        network.gateways = try gateways(wish, subnets)
        try verifyVLAN(wish)
        network.parent = wish.parent
        network.vlan = wish.vlan
        do throws(SystemError) {
            try folder.removeTree(NetworkStore.unfinished)
            try folder.makeDirectory(NetworkStore.unfinished, mode: 0o700)
            let made = try folder.open(NetworkStore.unfinished, [.readOnly, .directory], resolve: .beneath)
            try made.makeDirectory("leases", mode: 0o700)
            try made.replaceFile(NetworkStore.record, network.serialized(), mode: 0o600, durable: true)
            try folder.rename(NetworkStore.unfinished, to: name, replace: false)
        } catch {
            throw ZoneError("make network \(name)", error)
        }
        return network
    }

    /// The folder of all networks, locked. `isShared`: for who only looks; no network goes, and no tables are made anew,
    /// meanwhile.
    func lock(isShared: Bool = false) throws(ZoneError) -> Descriptor {
        try attempting("open the folder of networks") { () throws(SystemError) in
            _ = try Descriptor.makePath(folders.networks, mode: 0o700)
            let folder = try Descriptor.open(folders.networks, [.readOnly, .directory, .noFollow])
            _ = try folder.lock(exclusive: !isShared)
            return folder
        }
    }

    // MARK: Removing

    /// Removes a network that no zone is in.
    public func remove(_ name: String) throws(ZoneError) {
        let folder = try lock()
        let network = try find(name)
        if let zones = try users()[name] {
            throw ZoneError(
                .wrongState,
                "network rm: zone\(zones.count == 1 ? "" : "s") \(zones.joined(separator: ", ")) of network \(name) would lose it",
                hint: "remove the zones first")
        }
        try NetworkBridge(self).takeDown(network)
        try attempting("remove network \(name)") { () throws(SystemError) in
            // Its name goes first: half of it must not be taken for a network.
            try folder.removeTree(NetworkStore.unfinished)
            try folder.rename(name, to: NetworkStore.unfinished, replace: false)
            try folder.removeTree(NetworkStore.unfinished)
        }
    }
}
