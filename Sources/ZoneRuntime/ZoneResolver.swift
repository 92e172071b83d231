// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// Names of all networks for a zone that is in several: a dnsmasq in the zone's network namespace, which asks each network's own
/// one for names of that network, and the first one's for all else. So no network learns another's names, and no name of a
/// network goes elsewhere (P15). Zones of one network need none.
struct ZoneResolver {
    /// Of the zone's loopback; docker's resolver has the same.
    static let address = "127.0.0.11"
    private static let servers = "servers.conf"

    private let networks: NetworkStore
    private let definition: ZoneDefinition
    private var zone: String { definition.name }
    private var folder: String { "\(networks.folders.volatile(zone))/names" }
    /// One for each run: the one of the last may just be ending.
    private func pidFile(_ process: Int32) -> String { "\(process).pid" }

    init(_ networks: NetworkStore, _ definition: ZoneDefinition) {
        self.networks = networks
        self.definition = definition
    }

    static func isNeeded(_ definition: ZoneDefinition) -> Bool {
        definition.networks.filter(\.isOfZones).count > 1
    }

    /// Lets it know the networks that the zone is in; starts it where it is needed.
    func update(_ namespace: borrowing Descriptor, _ process: Int32, report: (String) -> Void) throws(ZoneError) {
        let running = self.running(process)
        guard running != nil || ZoneResolver.isNeeded(definition) else { return }
        let lines = try self.lines()
        do throws(SystemError) {
            let place = try NamesProgram.makeFolder(folder)
            try NamesProgram.readable { () throws(SystemError) in
                try place.replaceFile(ZoneResolver.servers, Array(lines.utf8))
            }
            if let running {
                // It reads them again.
                _ = kill(running, SIGHUP)
                return
            }
            let servers = "\(folder)/\(ZoneResolver.servers)"
            // CAP_NET_BIND_SERVICE.
            var program = try NamesProgram(
                folder, of: networks.folders.root, capabilities: [10],
                [
                    "--pid-file=\(folder)/\(pidFile(process))", "--listen-address=\(ZoneResolver.address)",
                    "--no-hosts", "--no-resolv", "--cache-size=0", "--servers-file=\(servers)",
                ])
            program.network = namespace.raw
            program.endsWithCaller = true
            let first = try ProcessHandle(pid: process)
            try HelperProcess.start(
                "zonectl: names of \(zone)", keeping: [namespace.raw, first.raw], dropsRights: false
            ) {
                HelperProcess.attend(while: first) {
                    (try? FileStatus.of(servers)) != nil
                } start: { (_) throws(SystemError) in
                    let child = try program.start()
                    let place = try Descriptor.open(folder, [.path, .directory])
                    try place.replaceFile(pidFile(process), Array("\(child.pid)\n".utf8), mode: 0o600)
                    return child
                }
            }
        } catch {
            throw ZoneError("start the names of zone \(zone)", error)
        }
        let end = MonotonicClock.milliseconds + 3000
        while self.running(process) == nil {
            if MonotonicClock.milliseconds > end {
                return report("zone \(zone) knows no names: something of its own has port 53 of its loopback")
            }
            pause(milliseconds: 5)
        }
    }

    private func lines() throws(ZoneError) -> String {
        var lines = ""
        for attachment in definition.networks where attachment.isOfZones {
            let network = try networks.find(attachment.name)
            guard let gateway = network.bridgeAddresses.first?.address else { continue }
            // The first one is asked for everything else.
            if lines.isEmpty { lines = "server=\(gateway)\n" }
            lines += "server=/\(network.name)/\(gateway)\n"
        }
        return lines
    }

    private func running(_ process: Int32) -> pid_t? { NetworkNames.process(of: "\(folder)/\(pidFile(process))") }
}
