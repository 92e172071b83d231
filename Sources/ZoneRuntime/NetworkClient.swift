// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// Gets a zone's address in a network that is not ours, from the DHCP there: by busybox's udhcpc in the zone's network namespace.
/// A process of ours runs it for as long as the zone does. For each lease it calls `zonectl network lease`, which does the
/// rest. Addresses of IPv6 the kernel finds by itself (RFC 4862).
struct NetworkClient {
    private let store: ZoneStore
    private let definition: ZoneDefinition
    private let attachment: NetworkAttachment
    private var zone: String { definition.name }

    init(_ store: ZoneStore, _ definition: ZoneDefinition, _ attachment: NetworkAttachment) {
        self.store = store
        self.definition = definition
        self.attachment = attachment
    }

    /// Milliseconds that a start waits for an address.
    private static let patience: Int64 = 4000

    /// The file in ROOT/NAME that says which address the zone has got.
    static func lease(_ attachment: NetworkAttachment) -> String { "\(attachment.link).lease" }

    /// Starts it, and waits a few seconds for a lease; without one the zone starts all the same, and it goes on to ask.
    func start(
        _ namespace: borrowing Descriptor, _ process: Int32, report: (String) -> Void
    ) throws(ZoneError) {
        let attempt = "ask for an address of zone \(zone) in \(attachment.name)"
        do throws(SystemError) {
            let place = store.folders.volatile(zone)
            let folder = try Descriptor.open(place, [.readOnly, .directory])
            try? folder.remove(NetworkClient.lease(attachment))
            let script = "\(attachment.link).sh"
            var program = try HostProgram(
                "nsenter",
                ["--net=/proc/self/fd/3", "--"] + (try udhcpc()) + [
                    "-f", "-R", "-S", "-t", "4", "-T", "1", "-A", "10", "-i", attachment.link, "-s",
                    "\(place)/\(script)",
                    "-x", "hostname:\(definition.hostname ?? zone)",
                ])
            program.inherited = [namespace.raw]
            let first = try ProcessHandle(pid: process)
            let kept: Set<CInt> = [namespace.raw, folder.raw, first.raw]
            try HelperProcess.start(
                "zonectl: address of \(zone) in \(attachment.name)", keeping: kept, dropsRights: false
            ) {
                // Our own program, by the process that waits for udhcpc: whatever becomes of its file.
                guard (try? folder.replaceFile(script, Array(text(getpid()).utf8), mode: 0o700)) != nil else { return }
                // It gives its lease back when it ends (-R).
                HelperProcess.attend(program, while: first) { (try? FileStatus.of("\(place)/\(script)")) != nil }
            }
            let end = MonotonicClock.milliseconds + NetworkClient.patience
            while (try? FileStatus.of("\(place)/\(NetworkClient.lease(attachment))")) == nil {
                if MonotonicClock.milliseconds > end {
                    return report(
                        "zone \(zone) has no address in \(attachment.name) yet: no DHCP server has answered there")
                }
                pause(milliseconds: 10)
            }
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "\(attempt): udhcpc is not installed",
                    hint: "install Debian's package busybox-static or udhcpc")
            }
            throw ZoneError(attempt, error)
        }
    }

    /// What udhcpc calls with each news.
    private func text(_ own: pid_t) -> String {
        let words = [
            "--root", store.folders.root, "--store", store.folders.store, "network", "lease", zone, attachment.name,
        ]
        let quoted = words.map { word in
            "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
        }
        return "#!/bin/sh\nexec /proc/\(own)/exe \(quoted.joined(separator: " ")) \"$1\"\n"
    }

    private func udhcpc() throws(SystemError) -> [String] {
        if let own = try? HostProgram.find("udhcpc") { return [own] }
        return [try HostProgram.find("busybox"), "udhcpc"]
    }

    /// Lets the zone go without its address there, while it goes on.
    func stop() {
        guard let folder = try? Descriptor.open(store.folders.volatile(zone), [.path, .directory]) else { return }
        try? folder.remove("\(attachment.link).sh")
        try? folder.remove(NetworkClient.lease(attachment))
    }
}

/// What udhcpc says of a lease, in its environment.
public struct NetworkLease: Sendable {
    public var action = ""
    public var address: String?
    /// The subnet's length.
    public var length: String?
    public var routers: [String] = []
    public var nameServers: [String] = []
    public var domain: String?

    public init() {}

    /// Gives a zone what it has got, in whose network namespace the caller is.
    public func settle(_ zone: String, _ network: String, _ folders: ZoneFolders) throws(ZoneError) {
        let store = ZoneStore(folders)
        let found = try store.definition(of: zone)
        guard let definition = found, let attachment = definition.networks.first(where: { $0.name == network }) else {
            throw ZoneError(.notFound, "zone \(zone) is not in network \(network)")
        }
        let attempt = "settle the address of zone \(zone) in \(network)"
        try attempting(attempt) { () throws(SystemError) in
            let links = try Links()
            guard let link = try links.link(attachment.link) else { return }
            guard ["bound", "renew"].contains(action), let address = address.flatMap({ IPAddress($0) }),
                let length = length.flatMap({ Int($0) }), (1...32).contains(length)
            else {
                // There is no lease, or none any more.
                if action == "deconfig" { try links.removeAddresses(of: link.index, .v4) }
                return
            }
            try links.removeAddresses(of: link.index, .v4, except: address)
            do throws(SystemError) { try links.addAddress(address, length: length, to: link.index) } catch {
                guard error.errno == .exists else { throw error }
            }
            let networks = NetworkStore(store)
            let leads = definition.networks.first { other in
                other.name == network || other.isOfZones && (try? networks.find(other.name).isInternal) == false
            }
            if leads?.name == network, let router = routers.lazy.compactMap({ IPAddress($0) }).first {
                try links.setDefaultRoute(by: router, on: link.index)
            }
            guardPort(attachment, address, store, zone)
            let folder = try Descriptor.open(folders.volatile(zone), [.readOnly, .directory])
            try folder.replaceFile(NetworkClient.lease(attachment), Array("\(address)/\(length)\n".utf8), mode: 0o600)
            if !definition.networks.contains(where: \.isOfZones), definition.nameServers.isEmpty {
                let lines = nameServers.filter { IPAddress($0) != nil }.map { "nameserver \($0)\n" }
                let search = domain.flatMap { NetworkLease.isDomain($0) ? "search \($0)\n" : nil } ?? ""
                let file = try Descriptor.open(
                    "\(folders.persistent(zone))/resolv.conf", [.writeOnly, .create, .truncate, .noFollow], mode: 0o644)
                try file.writeAll(search + lines.joined(), "resolv.conf")
            }
        }
    }

    /// From now on the zone has this address: no other one comes by its port. The host's namespace is the keeper's.
    private func guardPort(_ attachment: NetworkAttachment, _ address: IPAddress, _ store: ZoneStore, _ zone: String) {
        guard case .bridge = attachment.kind, let mac = MACAddress(attachment.mac),
            let keeper = (try? store.record(of: zone))??.keeper, keeper.isAlive,
            let host = try? Descriptor.open("/proc/\(keeper.pid)/ns/net", [.readOnly]),
            let links = try? Links(of: host),
            let port = (try? links.link(store.folders.link(attachment))) ?? nil
        else { return }
        try? links.guardPort(port.index, PortGuard(mac: mac, addresses: [address], open: [.v6]))
    }

    /// What comes from others is written where programs read it.
    private static func isDomain(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
                    || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }
}
