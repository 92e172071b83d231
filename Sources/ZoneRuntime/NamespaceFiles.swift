// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// Files in /proc/PID that only who stands outside of new namespaces can write, user_namespaces(7), time_namespaces(7).
enum NamespaceFiles {
    static func writeIDMaps(_ linux: Spec.Linux, pid: Int32) throws(ZoneError) {
        let users = try Rootless.translated(linux.uidMappings, "/proc/self/uid_map", "linux.uidMappings")
        let groups = try Rootless.translated(linux.gidMappings, "/proc/self/gid_map", "linux.gidMappings")
        try write(text(users), "/proc/\(pid)/uid_map", "linux.uidMappings")
        try write(text(groups), "/proc/\(pid)/gid_map", "linux.gidMappings")
    }

    /// One line a range, as the kernel wants it.
    static func text(_ mappings: [Spec.IDMapping]) -> String {
        mappings.map { "\($0.containerID) \($0.hostID) \($0.size)\n" }.joined()
    }

    static func writeTimeOffsets(_ offsets: [String: Spec.TimeOffset], pid: Int32) throws(ZoneError) {
        if offsets.isEmpty { return }
        var text = ""
        for (clock, offset) in offsets.sorted(by: { $0.key < $1.key }) {
            guard clock == "monotonic" || clock == "boottime" else {
                throw ZoneError(
                    .invalid, "linux.timeOffsets: \"\(clock)\" is not a clock with offsets: monotonic and boottime are")
            }
            guard offset.nanosecs < 1_000_000_000 else {
                throw ZoneError(
                    .invalid, "linux.timeOffsets.\(clock).nanosecs: \(offset.nanosecs) is not below 1000000000")
            }
            text += "\(clock) \(offset.secs) \(offset.nanosecs)\n"
        }
        try write(text, "/proc/\(pid)/timens_offsets", "linux.timeOffsets")
    }

    private static func write(_ text: String, _ path: String, _ place: String) throws(ZoneError) {
        try attempting(place) { () throws(SystemError) in
            let file = try Descriptor.open(path, [.writeOnly])
            try file.writeOnce(text, path)
        }
    }
}
