// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Network

/// The published ports of one zone.
///
/// Each is a socket of the host's that a process of its own holds (`PortRelay`), one for each zone that publishes any: so
/// nobody else takes the port, and what comes by the host's loopback is passed on. What comes from elsewhere the packet filter
/// leads to the zone by an element of a map. The process ends with the zone's first one, whoever is killed, and has no rights.
struct ZonePorts {
    /// One for each run: the relay of the last may just be ending.
    private static func socket(_ process: Int32) -> String { "ports-\(process).sock" }

    private let store: ZoneStore
    private let definition: ZoneDefinition
    private var zone: String { definition.name }

    init(_ store: ZoneStore, _ definition: ZoneDefinition) {
        self.store = store
        self.definition = definition
    }

    /// Ports that are held.
    struct Held: ~Copyable {
        fileprivate var singles: [PublishedPort.Single] = []
        fileprivate var numbers: [CInt] = []
        fileprivate var bag = DescriptorBag()
        var isEmpty: Bool { singles.isEmpty }
    }

    // MARK: Taking

    /// Takes the ports, all of them or none.
    func take(_ ports: [PublishedPort]) throws(ZoneError) -> Held {
        var held = Held()
        for port in ports {
            for single in port.singles {
                guard let socket = try take(single, isOptional: port.address == nil && single.address.family == .v6)
                else { continue }
                held.singles.append(single)
                held.numbers.append(held.bag.adopt(socket))
            }
        }
        return held
    }

    /// `isOptional`: `nil` where the host has no such address.
    private func take(_ single: PublishedPort.Single, isOptional: Bool) throws(ZoneError) -> Descriptor? {
        // A former relay of ours may just be ending.
        for attempt in 0... {
            do throws(SystemError) {
                return try PortSocket.listen(single.transport, single.address, port: single.hostPort)
            } catch {
                switch error.errno {
                case .addressInUse where attempt < 50: pause(milliseconds: 10)
                case .addressInUse:
                    throw ZoneError(
                        .exists, "zone \(zone): port \(single.text) of the host's is taken\(holder(of: single))",
                        hint: "publish another one, or stop what holds it ('ss -lnp' shows what)")
                case .addressUnavailable, .familyNotSupported:
                    if isOptional { return nil }
                    throw ZoneError(
                        .notFound, "zone \(zone): publish \(single.text): the host has no address \(single.address)",
                        hint: "'ip addr' lists them; 0.0.0.0 and [::] stand for all")
                default: throw ZoneError("publish \(single.text) of zone \(zone)", error)
                }
            }
        }
        return nil
    }

    /// The zone that has it, where it is one of ours.
    private func holder(of single: PublishedPort.Single) -> String {
        for name in (try? store.names()) ?? [] where name != zone {
            guard let other = (try? store.definition(of: name)) ?? nil, store.entry(name).state.process != nil else {
                continue
            }
            let isHolder = other.ports.contains { port in
                port.singles.contains {
                    $0.hostPort == single.hostPort && $0.transport == single.transport
                        && $0.address.family == single.address.family
                        && ($0.address == single.address || $0.address.isAny || single.address.isAny)
                }
            }
            if isHolder { return " by zone \(name)" }
        }
        return ""
    }

    /// Finds ports that are free for those that may be any. They are the zone's from now on.
    static func choose(_ definition: inout ZoneDefinition) throws(ZoneError) {
        for index in definition.ports.indices where definition.ports[index].hostPort == 0 {
            var port = definition.ports[index]
            guard port.count == 1, let address = port.addresses.first else {
                throw ZoneError(
                    .invalid, "--publish: of a range each port is named", hint: "such as 7000-7009:7000-7009")
            }
            do throws(SystemError) {
                let socket = try PortSocket.listen(port.transport.number, address, port: 0)
                port.hostPort = Int64(try PortSocket.port(of: socket))
            } catch {
                throw ZoneError("find a free port of \(address)", error)
            }
            definition.ports[index] = port
        }
    }

    // MARK: Serving

    /// Begins to serve ports of a zone whose first process is there. `held` become the relay's.
    func serve(_ held: consuming Held, process: borrowing ProcessHandle, in folder: borrowing Descriptor)
        throws(ZoneError)
    {
        if held.isEmpty { return }
        let singles = held.singles
        if !tell(held, process.pid, in: folder) { try start(held, process, in: folder) }
        try publish(singles)
    }

    /// No longer serves some. Connections that there are go on.
    func stop(_ ports: [PublishedPort], of process: Int32, in folder: borrowing Descriptor) {
        ZonePorts.withdraw(ports, of: definition, store.folders)
        if let channel = connect(folder, process) {
            for single in ports.flatMap(\.singles) { _ = ask(channel, .remove(single.key)) }
        }
    }

    /// What leads to a zone.
    static func elements(_ definition: ZoneDefinition) -> [FilterElement] {
        definition.ports.flatMap(\.singles).compactMap { element($0, definition) }
    }

    /// Takes elements back. What is gone already is as good; what is left the next one to need it finds.
    static func withdraw(_ ports: [PublishedPort], of definition: ZoneDefinition, _ folders: ZoneFolders) {
        let elements = ports.flatMap(\.singles).compactMap { element($0, definition) }
        guard !elements.isEmpty, let filter = try? PacketFilter() else { return }
        // Of one that was killed another zone may have the port by now.
        let own = elements.filter { (try? filter.holds(folders.filterTable, $0)) == true }
        if !own.isEmpty { try? filter.change(folders.filterTable, remove: own) }
    }

    private static func element(_ single: PublishedPort.Single, _ definition: ZoneDefinition) -> FilterElement? {
        guard !single.address.isLoopback, let target = target(single, definition),
            target.family == single.address.family
        else { return nil }
        return FilterElement.published(
            single.transport, host: single.address.isAny ? nil : single.address, port: single.hostPort, to: target,
            port: single.zonePort)
    }

    /// The zone's address: of the same family, where it has one.
    private static func target(_ single: PublishedPort.Single, _ definition: ZoneDefinition) -> IPAddress? {
        let all = definition.networks.filter(\.isOfZones).flatMap(\.ipAddresses)
        return all.first { $0.family == single.address.family } ?? all.first
    }

    /// Where ports of each family lead to.
    var targets: [IPAddress?] {
        let all = definition.networks.filter(\.isOfZones).flatMap(\.ipAddresses)
        return [all.first { $0.family == .v4 } ?? all.first, all.first { $0.family == .v6 } ?? all.first]
    }

    private func relayed(_ single: PublishedPort.Single) -> PortRelay.Target? {
        ZonePorts.target(single, definition).map { address in
            PortRelay.Target(key: single.key, transport: single.transport, address: address, port: single.zonePort)
        }
    }

    private func publish(_ singles: [PublishedPort.Single]) throws(ZoneError) {
        let elements = singles.compactMap { ZonePorts.element($0, definition) }
        if elements.isEmpty { return }
        try letCallItself()
        let networks = NetworkStore(store)
        let table = store.folders.filterTable
        do {
            // Nobody makes the table anew meanwhile.
            let shared = try networks.lock(isShared: true)
            defer { shared.unlock() }
            if (try? PacketFilter().change(table, add: elements)) != nil { return }
        }
        // It is gone, as after `nft flush ruleset`, or somebody who was killed has left some there.
        let lock = try networks.lock()
        defer { lock.unlock() }
        try NetworkBridge(networks).loadFilter()
        // Those of a zone that is recorded as connected are there now.
        do throws(SystemError) {
            for element in elements {
                do throws(SystemError) { try PacketFilter().change(table, add: [element]) } catch {
                    if error.errno != .exists { throw error }
                }
            }
        } catch {
            throw ZoneError("publish ports of zone \(zone)", error)
        }
    }

    /// Where bridges ask the packet filter, too (br_netfilter, as with docker), what a zone sends to a port of its own goes back
    /// by the port that it has come from: which a bridge does not do but where it is told to (hairpin).
    private func letCallItself() throws(ZoneError) {
        try attempting("publish ports of zone \(zone)") { () throws(SystemError) in
            let links = try Links()
            for attachment in definition.networks where attachment.isOfZones {
                if let port = try links.link(store.folders.link(attachment)) { try links.setHairpin(port.index) }
            }
        }
    }

    // MARK: The relay

    private func connect(_ folder: borrowing Descriptor, _ process: Int32) -> Channel? {
        let raw = zn_unix_connect(
            "/proc/self/fd/\(folder.raw)/\(ZonePorts.socket(process))", AttachServer.type)
        return raw >= 0 ? Channel(owning: raw) : nil
    }

    private func ask(_ channel: borrowing Channel, _ request: PortRequest, descriptor: CInt = -1) -> Bool {
        let text = Array(request.text.utf8)
        guard text.withUnsafeBytes({ (try? channel.send($0, descriptor: descriptor)) != nil }),
            (try? waitReadable(channel.raw, milliseconds: 5000)) == true
        else { return false }
        return (try? channel.receive(upTo: 16))?.first == 1
    }

    /// Lets a relay that is there serve them; `false` where there is none.
    private func tell(_ held: borrowing Held, _ process: Int32, in folder: borrowing Descriptor) -> Bool {
        guard let channel = connect(folder, process) else { return false }
        for (index, single) in held.singles.enumerated() {
            guard let target = relayed(single), ask(channel, .add(target), descriptor: held.numbers[index]) else {
                return false
            }
        }
        return true
    }

    /// Starts one, which nobody waits for.
    private func start(
        _ held: consuming Held, _ process: borrowing ProcessHandle, in folder: borrowing Descriptor
    ) throws(ZoneError) {
        let attempt = "serve the ports of zone \(zone)"
        do throws(SystemError) { try folder.remove(ZonePorts.socket(process.pid)) } catch {
            if error.errno != .noEntry { throw ZoneError(attempt, error) }
        }
        let path = "/proc/self/fd/\(folder.raw)/\(ZonePorts.socket(process.pid))"
        var relay = try attempting(attempt) { () throws(SystemError) in
            let control = Descriptor(
                owning: try check(zn_unix_listen(path, AttachServer.type), "listen", path))
            return try PortRelay(process: try Descriptor.duplicate(of: process.raw), control: control)
        }
        for (index, single) in held.singles.enumerated() {
            guard let target = relayed(single) else { continue }
            let socket = held.numbers[index]
            try attempting(attempt) { () throws(SystemError) in
                try relay.add(target, try Descriptor.duplicate(of: socket))
            }
        }
        let kept = relay.numbers
        do throws(SystemError) {
            var served: PortRelay? = consume relay
            try HelperProcess.start("zonectl: ports of \(zone)", keeping: kept, dropsRights: true) {
                served.take()?.serve()
            }
        } catch {
            throw ZoneError(attempt, error)
        }
    }
}
