// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a zone with a network of its own has received and sent, in bytes.
struct NetworkUsage: Equatable {
    var received: UInt64 = 0
    var sent: UInt64 = 0

    /// The host's own network, which is nobody's in particular.
    struct Host {
        private let namespace: UInt64?

        init() {
            namespace = try? FileStatus.of("/proc/self/ns/net").inode
        }

        /// nil for a zone in the host's network, and for one that cannot be looked at.
        func usage(of pid: Int32) -> NetworkUsage? {
            guard let own = try? FileStatus.of("/proc/\(Int(pid))/ns/net").inode, own != namespace,
                let text = try? readHostFile("/proc/\(Int(pid))/net/dev", limit: 1 << 20)
            else { return nil }
            return NetworkUsage(text)
        }

        /// Of a machine, from the ends of its cards in the caller's network: what is sent there is received by the machine.
        func usage(ofTaps names: [String]) -> NetworkUsage? {
            guard let text = try? readHostFile("/proc/thread-self/net/dev", limit: 4 << 20) else { return nil }
            let other = NetworkUsage(text) { names.contains($0) }
            return NetworkUsage(received: other.sent, sent: other.received)
        }
    }

    init(received: UInt64 = 0, sent: UInt64 = 0) {
        self.received = received
        self.sent = sent
    }

    /// Sums up the interfaces of /proc/net/dev, but the loopback and the machines' ends of engines' links: proc_pid_net(5). The
    /// first number of a line is of bytes received, the ninth of bytes sent.
    init(_ text: [UInt8], _ isWanted: (String) -> Bool = { $0 != "lo" && !EngineLinks.isTap($0) }) {
        for line in text.split(separator: 0x0A).dropFirst(2) {
            guard let colon = line.lastIndex(of: UInt8(ascii: ":")) else { continue }
            let name = line[..<colon].drop { $0 == 0x20 }
            guard isWanted(String(decoding: name, as: UTF8.self)) else { continue }
            let numbers = line[(colon + 1)...].split(separator: 0x20).map {
                UInt64(String(decoding: $0, as: UTF8.self))
            }
            guard numbers.count >= 9, let received = numbers[0], let sent = numbers[8] else { continue }
            self.received = self.received &+ received
            self.sent = self.sent &+ sent
        }
    }
}
