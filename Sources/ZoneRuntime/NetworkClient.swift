// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// Gets a zone's address in a network that is not ours, from the DHCP there: by busybox's udhcpc in the zone's network namespace,
/// with few of root's powers. A process of ours runs it for as long as the zone lives, and does what each lease asks for. Addresses
/// of IPv6 the kernel finds by itself (RFC 4862).
struct NetworkClient {
    private let store: ZoneStore
    private let definition: ZoneDefinition
    private let attachment: NetworkAttachment
    private var zone: String { definition.name }
    private var place: String { store.folders.volatile(zone) }
    /// What udhcpc calls. It says what it was told by its standard output; it does nothing itself.
    private var script: String { "\(attachment.link).sh" }
    /// Says which address the zone has got.
    private var lease: String { "\(attachment.link).lease" }

    init(_ store: ZoneStore, _ definition: ZoneDefinition, _ attachment: NetworkAttachment) {
        self.store = store
        self.definition = definition
        self.attachment = attachment
    }

    /// Milliseconds that a start waits for an address, before the zone's program runs.
    private static let patience: Int64 = 4000

    /// Starts it, and waits a few seconds for a lease; without one the zone starts all the same, and it goes on to ask.
    /// `isRunning`: the zone's program runs already, and may have its own word in what comes.
    func start(
        _ namespace: borrowing Descriptor, _ process: Int32, isRunning: Bool, report: (String) -> Void
    ) throws(ZoneError) {
        let attempt = "ask for an address of zone \(zone) in \(attachment.name)"
        do throws(SystemError) {
            let folder = try Descriptor.open(place, [.readOnly, .directory])
            try? folder.remove(lease)
            let text =
                "#!/bin/sh\nprintf '\\n%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' \"$1\" \"$ip\" \"$mask\" \"$router\" \"$dns\" \"$domain\"\n"
            try folder.replaceFile(script, Array(text.utf8), mode: 0o700)
            var program = try HostProgram(
                "nsenter",
                ["--net=/proc/self/fd/3", "--"]
                    + HelperProcess.confined("+net_raw,+net_admin,+net_bind_service") + (try udhcpc()) + [
                        "-f", "-R", "-S", "-t", "4", "-T", "1", "-A", "10", "-i", attachment.link, "-s",
                        "\(place)/\(script)",
                        "-x", "hostname:\(definition.hostname ?? zone)",
                    ])
            program.inherited = [namespace.raw]
            let first = try ProcessHandle(pid: process)
            guard let link = try Links(of: namespace).link(attachment.link) else {
                throw SystemError("look at link", attachment.link, .noDevice)
            }
            let (path, folderPath) = ("\(place)/\(script)", place)
            let trustedUntil = isRunning ? 0 : MonotonicClock.milliseconds + NetworkClient.patience - 200
            try HelperProcess.start(
                "zonectl: address of \(zone) in \(attachment.name)", keeping: [namespace.raw, first.raw],
                dropsRights: false
            ) {
                var heard: [UInt8] = []
                HelperProcess.attend(program, while: first) { bytes in
                    heard += bytes
                    while let end = heard.firstIndex(of: 0x0A) {
                        let news = NetworkLease(heard[..<end])
                        heard.removeSubrange(...end)
                        guard let news else { continue }
                        let isTrusted = MonotonicClock.milliseconds < trustedUntil || !mayForge
                        // What went wrong is tried again with the next news.
                        try? settle(news, link.index, namespace, in: folderPath, isTrusted: isTrusted)
                    }
                    if heard.count > 8192 { heard = [] }
                } _: {
                    // It gives its lease back when it ends (-R).
                    (try? FileStatus.of(path)) != nil
                }
            }
            let end = MonotonicClock.milliseconds + NetworkClient.patience
            while (try? FileStatus.of("\(place)/\(lease)")) == nil {
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

    /// Whether the zone can make what comes to its link itself.
    private var mayForge: Bool {
        definition.initSystem != nil || definition.addedCapabilities.contains { ["ALL", "CAP_NET_ADMIN"].contains($0) }
    }

    private func udhcpc() throws(SystemError) -> [String] {
        if let own = try? HostProgram.find("udhcpc") { return [own] }
        return [try HostProgram.find("busybox"), "udhcpc"]
    }

    /// Lets the zone go without its address there, while it goes on.
    func stop() {
        guard let folder = try? Descriptor.open(place, [.path, .directory]) else { return }
        try? folder.remove(script)
        try? folder.remove(lease)
    }

    /// Gives the zone what it has got: its own link, and no other one that it may call so. `isTrusted`: nothing in the zone can
    /// have said it; else its guard stays as it is.
    private func settle(
        _ news: NetworkLease, _ index: Int32, _ namespace: borrowing Descriptor, in place: String, isTrusted: Bool
    ) throws(SystemError) {
        let links = try Links(of: namespace)
        guard let link = try links.link(attachment.link), link.index == index else { return }
        guard let (address, length) = news.given else {
            if news.action == "deconfig" { try links.removeAddresses(of: index, .v4) }
            return
        }
        try links.removeAddresses(of: index, .v4, except: address)
        do throws(SystemError) { try links.addAddress(address, length: length, to: index) } catch {
            guard error.errno == .exists else { throw error }
        }
        let networks = NetworkStore(store)
        let leads = definition.networks.first { other in
            other.name == attachment.name || other.isOfZones && (try? networks.find(other.name).isInternal) == false
        }
        if leads?.name == attachment.name, let router = news.routers.first {
            try? links.setDefaultRoute(by: router, on: index)
        }
        if isTrusted { try guardPort(address) }
        if !definition.networks.contains(where: \.isOfZones), definition.nameServers.isEmpty {
            let lines = news.nameServers.map { "nameserver \($0)\n" }
            let search = news.domain.map { "search \($0)\n" } ?? ""
            let file = try Descriptor.open(
                "\(store.folders.persistent(zone))/resolv.conf", [.writeOnly, .create, .truncate, .noFollow],
                mode: 0o644)
            try file.writeAll(search + lines.joined(), "resolv.conf")
        }
        let folder = try Descriptor.open(place, [.readOnly, .directory])
        try folder.replaceFile(lease, Array("\(address)/\(length)\n".utf8), mode: 0o600)
    }

    /// From now on the zone has this address: no other one comes by its port.
    private func guardPort(_ address: IPAddress) throws(SystemError) {
        guard case .bridge = attachment.kind, let mac = MACAddress(attachment.mac) else { return }
        let links = try Links()
        guard let port = try links.link(store.folders.link(attachment)) else { return }
        try links.guardPort(port.index, PortGuard(mac: mac, addresses: [address], open: [.v6]))
    }
}

/// What udhcpc says of a lease, as the script writes it: a line of fields. All of it has come from others.
struct NetworkLease {
    let action: String
    /// The address, and its subnet's length.
    let given: (address: IPAddress, length: Int)?
    let routers: [IPAddress]
    let nameServers: [IPAddress]
    let domain: String?

    /// `nil`: another line, such as one of udhcpc's own.
    init?(_ line: ArraySlice<UInt8>) {
        let fields = line.split(separator: 0x09, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard fields.count == 6, ["deconfig", "bound", "renew", "nak", "leasefail"].contains(fields[0]) else {
            return nil
        }
        action = fields[0]
        let isLease = action == "bound" || action == "renew"
        if isLease, let address = IPAddress(fields[1]), address.family == .v4, let length = Int(fields[2]),
            (1...32).contains(length)
        {
            given = (address, length)
        } else {
            given = nil
        }
        func addresses(_ text: String) -> [IPAddress] {
            text.split(separator: " ").compactMap { IPAddress(String($0)) }
        }
        routers = addresses(fields[3]).filter { $0.family == .v4 }
        nameServers = addresses(fields[4])
        domain = NetworkLease.isDomain(fields[5]) ? fields[5] : nil
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
