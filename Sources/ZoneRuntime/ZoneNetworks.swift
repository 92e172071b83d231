// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What is to be changed about a zone's networks and published ports.
public struct NetworkChange: Sendable, Equatable {
    public var connects: [NetworkAttachment] = []
    /// Names of networks.
    public var disconnects: [String] = []
    public var publishes: [PublishedPort] = []
    /// As they were published, or by the host's port alone.
    public var unpublishes: [PublishedPort] = []
    /// Bits per second, of all its networks; 0 takes the limit away.
    public var inRate: Int64?
    public var outRate: Int64?

    public init() {}

    public var isEmpty: Bool { self == NetworkChange() }

    /// What a zone is with this change.
    func applied(to former: ZoneDefinition) throws(ZoneError) -> ZoneDefinition {
        var next = former
        for name in disconnects {
            guard next.networks.contains(where: { $0.name == name }) else {
                throw ZoneError(
                    .notFound, "zone \(former.name) is not in network \(name)",
                    hint: "it is in: \(former.networks.map(\.name).joined(separator: ", "))")
            }
            next.networks.removeAll { $0.name == name }
        }
        for attachment in connects {
            if next.networks.contains(where: { $0.name == attachment.name }) {
                throw ZoneError(.exists, "zone \(former.name) is in network \(attachment.name) already")
            }
            if next.network != .none {
                throw ZoneError(
                    .invalid, "zone \(former.name) has no network of its own that could be connected",
                    hint: "it was made with --network \(former.networkText)")
            }
            next.networks.append(attachment)
        }
        for port in unpublishes {
            guard next.ports.contains(where: { port.means($0) }) else {
                throw ZoneError(
                    .notFound, "zone \(former.name) publishes no port \(port.text)",
                    hint: "it publishes: \(former.ports.map(\.text).joined(separator: ", "))")
            }
            next.ports.removeAll { port.means($0) }
        }
        for port in publishes {
            if let other = next.ports.first(where: { $0.overlaps(port) }) {
                throw ZoneError(.exists, "zone \(former.name) publishes \(other.text) already")
            }
            next.ports.append(port)
        }
        for index in next.networks.indices {
            if let inRate { next.networks[index].inRate = inRate == 0 ? nil : inRate }
            if let outRate { next.networks[index].outRate = outRate == 0 ? nil : outRate }
        }
        do throws(DefinitionFault) { try next.verify() } catch {
            throw ZoneError(.invalid, "zone \(former.name): \(error.detail)", hint: error.hint)
        }
        return next
    }
}

extension PublishedPort {
    /// Whether this names another one: the same, or its port of the host's alone.
    fileprivate func means(_ other: PublishedPort) -> Bool {
        if self == other { return true }
        return hostPort == 0 && zonePort == other.hostPort && count == other.count && transport == other.transport
            && address == nil
    }
}

/// Changes the networks and published ports of a zone, which may run meanwhile. What it is from then on is written first: so a
/// change that is killed is made by the zone's next start, and leaves nothing that nobody knows of.
struct ZoneNetworks {
    private let store: ZoneStore

    init(_ store: ZoneStore) {
        self.store = store
    }

    /// Under the zone's lock. `next` is given the addresses that it lacks, and written. All of it happens, or nothing.
    func change(
        _ former: ZoneDefinition, to next: inout ZoneDefinition, _ entry: ZoneStore.Entry,
        in persistent: borrowing Descriptor
    ) throws(ZoneError) {
        if former.networks == next.networks, former.ports == next.ports { return }
        if next.machine != nil, entry.state.isUp, former.networks.map(\.name) != next.networks.map(\.name) {
            throw ZoneError(
                .wrongState, "the network cards of machine \(next.name) cannot change while it runs",
                hint: "stop it first: 'zonectl stop \(next.name)'")
        }
        let leases = NetworkLeases(store)
        let networks = try NetworkStore(store).provided(for: next)
        defer { networks?.unlock() }
        do throws(ZoneError) {
            try leases.lease(&next, former: former.networks)
            try ZonePorts.choose(&next)
            try store.write(next, in: persistent)
        } catch {
            leases.release(next.networks, of: next.name, keeping: former.networks)
            throw error
        }
        networks?.unlock()
        if let process = entry.state.process {
            var done: [() throws -> Void] = []
            do throws(ZoneError) { try live(former, next, process.pid, &done) } catch {
                // What the zone was it is again; what cannot be undone goes with the zone.
                for undo in done.reversed() { try? undo() }
                try? store.write(former, in: persistent)
                leases.release(next.networks, of: next.name, keeping: former.networks)
                throw error
            }
        }
        leases.release(former.networks, of: next.name, keeping: next.networks)
    }

    /// `done` gets what undoes each step, before that is made.
    private func live(
        _ former: ZoneDefinition, _ next: ZoneDefinition, _ pid: Int32, _ done: inout [() throws -> Void]
    ) throws(ZoneError) {
        let name = next.name
        let folder = try store.openVolatile(name)
        let process = try attempting("hold zone \(name)") { () throws(SystemError) in try ProcessHandle(pid: pid) }
        // Whoever makes the packet filter's table anew looks for that.
        done.append { [store] in try ZoneNetworks.record(former, in: store) }
        try ZoneNetworks.record(next, in: store)
        let (before, after) = (ZonePorts(store, former), ZonePorts(store, next))
        // Where the zone's first address is another one from now on, all ports lead there.
        let moves = before.targets != after.targets
        let stopped = moves ? former.ports : former.ports.filter { !next.ports.contains($0) }
        let added = moves ? next.ports : next.ports.filter { !former.ports.contains($0) }
        let left = former.networks.filter { old in !next.networks.contains { $0.isSameLink(as: old) } }
        let joined = next.networks.filter { new in !former.networks.contains { $0.isSameLink(as: new) } }
        let (links, old) = (ZoneLinks(store, next), ZoneLinks(store, former))
        let changed = next.networks.filter { !former.networks.contains($0) }
        // What somebody else may have goes first: where it is taken nothing else has been touched.
        let held: ZonePorts.Held
        if moves {
            before.stop(stopped, of: pid, in: folder)
            done.append { [store] in
                let process = try ProcessHandle(pid: pid)
                try before.serve(try before.take(stopped), process: process, in: try store.openVolatile(name))
            }
        }
        held = try after.take(added)
        // Before links: what a network's own DHCP says of names comes after that, and stays.
        if !left.isEmpty || !joined.isEmpty {
            done.append { [self] in try writeFiles(former) }
            try writeFiles(next)
        }
        if !left.isEmpty {
            done.append { try old.connect(pid, only: left.map(\.name)) }
            try links.disconnect(left, of: pid)
        }
        if !joined.isEmpty {
            done.append { try old.disconnect(joined, of: pid) }
            try links.connect(pid, only: joined.map(\.name))
        }
        if !changed.isEmpty {
            done.append { try old.limit(former.networks) }
            try links.limit(changed)
        }
        done.append { [store] in after.stop(added, of: pid, in: try store.openVolatile(name)) }
        try after.serve(held, process: process, in: folder)
        if !moves { before.stop(stopped, of: pid, in: folder) }
    }

    private static func record(_ definition: ZoneDefinition, in store: ZoneStore) throws(ZoneError) {
        guard var record = try store.record(of: definition.name) else { return }
        record.isConnected = !definition.networks.isEmpty
        record.ports = definition.ports.map(\.text)
        try store.write(record, in: try store.openVolatile(definition.name))
    }

    private func writeFiles(_ definition: ZoneDefinition) throws(ZoneError) {
        let gateways = try NetworkStore(store).gateways(of: definition)
        try attempting("write the zone's network files") { () throws(SystemError) in
            let folder = try Descriptor.open(
                store.folders.persistent(definition.name), [.readOnly, .directory, .noFollow])
            try NetworkFiles.write(
                in: folder, hostname: definition.hostname ?? definition.name, definition, gateways: gateways)
        }
    }
}

extension NetworkAttachment {
    /// Whether nothing has to be made for it anew.
    fileprivate func isSameLink(as other: NetworkAttachment) -> Bool {
        name == other.name && mac == other.mac && addresses == other.addresses && link == other.link
    }
}
