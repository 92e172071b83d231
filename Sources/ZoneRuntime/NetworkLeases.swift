// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Network

/// Gives out the addresses of networks.
///
///     STORE/networks/NAME/leases/ADDRESS   the name of the zone that has it; likewise for a MAC address that was chosen
///
/// An address is a zone's as soon as its file is there, which only one process can make: so zones need not wait for one
/// another, and none is given out twice, whoever is killed.
struct NetworkLeases {
    private let networks: NetworkStore
    private var zones: ZoneStore { networks.zones }
    private var folders: ZoneFolders { networks.folders }

    init(_ store: ZoneStore) {
        networks = NetworkStore(store)
    }

    // MARK: Giving out

    /// Gives a zone that is being made, or changed, what it has not yet: in each network an address of each subnet, a MAC
    /// address, and a name for its link. `former`: what it had before, which is not asked for anew. All of it, or nothing.
    func lease(_ definition: inout ZoneDefinition, former: [NetworkAttachment] = []) throws(ZoneError) {
        var taken: [Taken] = []
        do throws(ZoneError) { try lease(&definition, former, &taken) } catch {
            for one in taken { try? open(one.network).remove(one.name) }
            throw error
        }
    }

    /// A file that was made.
    private struct Taken {
        let network: String
        let name: String
    }

    private func lease(
        _ definition: inout ZoneDefinition, _ former: [NetworkAttachment], _ taken: inout [Taken]
    ) throws(ZoneError) {
        for index in definition.networks.indices {
            var attachment = definition.networks[index]
            let had = former.first { $0.name == attachment.name }
            let isKept = attachment.addresses == had?.addresses && attachment.mac == had?.mac
            attachment.isChosen =
                isKept ? had?.isChosen ?? false : !attachment.addresses.isEmpty || !attachment.mac.isEmpty
            if attachment.isOfZones {
                let network = try networks.find(attachment.name)
                try lease(&attachment, network, definition.name, had, &taken)
            } else if attachment.mac.isEmpty {
                attachment.mac = had?.mac ?? MACAddress().description
            }
            if attachment.link.isEmpty {
                let taken = definition.networks.map(\.link)
                attachment.link = had?.link ?? ""
                if attachment.link.isEmpty || taken.contains(attachment.link) {
                    attachment.link = (0...taken.count).map { "eth\($0)" }.first { !taken.contains($0) } ?? ""
                }
            }
            definition.networks[index] = attachment
        }
    }

    private func lease(
        _ attachment: inout NetworkAttachment, _ network: NetworkRecord, _ zone: String, _ had: NetworkAttachment?,
        _ taken: inout [Taken]
    ) throws(ZoneError) {
        let leases = try attempting("look at the addresses of network \(network.name)") { () throws(SystemError) in
            try open(network.name)
        }
        let wishes = try wishes(attachment, network)
        var number: UInt64?
        var given: [IPAddress] = []
        for range in network.ranges {
            if let wish = wishes.first(where: { range.contains($0) }) {
                try takeWish(wish, network, zone, leases, &taken)
                given.append(wish)
                number = number ?? range.number(of: wish)
                continue
            }
            if let kept = had?.ipAddresses.first(where: { range.isHost($0) }) {
                given.append(kept)
                continue
            }
            let address = try takeAny(range, network, zone, leases, near: number)
            taken.append(Taken(network: network.name, name: address.description))
            given.append(address)
            number = number ?? range.number(of: address)
        }
        attachment.addresses = given.map(\.description)
        let own = given.first.flatMap { MACAddress(local: MACAddress.own + $0.bytes.suffix(4)) }?.description ?? ""
        if attachment.mac.isEmpty { attachment.mac = had?.ipAddresses == given ? had?.mac ?? own : own }
        if attachment.mac != own { try takeMAC(attachment.mac, network, zone, leases, &taken) }
    }

    /// The addresses that somebody wants, which must be some that a zone can have.
    private func wishes(_ attachment: NetworkAttachment, _ network: NetworkRecord) throws(ZoneError) -> [IPAddress] {
        var found: [IPAddress] = []
        for text in attachment.addresses {
            guard let address = IPAddress(text) else {
                throw ZoneError(.invalid, "--ip \"\(text)\" is not an address", hint: "such as 10.20.0.7 or fd00:20::7")
            }
            guard let range = network.ranges.first(where: { $0.isHost(address) }) else {
                throw ZoneError(
                    .invalid,
                    "--ip \(address) is no address for a zone of network \(network.name): \(network.subnets.joined(separator: ", "))",
                    hint: "'zonectl network create --subnet' makes a network of another subnet")
            }
            if network.gateway(in: range) == address {
                throw ZoneError(.invalid, "--ip \(address) is the gateway of network \(network.name)")
            }
            if found.contains(where: { range.contains($0) }) {
                throw ZoneError(.invalid, "--ip \(address): the zone has one address in \(range)")
            }
            found.append(address)
        }
        return found
    }

    private func takeWish(
        _ address: IPAddress, _ network: NetworkRecord, _ zone: String, _ leases: borrowing Descriptor,
        _ taken: inout [Taken]
    ) throws(ZoneError) {
        if try take(address.description, zone, leases) {
            return taken.append(Taken(network: network.name, name: address.description))
        }
        let holder = try holder(address.description, leases)
        if holder == zone { return }
        throw ZoneError(
            .exists, "--ip \(address): zone \(holder) of network \(network.name) has that address",
            hint: "choose another one, or leave it to zonectl")
    }

    private func takeMAC(
        _ text: String, _ network: NetworkRecord, _ zone: String, _ leases: borrowing Descriptor,
        _ taken: inout [Taken]
    ) throws(ZoneError) {
        guard let mac = MACAddress(text), mac.isStation else {
            throw ZoneError(
                .invalid, "--mac \"\(text)\" is not the MAC address of one station", hint: "such as 02:00:5e:00:53:01")
        }
        if Array(mac.bytes.prefix(2)) == MACAddress.own {
            throw ZoneError(
                .invalid, "--mac \(text): those that begin with 02:5a are given out by zonectl itself",
                hint: "such as 02:00:5e:00:53:01")
        }
        if try take(mac.description, zone, leases) {
            return taken.append(Taken(network: network.name, name: mac.description))
        }
        let holder = try holder(mac.description, leases)
        if holder == zone { return }
        throw ZoneError(
            .exists, "--mac \(mac): zone \(holder) of network \(network.name) has that address",
            hint: "choose another one")
    }

    private func takeAny(
        _ range: Subnet, _ network: NetworkRecord, _ zone: String, _ leases: borrowing Descriptor, near number: UInt64?
    ) throws(ZoneError) -> IPAddress {
        // A zone that is made again under its name has a good chance to get the address that it had.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in zone.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let gateway = network.gateway(in: range)
        // Few look further than there are zones.
        let hosts = min(range.hosts, 1 << 16)
        if let number, let address = range.host(number), range.isHost(address), address != gateway,
            try take(address.description, zone, leases)
        {
            return address
        }
        for step in 0..<hosts {
            guard let address = range.host(1 + (hash &+ step) % hosts), address != gateway,
                try take(address.description, zone, leases)
            else { continue }
            return address
        }
        throw ZoneError(
            .unsupported, "network \(network.name) has no address left: all of \(range) are given out",
            hint: "remove zones, or make a network with a larger --subnet")
    }

    // MARK: Files

    private func open(_ network: String) throws(SystemError) -> Descriptor {
        try Descriptor.open(folders.leases(network), [.readOnly, .directory, .noFollow])
    }

    /// `false` where a zone has it.
    private func take(_ name: String, _ zone: String, _ leases: borrowing Descriptor) throws(ZoneError) -> Bool {
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

    private func isHeld(_ name: String) throws(ZoneError) -> Bool {
        for zone in try zones.names() {
            let definition = try zones.definition(of: zone)
            if definition?.networks.contains(where: { $0.leases.contains(name) }) == true { return true }
        }
        return false
    }

    // MARK: Afterwards

    /// Lets a zone's leases know its new name.
    func rename(_ attachments: [NetworkAttachment], to zone: String) {
        for attachment in attachments where attachment.isOfZones {
            // What keeps the old name is the zone's all the same: its definition says so.
            guard let leases = try? open(attachment.name) else { continue }
            for name in attachment.leases where (try? leases.readFile(name, limit: 256)) != nil {
                try? leases.replaceFile(name, Array(zone.utf8), mode: 0o600)
            }
        }
    }

    /// Gives back what a zone had that is no more, but for what it still has.
    func release(_ attachments: [NetworkAttachment], of zone: String, keeping kept: [NetworkAttachment] = []) {
        for attachment in attachments where attachment.isOfZones {
            guard let leases = try? open(attachment.name) else { continue }
            let still = kept.first { $0.name == attachment.name }?.leases ?? []
            for name in attachment.leases where !still.contains(name) {
                // What cannot be given back now is taken by who needs it.
                if (try? leases.readFile(name, limit: 256)) == Array(zone.utf8) { try? leases.remove(name) }
            }
        }
    }
}

extension NetworkAttachment {
    /// The names of its files; there need not be one of the MAC address.
    fileprivate var leases: [String] { addresses + [mac] }
}
