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
            guard (try? zones.record(of: zone))??.isConnected == true else { return nil }
            return (try? zones.definition(of: zone)) ?? nil
        }
    }

    /// Where the names of a zone's networks are known: at the first of them that anything can be asked through.
    func gateways(of definition: ZoneDefinition) throws(ZoneError) -> [String] {
        guard let first = definition.networks.first else { return [] }
        return try find(first.name).ranges.compactMap { $0.host(1)?.description }
    }

    // MARK: Making

    /// What a network is to be, where it is not to be found.
    public struct Wish: Sendable {
        public var subnets: [String] = []
        public var isInternal = false
        public var mtu: Int64?
        public var labels: [String: String] = [:]

        public init() {}
    }

    /// Makes a network. Returns what it became.
    @discardableResult
    public func create(_ name: String, _ wish: Wish = Wish()) throws(ZoneError) -> NetworkRecord {
        guard ZoneName.isValid(name), !["none", "host"].contains(name) else {
            throw ZoneError(
                .invalid, "network name \"\(name)\" is not valid",
                hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit; not none or host"
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
        network.subnets = try subnets(wish, name).map(\.description)
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

    /// Whether the host speaks IPv6, ip-sysctl.
    private static var hasSix: Bool {
        ["all", "default"].allSatisfy { scope in
            (try? readHostFile("/proc/sys/net/ipv6/conf/\(scope)/disable_ipv6", limit: 16))?.first == UInt8(ascii: "0")
        }
    }

    /// Those that are asked for, which must be free, or free ones.
    private func subnets(_ wish: Wish, _ name: String) throws(ZoneError) -> [Subnet] {
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

    // MARK: Addresses

    /// Gives a zone that is being made, or changed, an address in each subnet of the networks where it has none yet.
    func lease(_ definition: inout ZoneDefinition) throws(ZoneError) {
        for index in definition.networks.indices where definition.networks[index].addresses.isEmpty {
            let network = try find(definition.networks[index].name)
            try lease(&definition.networks[index], network, definition.name)
        }
    }

    private func lease(
        _ attachment: inout NetworkAttachment, _ network: NetworkRecord, _ zone: String
    ) throws(ZoneError) {
        guard let first = network.ranges.first else { return }
        let leases = try attempting("look at the addresses of network \(network.name)") { () throws(SystemError) in
            try Descriptor.open(folders.leases(network.name), [.readOnly, .directory, .noFollow])
        }
        // A zone that is made again under its name has a good chance to get the address that it had.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in zone.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        // The first is the bridge's; few look further than there are zones.
        let hosts = min(first.hosts - 1, 1 << 16)
        for step in 0..<hosts {
            let number = 2 + (hash &+ step) % hosts
            guard let address = first.host(number), try take(address, zone, leases) else { continue }
            attachment.addresses = [address.description]
            for other in network.ranges.dropFirst() {
                if let address = other.host(number) { attachment.addresses.append(address.description) }
            }
            let seed = [0x02, 0x5a] + Array(address.bytes.suffix(4))
            attachment.mac = MACAddress(local: seed)?.description ?? ""
            return
        }
        throw ZoneError(
            .unsupported, "network \(network.name) has no address left: all of \(first) are given out",
            hint: "remove zones, or make a network with a larger --subnet")
    }

    /// `false` where another zone has it.
    private func take(
        _ address: IPAddress, _ zone: String, _ leases: borrowing Descriptor
    ) throws(ZoneError) -> Bool {
        let name = address.description
        if try make(name, zone, leases) { return true }
        let holder = try holder(name, leases)
        if holder != zone, zones.exists(holder) { return false }
        // Of one that was renamed, or whose making or removal was killed: one at a time, as the file goes and comes.
        let takeOver = try attempting("give out address \(name)") { () throws(SystemError) in
            let folder = try leases.open(".", [.readOnly, .directory], resolve: .beneath)
            _ = try folder.lock()
            return folder
        }
        defer { takeOver.unlock() }
        guard try self.holder(name, leases) == holder, try !isHeld(name) else { return false }
        try? leases.remove(name)
        return try make(name, zone, leases)
    }

    private func holder(_ name: String, _ leases: borrowing Descriptor) throws(ZoneError) -> String {
        do throws(SystemError) { return String(decoding: try leases.readFile(name, limit: 256), as: UTF8.self) } catch {
            if error.errno == .noEntry { return "" }
            throw ZoneError("look at address \(name)", error)
        }
    }

    /// Makes a lease, whole from the beginning; `false` where there is one.
    private func make(_ name: String, _ zone: String, _ leases: borrowing Descriptor) throws(ZoneError) -> Bool {
        let temporary = ".\(getpid()).new"
        do throws(SystemError) {
            try leases.replaceFile(temporary, Array(zone.utf8), mode: 0o600)
            let result = zn_linkat(leases.raw, temporary, leases.raw, name, 0)
            try leases.remove(temporary)
            if result == -EEXIST { return false }
            try check(result, "link", name)
            return true
        } catch {
            throw ZoneError("give out address \(name)", error)
        }
    }

    /// Lets a zone's leases know its new name.
    func rename(_ networks: [NetworkAttachment], to zone: String) {
        for network in networks {
            // What keeps the old name is the zone's all the same: its definition says so.
            guard let first = network.addresses.first,
                let leases = try? Descriptor.open(folders.leases(network.name), [.readOnly, .directory, .noFollow])
            else { continue }
            try? leases.replaceFile(first, Array(zone.utf8), mode: 0o600)
        }
    }

    private func isHeld(_ address: String) throws(ZoneError) -> Bool {
        for zone in try zones.names() {
            let definition = try zones.definition(of: zone)
            if definition?.networks.contains(where: { $0.addresses.contains(address) }) == true { return true }
        }
        return false
    }

    /// Gives back what a zone had that is no more.
    func release(_ networks: [NetworkAttachment], of zone: String) {
        for network in networks {
            guard let first = network.addresses.first,
                let leases = try? Descriptor.open(folders.leases(network.name), [.readOnly, .directory, .noFollow]),
                (try? leases.readFile(first, limit: 256)) == Array(zone.utf8)
            else { continue }
            // What cannot be given back now is taken by who needs it.
            try? leases.remove(first)
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
