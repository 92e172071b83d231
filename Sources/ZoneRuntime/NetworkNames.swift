// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Network
import OCI

/// Names on a network, and addresses by DHCP: one dnsmasq, which reads a file for each zone (`--hostsdir`, `--dhcp-hostsdir`) as
/// soon as that is there.
///
/// Names of the network are answered here and asked of nobody else; so are names without a dot (P15). All others are asked of
/// those that the host asks.
struct NetworkNames {
    private static let pidFile = "dnsmasq.pid"
    private static let (hosts, stations) = ("hosts", "dhcp")

    private let folders: ZoneFolders

    init(_ folders: ZoneFolders) {
        self.folders = folders
    }

    private func place(_ network: String) -> String { folders.volatileNetwork(network) }

    /// Starts it; it goes on by itself.
    func start(_ network: NetworkRecord, on bridge: String) throws(ZoneError) {
        try stop(network.name)
        let place = place(network.name)
        do throws(SystemError) {
            try makeFolders(network.name)
            let words =
                [
                    "--pid-file=\(place)/\(NetworkNames.pidFile)", "--interface=\(bridge)", "--except-interface=lo",
                    "--no-hosts",
                    "--hostsdir=\(place)/\(NetworkNames.hosts)", "--domain=\(network.name)",
                    // The second: names without a dot, whatever is asked about them.
                    "--local=/\(network.name)/", "--local=//", "--expand-hosts", "--domain-needed", "--bogus-priv",
                ] + NetworkNames.dhcp(network, place) + (network.isInternal ? ["--no-resolv"] : [])
                + network.bridgeAddresses.map { "--listen-address=\($0.address)" }
            var program = try NamesProgram(place, of: folders.root, capabilities: NetworkNames.capabilities, words)
            program.followsHost = !network.isInternal
            // One that was killed a moment ago may still be on its way out.
            for attempt in 0... {
                do throws(SystemError) {
                    try program.startApart(NetworkNames.pidFile)
                    break
                } catch {
                    guard attempt < 40, error.subject.holds("in use") else { throw error }
                    pause(milliseconds: 50)
                }
            }
            join(network.name)
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "networks of zones need dnsmasq, which is not installed",
                    hint: "install Debian's package dnsmasq-base, or use --network none or host")
            }
            throw ZoneError("start the names of network \(network.name)", error)
        }
    }

    /// Ports below 1024, and what DHCP asks for: CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW.
    private static let capabilities: [CInt] = [10, 12, 13]

    /// Only dnsmasq has a way to them, besides root.
    private func makeFolders(_ network: String) throws(SystemError) {
        let place = try NamesProgram.makeFolder(place(network))
        try NamesProgram.readable { () throws(SystemError) in
            for folder in [NetworkNames.hosts, NetworkNames.stations] { try place.ensureDirectory(folder) }
        }
    }

    /// Addresses for who asks: machines, and zones whose init does. Each gets the one that it has, and nobody else any.
    private static func dhcp(_ network: NetworkRecord, _ place: String) -> [String] {
        guard let range = network.ranges.first(where: { $0.base.family == .v4 }) else { return [] }
        var words = [
            "--dhcp-range=\(range.base),static,12h", "--dhcp-hostsdir=\(place)/\(stations)", "--dhcp-authoritative",
            "--leasefile-ro", "--no-ping",
        ]
        // Nothing is beyond an internal one.
        if network.isInternal { words.append("--dhcp-option=option:router") }
        if let mtu = network.mtu { words.append("--dhcp-option=option:mtu,\(mtu)") }
        return words
    }

    /// A group of its own: what ends with the service, or the session, that has started the first zone must not take the names
    /// of all others with it.
    private func group(_ network: String) throws(SystemError) -> any CGroupManager {
        try CGroups.manager(
            CGroupLayout.ofHost(), path: "\(folders.cgroupParent)/.network-\(network)", for: Spec.Resources())
    }

    private func join(_ network: String) {
        // Where that cannot be, it stays where it is.
        guard let pid = running(network), let group = try? group(network), (try? group.create(Spec.Resources())) != nil,
            let handles = try? group.open()
        else { return }
        let text = Array("\(pid)".utf8)
        if let unified = handles.unified, let folder = try? Descriptor.duplicate(of: unified) {
            try? folder.open("cgroup.procs", [.writeOnly], resolve: .beneath).writeAll(text, "cgroup.procs")
        }
        for tasks in handles.tasks {
            guard let file = try? Descriptor.duplicate(of: tasks) else { continue }
            try? file.writeAll(text, "tasks")
        }
    }

    func isRunning(_ network: String) -> Bool { running(network) != nil }

    /// Ends it, where it runs, and waits for that: the next one needs its addresses.
    func stop(_ network: String) throws(ZoneError) {
        if let pid = running(network), let process = try? ProcessHandle(pid: pid), running(network) == pid {
            try? process.signal(SIGKILL)
            _ = try? process.waitUntilEnded(milliseconds: 5000)
        }
        try? group(network).remove()
        guard let root = try? Descriptor.open(folders.root, [.path, .directory]) else { return }
        try attempting("remove what network \(network) had") { () throws(SystemError) in
            try root.removeTree("\(ZoneFolders.networksFolder)/\(network)")
        }
        // The last one.
        try? root.remove(ZoneFolders.networksFolder, directory: true)
    }

    private func running(_ network: String) -> pid_t? {
        NetworkNames.process(of: "\(place(network))/\(NetworkNames.pidFile)")
    }

    /// The process whose words name a file of a number, and whose number that is.
    static func process(of file: String) -> pid_t? {
        guard let text = try? readHostFile(file, limit: 32),
            let pid = pid_t(String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self)), pid > 1,
            let words = try? readHostFile("/proc/\(pid)/cmdline", limit: 1 << 16),
            words.split(separator: 0).contains(where: { $0.elementsEqual("--pid-file=\(file)".utf8) })
        else { return nil }
        return pid
    }

    /// Lets the network know a zone.
    func add(_ zone: String, _ attachment: NetworkAttachment) throws(SystemError) {
        let place = try Descriptor.open(place(attachment.name), [.path, .directory])
        let lines = attachment.addresses.map { "\($0) \(zone)\n" }.joined()
        try NamesProgram.readable { () throws(SystemError) in
            try place.open(NetworkNames.hosts, [.path, .directory], resolve: .beneath)
                .replaceFile(zone, Array(lines.utf8))
            guard let address = attachment.ipAddresses.first(where: { $0.family == .v4 }) else { return }
            try place.open(NetworkNames.stations, [.path, .directory], resolve: .beneath)
                .replaceFile(zone, Array("\(attachment.mac),\(address),\(zone)\n".utf8))
        }
    }

    /// Lets it forget one; names that are gone it notices when it is told to look.
    func remove(_ zone: String, _ network: String) {
        if let stations = try? Descriptor.open("\(place(network))/\(NetworkNames.stations)", [.path, .directory]) {
            try? stations.remove(zone)
        }
        let path = "\(place(network))/\(NetworkNames.hosts)"
        guard let folder = try? Descriptor.open(path, [.path, .directory]), (try? folder.remove(zone)) != nil else {
            return
        }
        if let pid = running(network) { _ = kill(pid, SIGHUP) }
    }
}
