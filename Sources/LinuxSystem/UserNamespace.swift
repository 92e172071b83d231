// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// The calling process's user namespace, see user_namespaces(7).
public enum UserNamespace {
    /// One line of a map: ids from `inside` on stand for those from `outside` on.
    public struct Range: Sendable, Equatable {
        public let inside: UInt32
        public let outside: UInt32
        public let count: UInt32

        public init(inside: UInt32, outside: UInt32, count: UInt32) {
            self.inside = inside
            self.outside = outside
            self.count = count
        }
    }

    /// Whether this is the host's own, in which root is root. A kernel without user namespaces has no other.
    public static var isInitial: Bool {
        guard let ranges = try? ranges("/proc/self/uid_map") else { return true }
        return ranges == [Range(inside: 0, outside: 0, count: .max)]
    }

    /// Reads a map such as `/proc/self/uid_map`.
    public static func ranges(_ path: String) throws(SystemError) -> [Range] {
        try parse(String(decoding: try readHostFile(path, limit: 1 << 16), as: UTF8.self))
    }

    static func parse(_ text: String) throws(SystemError) -> [Range] {
        var ranges: [Range] = []
        for line in text.fields("\n") {
            let numbers = line.fields(" ").map { UInt32($0) }
            guard numbers.count == 3, let inside = numbers[0], let outside = numbers[1], let count = numbers[2] else {
                throw SystemError("read", "id map", .invalid)
            }
            ranges.append(Range(inside: inside, outside: outside, count: count))
        }
        return ranges
    }

    /// Makes a new user namespace and a new mount namespace in it, and moves the caller there. `map` is called from
    /// outside with the caller's pid, by a process of its own; it writes the maps.
    public static func enterNew(map: (Int32) -> Bool) throws(SystemError) {
        let go = try Pipe()
        let pid = getpid()
        let helper = try check(zn_fork(), "fork")
        if helper == 0 {
            var byte: UInt8 = 0
            // The end of the pipe without a byte: the caller has failed, and says so itself.
            _ = zn_close(go.writer.raw)
            guard zn_read(go.reader.raw, &byte, 1) == 1 else { _exit(1) }
            _exit(map(pid) ? 0 : 1)
        }
        let process = try ProcessHandle(pid: helper)
        let result = zn_unshare(CLONE_NEWUSER | CLONE_NEWNS)
        if result >= 0 {
            var byte: UInt8 = 1
            _ = zn_write(go.writer.raw, &byte, 1)
        }
        end(go)
        let status = try process.wait()
        try check(result, "unshare", "user namespace")
        guard status == .exited(0) else { throw SystemError("map ids", "user namespace", .notPermitted) }
        try becomeRoot()
    }

    /// Moves the caller into the user namespace of a process, with a new mount namespace in it.
    public static func join(of pid: Int32) throws(SystemError) {
        let file = try Descriptor.open("/proc/\(pid)/ns/user", [.readOnly])
        try check(zn_setns(file.raw, CLONE_NEWUSER), "setns", "user namespace of process \(pid)")
        try check(zn_unshare(CLONE_NEWNS), "unshare", "mount namespace")
        try becomeRoot()
    }

    private static func becomeRoot() throws(SystemError) {
        // Of groups the caller keeps what it must: without rights on the map they cannot be changed.
        try check(zn_setresgid(0), "setresgid", "0")
        try check(zn_setresuid(0), "setresuid", "0")
    }

    private static func end(_ pipe: consuming Pipe) {
        _ = consume pipe
    }
}
