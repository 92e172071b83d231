// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// Gets a zone's address in a network that is not ours, from the DHCP there: busybox's udhcpc, in the zone's network namespace
/// and for as long as the zone runs. For each lease it calls `zonectl network lease`, which does the rest. Addresses of IPv6
/// the kernel finds by itself (RFC 4862).
struct NetworkClient {
    private let store: ZoneStore
    private let definition: ZoneDefinition
    private let attachment: NetworkAttachment
    private var zone: String { definition.name }
    private var folder: String { store.folders.volatile(zone) }
    private var pidFile: String { "\(folder)/\(attachment.link).pid" }
    private var script: String { "\(folder)/\(attachment.link).sh" }

    init(_ store: ZoneStore, _ definition: ZoneDefinition, _ attachment: NetworkAttachment) {
        self.store = store
        self.definition = definition
        self.attachment = attachment
    }

    /// Starts it, and waits a few seconds for a lease; without one the zone starts all the same, and it goes on to ask.
    func start(_ namespace: borrowing Descriptor) throws(ZoneError) {
        stop()
        let attempt = "ask for an address of zone \(zone) in \(attachment.name)"
        do throws(SystemError) {
            let folder = try Descriptor.open(folder, [.readOnly, .directory])
            let words = [
                "--root", store.folders.root, "--store", store.folders.store, "network",
                "lease", zone, attachment.name,
            ]
            let line = words.map { "'" + $0.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'" }
            try folder.replaceFile(
                "\(attachment.link).sh", Array("#!/bin/sh\nexec /proc/self/fd/4 \(line.joined(separator: " ")) \"$1\"\n".utf8), mode: 0o700)
            let client = try udhcpc()
            var program = try HostProgram(
                "nsenter",
                ["--net=/proc/self/fd/3", "--"] + client + [
                    "-b", "-S", "-t", "4", "-T", "1", "-A", "10", "-i", attachment.link, "-p", pidFile, "-s", script, "-x",
                    "hostname:\(definition.hostname ?? zone)",
                ])
            // Ours is executed by what is open, whatever becomes of its file.
            let own = try Descriptor.open("/proc/self/exe", [.readOnly])
            program.inherited = [namespace.raw, own.raw]
            program.milliseconds = 15_000
            let outcome = try program.run()
            guard outcome.status == .exited(0) else { throw SystemError("udhcpc", outcome.reason, .ioError) }
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "\(attempt): udhcpc is not installed", hint: "install Debian's package busybox-static or udhcpc")
            }
            throw ZoneError(attempt, error)
        }
    }

    private func udhcpc() throws(SystemError) -> [String] {
        if let own = try? HostProgram.find("udhcpc") { return [own] }
        return [try HostProgram.find("busybox"), "udhcpc"]
    }

    /// Ends it, where it runs.
    func stop() {
        guard let text = try? readHostFile(pidFile, limit: 32),
            let pid = pid_t(String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self)), pid > 1
        else { return }
        func isOurs() -> Bool {
            let words = (try? readHostFile("/proc/\(pid)/cmdline", limit: 1 << 16)) ?? []
            return words.split(separator: 0).contains { $0.elementsEqual(pidFile.utf8) }
        }
        if isOurs(), let process = try? ProcessHandle(pid: pid), isOurs() {
            // Its lease is given back, and it ends.
            try? process.signal(SIGUSR2)
            try? process.signal(SIGTERM)
            if (try? process.waitUntilEnded(milliseconds: 500)) != true { try? process.signal(SIGKILL) }
        }
        _ = unlink(pidFile)
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
            let host = try? Descriptor.open("/proc/\(keeper.pid)/ns/net", [.readOnly]), let links = try? Links(of: host),
            let port = (try? links.link(store.folders.link(attachment))) ?? nil
        else { return }
        try? links.guardPort(port.index, PortGuard(mac: mac, addresses: [address], open: [.v6]))
    }

    /// What comes from others is written where programs read it.
    private static func isDomain(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }
}
