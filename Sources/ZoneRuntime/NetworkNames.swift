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
    /// Of IPv6, for who has nobody else to tell them. See ``advertise(_:on:)``.
    private static let (pidFile6, stations6) = ("dnsmasq6.pid", "dhcp6")

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
            try run(program, NetworkNames.pidFile, network.name)
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "networks of zones need dnsmasq, which is not installed",
                    hint: "install Debian's package dnsmasq-base, or use --network none or host")
            }
            throw ZoneError("start the names of network \(network.name)", error)
        }
    }

    private func run(_ program: NamesProgram, _ pidFile: String, _ network: String) throws(SystemError) {
        // One that was killed a moment ago may still be on its way out.
        for attempt in 0... {
            do throws(SystemError) {
                try program.startApart(pidFile)
                break
            } catch {
                guard attempt < 40, error.subject.holds("in use") else { throw error }
                pause(milliseconds: 50)
            }
        }
        join(network, running(network, pidFile))
    }

    /// Tells machines that boot their own disks which address of IPv6 they have, as nothing else can: by DHCPv6, and
    /// advertisements that send them there. It does nothing but this, so it starts anew whenever one of them starts: dnsmasq
    /// lends an address to nobody else while somebody has it, and a system of IPv6 is known by what it calls itself (RFC 8415,
    /// 11), which an earlier one at this address, that was killed, has called itself otherwise. What the others have they
    /// get again as they ask for it. The caller holds the lock.
    func advertise(_ network: NetworkRecord, on bridge: String) throws(ZoneError) {
        guard let range = network.leased, let gateway = network.gateway(in: range) else { return }
        end(network.name, NetworkNames.pidFile6)
        let place = place(network.name)
        var words = [
            "--pid-file=\(place)/\(NetworkNames.pidFile6)", "--interface=\(bridge)", "--except-interface=lo",
            "--port=0",
            "--dhcp-range=\(range.base),static,\(range.length),12h",
            "--dhcp-hostsdir=\(place)/\(NetworkNames.stations6)",
            "--dhcp-authoritative", "--leasefile-ro", "--enable-ra",
            "--dhcp-option=option6:dns-server,[\(gateway)]", "--dhcp-option=option6:domain-search,\(network.name)",
        ]
        // Else it calls itself by the station of any link of the host's. An enterprise of this number there is not.
        if let mac = network.mac { words.append("--dhcp-duid=0,\(mac)") }
        // By seconds, where not 0; and for how many the network leads elsewhere, which one that is internal does not.
        let size = network.mtu.map { "mtu:\($0)," } ?? ""
        if network.isInternal {
            words.append("--ra-param=\(bridge),\(size)0,0")
        } else if !size.isEmpty {
            words.append("--ra-param=\(bridge),\(size)0")
        }
        try attempting("advertise network \(network.name)") { () throws(SystemError) in
            let program = try NamesProgram(place, of: folders.root, capabilities: NetworkNames.capabilities, words)
            try run(program, NetworkNames.pidFile6, network.name)
        }
    }

    /// Ports below 1024, and what DHCP asks for: CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW.
    private static let capabilities: [CInt] = [10, 12, 13]

    /// Only dnsmasq has a way to them, besides root.
    private func makeFolders(_ network: String) throws(SystemError) {
        let place = try NamesProgram.makeFolder(place(network))
        try NamesProgram.readable { () throws(SystemError) in
            for folder in [NetworkNames.hosts, NetworkNames.stations, NetworkNames.stations6] {
                try place.ensureDirectory(folder)
            }
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

    private func join(_ network: String, _ pid: pid_t?) {
        // Where that cannot be, it stays where it is.
        guard let pid, let group = try? group(network), (try? group.create(Spec.Resources())) != nil,
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

    /// Whether all of it runs that was started.
    func isRunning(_ network: String) -> Bool {
        if running(network) == nil { return false }
        let advertises = (try? FileStatus.of("\(place(network))/\(NetworkNames.pidFile6)")) != nil
        return !advertises || running(network, NetworkNames.pidFile6) != nil
    }

    private func end(_ network: String, _ pidFile: String) {
        guard let pid = running(network, pidFile), let process = try? ProcessHandle(pid: pid),
            running(network, pidFile) == pid
        else { return }
        try? process.signal(SIGKILL)
        _ = try? process.waitUntilEnded(milliseconds: 5000)
    }

    /// Ends it, where it runs, and waits for that: the next one needs its addresses.
    func stop(_ network: String) throws(ZoneError) {
        for file in [NetworkNames.pidFile, NetworkNames.pidFile6] { end(network, file) }
        try? group(network).remove()
        guard let root = try? Descriptor.open(folders.root, [.path, .directory]) else { return }
        try attempting("remove what network \(network) had") { () throws(SystemError) in
            try root.removeTree("\(ZoneFolders.networksFolder)/\(network)")
        }
        // The last one.
        try? root.remove(ZoneFolders.networksFolder, directory: true)
    }

    private func running(_ network: String, _ pidFile: String = NetworkNames.pidFile) -> pid_t? {
        NetworkNames.process(of: "\(place(network))/\(pidFile)")
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
    func add(
        _ zone: ZoneDefinition, _ attachment: NetworkAttachment, to network: NetworkRecord
    ) throws(SystemError) {
        let place = try Descriptor.open(place(network.name), [.path, .directory])
        var addresses = attachment.ipAddresses
        // Who goes by its name must not be led where nobody has told it that it is.
        if zone.bootsDisk { addresses = addresses.filter { $0.family == .v4 || network.leased?.contains($0) == true } }
        func note(_ folder: String, _ text: String) throws(SystemError) {
            try place.open(folder, [.path, .directory], resolve: .beneath).replaceFile(zone.name, Array(text.utf8))
        }
        try NamesProgram.readable { () throws(SystemError) in
            try note(NetworkNames.hosts, addresses.map { "\($0) \(zone.name)\n" }.joined())
            if let four = addresses.first(where: { $0.family == .v4 }) {
                try note(NetworkNames.stations, "\(attachment.mac),\(four),\(zone.name)\n")
            }
            if zone.bootsDisk, let six = addresses.first(where: { $0.family == .v6 }) {
                try note(NetworkNames.stations6, "\(attachment.mac),[\(six)],\(zone.name)\n")
            }
        }
    }

    /// Lets it forget one; names that are gone it notices when it is told to look.
    func remove(_ zone: String, _ network: String) {
        for folder in [NetworkNames.stations, NetworkNames.stations6] {
            guard let stations = try? Descriptor.open("\(place(network))/\(folder)", [.path, .directory]) else {
                continue
            }
            try? stations.remove(zone)
        }
        let path = "\(place(network))/\(NetworkNames.hosts)"
        guard let folder = try? Descriptor.open(path, [.path, .directory]), (try? folder.remove(zone)) != nil else {
            return
        }
        if let pid = running(network) { _ = kill(pid, SIGHUP) }
    }
}
