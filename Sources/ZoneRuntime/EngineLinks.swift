// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import LinuxSystem
import Network
import OCI

/// The network that an engine has made for a container which is a machine: links with addresses in a network namespace, which is
/// that of the machine's monitor. Each becomes a network card of the machine with the same name, station, addresses and routes.
///
///     create   the namespace, joined or new; descriptors for cards, opened in it
///     start    as root: a tap for each link, coupled with it; by then every engine has done its part
///     monitor  finds them in its own namespace, attaches its descriptors, tells QEMU and the agent
///
/// Between link and tap the kernel passes on frames as they are, before anything else sees them, so that nothing changes for
/// whoever is at the link's other end.
enum EngineLinks {
    /// Links that a container may have, but for its loopback.
    private static let most = 4

    // MARK: create

    /// The network namespace of a bundle.
    static func namespace(of bundle: Bundle) throws(ZoneError) -> Descriptor {
        guard let wanted = bundle.spec.linux?.namespaces.first(where: { $0.type == .network }) else {
            throw ZoneError(
                .unsupported, "linux.namespaces: a virtual machine cannot be in the host's network",
                hint: "give the container a network of its own, or none")
        }
        return try attempting("linux.namespaces: network") { () throws(SystemError) in
            guard let path = wanted.path, !path.isEmpty else { return try NetworkNamespace.make() }
            return try Descriptor.open(path, [.readOnly])
        }
    }

    /// Descriptors for as many cards as there may be. None where the kernel has no tap devices: without links there is no need of any.
    static func openCards(in namespace: borrowing Descriptor, _ bag: inout DescriptorBag) throws(ZoneError) -> [CInt] {
        var cards: [CInt] = []
        for _ in 0..<most {
            do throws(SystemError) {
                cards.append(
                    bag.adopt(try NetworkNamespace.inside(namespace) { () throws(SystemError) in try Tap.open() }))
            } catch {
                guard [.noEntry, .noDevice].contains(error.errno) else { throw ZoneError("open network cards", error) }
                return []
            }
        }
        return cards
    }

    // MARK: start

    /// Connects a machine whose monitor waits to what is in its network namespace. `user`: the monitor's.
    static func connect(_ process: Int32, of id: String, user: UInt32) throws(ZoneError) {
        let attempt = "connect machine \(id) to its network"
        let namespace = try attempting(attempt) { () throws(SystemError) in
            try Descriptor.open("/proc/\(process)/ns/net", [.readOnly])
        }
        let links = try attempting(attempt) { () throws(SystemError) in try Links(of: namespace) }
        let all = try attempting(attempt) { () throws(SystemError) in try links.all() }
        let found = all.filter { isWanted($0) }
        guard found.count <= most else {
            throw ZoneError(
                .unsupported, "\(attempt): there are \(found.count) links, and a machine gets \(most) at most")
        }
        for link in found {
            let name = tap(of: link)
            if let former = all.first(where: { $0.name == name }) {
                if former.hasCarrier {
                    throw ZoneError(
                        .wrongState, "\(attempt): its link \(link.name) is another machine's",
                        hint: "of the containers that share a network one can be a virtual machine")
                }
                try attempting(attempt) { () throws(SystemError) in try links.remove(name) }
            }
            try attempting(attempt) { () throws(SystemError) in
                try NetworkNamespace.inside(namespace) { () throws(SystemError) in try Tap.make(name, for: user) }
                guard let made = try links.link(name) else { throw SystemError("look at link", name, .noDevice) }
                try links.setMTU(made.index, link.mtu)
                try links.bringUp(made.index)
                try links.couple(link.index, made.index)
            }
        }
    }

    /// Those that lead somewhere: not the loopback, what the kernel makes in each namespace by itself, or our own.
    private static func isWanted(_ link: Links.Link) -> Bool {
        guard let mac = link.mac, link.isUp, link.name != "lo", link.kind != "tun" else { return false }
        return mac.bytes.contains { $0 != 0 }
    }

    private static func tap(of link: Links.Link) -> String { "ztap\(link.index)" }

    static func isTap(_ name: String) -> Bool { name.hasPrefix("ztap") }

    // MARK: Monitor

    /// A card that is to be, and what the guest does with it.
    struct Card {
        var tap: CInt
        var interface: GuestInterface
    }

    /// Attaches descriptors to what ``connect(_:of:user:)`` has made in the caller's own network namespace.
    static func attach(_ descriptors: [CInt]) throws(SystemError) -> [Card] {
        if descriptors.isEmpty { return [] }
        let links = try Links()
        let all = try links.all()
        var cards: [Card] = []
        for (link, raw) in zip(all.filter({ link in all.contains { $0.name == tap(of: link) } }), descriptors) {
            try Tap.attach(raw, tap(of: link))
            cards.append(Card(tap: raw, interface: try interface(link, links)))
        }
        return cards
    }

    private static func interface(_ link: Links.Link, _ links: borrowing Links) throws(SystemError) -> GuestInterface {
        var interface = GuestInterface()
        interface.mac = link.mac?.description ?? ""
        interface.name = link.name
        interface.mtu = Int64(link.mtu)
        interface.addresses = try links.addresses(of: link.index).map { "\($0.address)/\($0.length)" }
        for route in try links.routes(by: link.index) {
            if route.destination == nil, let gateway = route.gateway {
                interface.gateways.append(gateway.description)
            } else {
                interface.routes.append(GuestRoute(route))
            }
        }
        return interface
    }
}

extension GuestRoute {
    init(_ route: Links.Route) {
        let everything = route.family == .v4 ? "0.0.0.0/0" : "::/0"
        destination = route.destination.map { "\($0.address)/\($0.length)" } ?? everything
        gateway = route.gateway?.description
    }
}

extension MachineRun {
    /// Gives the machine the cards that its network namespace has links for.
    mutating func takeCards() throws(SystemError) {
        let found = try EngineLinks.attach(cards)
        guard !found.isEmpty, let board = MachineBoard(rawValue: board) else { return }
        let nics = found.enumerated().map { index, card in
            MachineDescription.NIC(id: "nic\(index)", mac: card.interface.mac, tap: card.tap)
        }
        do throws(MachineFault) { arguments += try MachineDescription.arguments(of: nics, on: board) } catch {
            throw SystemError("add network cards", error.detail, .invalid)
        }
        descriptors += nics.map(\.tap)
        guest?.interfaces += found.map(\.interface)
    }
}
