// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Network

/// Names on a network: one dnsmasq, which reads a file for each zone (`--hostsdir`) as soon as that is there.
///
/// Names of the network are answered here and asked of nobody else; so are names without a dot (P15). All others are asked of
/// those that the host asks.
struct NetworkNames {
    private static let pidFile = "dnsmasq.pid"
    private static let hosts = "hosts"

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
            _ = try Descriptor.makePath("\(place)/\(NetworkNames.hosts)", mode: 0o700)
            var program = try HostProgram(
                "dnsmasq",
                [
                    "--conf-file=/dev/null", "--pid-file=\(place)/\(NetworkNames.pidFile)", "--user=root",
                    "--bind-interfaces", "--interface=\(bridge)", "--except-interface=lo", "--no-hosts",
                    "--hostsdir=\(place)/\(NetworkNames.hosts)", "--domain=\(network.name)",
                    // The second: names without a dot, whatever is asked about them.
                    "--local=/\(network.name)/", "--local=//", "--expand-hosts", "--domain-needed", "--bogus-priv",
                ] + (network.isInternal ? ["--no-resolv"] : [])
                    + network.bridgeAddresses.map { "--listen-address=\($0.address)" })
            program.milliseconds = 10_000
            var outcome = try program.run()
            // One that was killed a moment ago may still be on its way out.
            for _ in 0..<40 where outcome.status != .exited(0) && outcome.reason.holds("in use") {
                pause(milliseconds: 50)
                outcome = try program.run()
            }
            guard outcome.status == .exited(0) else { throw SystemError("run", outcome.reason, .ioError) }
        } catch {
            if error.errno == .noEntry, error.operation == "find program" {
                throw ZoneError(
                    .unsupported, "networks of zones need dnsmasq, which is not installed",
                    hint: "install Debian's package dnsmasq-base, or use --network none or host")
            }
            throw ZoneError("start the names of network \(network.name)", error)
        }
    }

    func isRunning(_ network: String) -> Bool { running(network) != nil }

    /// Ends it, where it runs, and waits for that: the next one needs its addresses.
    func stop(_ network: String) throws(ZoneError) {
        if let pid = running(network), let process = try? ProcessHandle(pid: pid), running(network) == pid {
            try? process.signal(SIGKILL)
            _ = try? process.waitUntilEnded(milliseconds: 5000)
        }
        guard let root = try? Descriptor.open(folders.root, [.path, .directory]) else { return }
        try attempting("remove what network \(network) had") { () throws(SystemError) in
            try root.removeTree("\(ZoneFolders.networksFolder)/\(network)")
        }
        // The last one.
        try? root.remove(ZoneFolders.networksFolder, directory: true)
    }

    /// Its number: that of a process whose words name our file, as the number may be another's by now.
    private func running(_ network: String) -> pid_t? {
        let file = "\(place(network))/\(NetworkNames.pidFile)"
        guard let text = try? readHostFile(file, limit: 32),
            let pid = pid_t(String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self)), pid > 1,
            let words = try? readHostFile("/proc/\(pid)/cmdline", limit: 1 << 16),
            words.split(separator: 0).contains(where: { $0.elementsEqual("--pid-file=\(file)".utf8) })
        else { return nil }
        return pid
    }

    /// Lets the network know a zone.
    func add(_ zone: String, _ attachment: NetworkAttachment) throws(SystemError) {
        let folder = try Descriptor.makePath("\(place(attachment.name))/\(NetworkNames.hosts)", mode: 0o700)
        let lines = attachment.addresses.map { "\($0) \(zone)\n" }.joined()
        try folder.replaceFile(zone, Array(lines.utf8), mode: 0o600)
    }

    /// Lets it forget one; names that are gone it notices when it is told to look.
    func remove(_ zone: String, _ network: String) {
        let path = "\(place(network))/\(NetworkNames.hosts)"
        guard let folder = try? Descriptor.open(path, [.path, .directory]), (try? folder.remove(zone)) != nil else {
            return
        }
        if let pid = running(network) { _ = kill(pid, SIGHUP) }
    }
}
