// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Maps of ids of a user namespace, see user_namespaces(7).
public struct IDMap: Sendable, Hashable {
    /// A range of ids: those inside, those outside, and how many.
    public struct Range: Sendable, Hashable {
        public var inside: UInt32
        public var outside: UInt32
        public var count: UInt32

        public init(inside: UInt32, outside: UInt32, count: UInt32) {
            self.inside = inside
            self.outside = outside
            self.count = count
        }
    }

    public var users: [Range]
    public var groups: [Range]

    public init(users: [Range], groups: [Range]) {
        self.users = users
        self.groups = groups
    }

    /// Makes a user namespace with these maps in which nobody is, for id-mapped mounts.
    ///
    /// The kernel only makes one around a process; that process does nothing but wait until its namespace is open.
    public func makeUserNamespace() throws(SystemError) -> Descriptor {
        let parent = getpid()
        var pidfd: CInt = -1
        let pid = try check(zn_clone3(UInt64(CLONE_NEWUSER), &pidfd, -1), "clone3", "user namespace")
        if pid == 0 {
            // It goes with us, also where we died before this call.
            _ = zn_prctl(1 /* PR_SET_PDEATHSIG */, UInt(SIGKILL), 0, 0, 0)
            while getppid() == parent { LinuxSystem.pause(milliseconds: 10_000) }
            _exit(0)
        }
        let holder = ProcessHandle(pid: pid, pidfd: Descriptor(owning: pidfd))
        defer {
            // It cannot have ended, and it is ours to end.
            try? holder.signal(SIGKILL)
            _ = try? holder.wait()
        }
        let folder = try Descriptor.open("/proc/\(pid)", [.path, .directory])
        try IDMap.write(users, folder, "uid_map")
        try IDMap.write(groups, folder, "gid_map")
        return try folder.open("ns/user", [.readOnly], resolve: [])
    }

    private static func write(_ ranges: [Range], _ folder: borrowing Descriptor, _ name: String) throws(SystemError) {
        let text = ranges.map { "\($0.inside) \($0.outside) \($0.count)\n" }.joined()
        // One call: the kernel takes a map only once.
        try folder.open(name, [.writeOnly], resolve: .beneath).writeOnce(text, name)
    }
}
