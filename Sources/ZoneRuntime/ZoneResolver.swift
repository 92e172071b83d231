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
    private var folder: String { networks.folders.volatile(zone) }
    /// One for each run: the one of the last may just be ending.
    private func pidFile(_ process: Int32) -> String { "\(folder)/names-\(process).pid" }

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
            let place = try Descriptor.open(folder, [.readOnly, .directory])
            try place.replaceFile(ZoneResolver.servers, Array(lines.utf8), mode: 0o600)
            if let running {
                // It reads them again.
                _ = kill(running, SIGHUP)
                return
            }
            let path = folder
            var program = try HostProgram(
                "nsenter",
                ["--net=/proc/self/fd/3", "--"]
                    + HelperProcess.confined("+net_bind_service,+setgid")
                    + NetworkNames.words(
                        try HostProgram.find("dnsmasq"),
                        [
                            "--keep-in-foreground", "--pid-file=\(pidFile(process))",
                            "--listen-address=\(ZoneResolver.address)", "--no-hosts", "--no-resolv", "--cache-size=0",
                            "--servers-file=\(path)/\(ZoneResolver.servers)",
                        ]))
            program.inherited = [namespace.raw]
            let first = try ProcessHandle(pid: process)
            try HelperProcess.start(
                "zonectl: names of \(zone)", keeping: [namespace.raw, first.raw], dropsRights: false
            ) {
                HelperProcess.attend(program, while: first) {
                    (try? FileStatus.of("\(path)/\(ZoneResolver.servers)")) != nil
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

    private func running(_ process: Int32) -> pid_t? { NetworkNames.process(of: pidFile(process)) }
}
