// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Who the program runs as, once looked up.
struct Identity {
    var uid: UInt32
    var gid: UInt32
    var groups: [UInt32]
    /// From the zone's /etc/passwd; `nil` where the user has no entry.
    var home: String?
}

/// Looks up users in the zone's own /etc/passwd and /etc/group, inside its root.
enum UserLookup {
    /// More than this is no user database but an attack on our memory.
    private static let limit = 4 << 20

    static func resolve(_ user: ProcessPlan.User, root: CInt) throws(LaunchFailure) -> Identity {
        switch user {
        case .ids(let uid, let gid, let groups):
            let home = try entry(root) { $0.uid == uid }?.home
            return Identity(uid: uid, gid: gid, groups: groups, home: home)
        case .named(let request):
            return try resolve(request, root)
        }
    }

    private static func resolve(_ request: UserRequest, _ root: CInt) throws(LaunchFailure) -> Identity {
        let user: PasswordEntry?
        var identity: Identity
        switch request.user {
        case .id(let uid):
            user = try entry(root) { $0.uid == uid }
            identity = Identity(uid: uid, gid: user?.gid ?? 0, groups: [], home: user?.home)
        case .name(let name):
            user = try entry(root) { $0.name == name }
            guard let user else { throw LaunchFailure(.user, .noEntry) }
            identity = Identity(uid: user.uid, gid: user.gid, groups: [], home: user.home)
        }
        let groups = request.group == nil && user == nil ? [] : try groupEntries(root)
        switch request.group {
        case .id(let gid): identity.gid = gid
        case .name(let name):
            guard let group = groups.first(where: { $0.name == name }) else { throw LaunchFailure(.user, .noEntry) }
            identity.gid = group.gid
        case nil:
            // As login(1): an explicit group stands alone, otherwise the user's memberships come along.
            if let name = user?.name { identity.groups = groups.filter { $0.members.contains(name) }.map(\.gid) }
        }
        return identity
    }

    /// For who logs in.
    static func account(_ user: UserRequest.Principal, root: CInt) throws(LaunchFailure) -> LoginAccount? {
        let found =
            switch user {
            case .id(let uid): try entry(root) { $0.uid == uid }
            case .name(let name): try entry(root) { $0.name == name }
            }
        return found.map { LoginAccount(name: $0.name, uid: $0.uid, home: $0.home, shell: $0.shell) }
    }

    private struct PasswordEntry {
        let name: String
        let uid: UInt32
        let gid: UInt32
        let home: String
        let shell: String
    }

    private struct GroupEntry {
        let name: String
        let gid: UInt32
        let members: [String]
    }

    /// The first entry of passwd(5) that matches; malformed lines are skipped, as libc does.
    private static func entry(_ root: CInt, where matches: (PasswordEntry) -> Bool) throws(LaunchFailure)
        -> PasswordEntry?
    {
        for line in try lines(root, "/etc/passwd") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count >= 6, let uid = UserRequest.id(fields[2]), let gid = UserRequest.id(fields[3]) else {
                continue
            }
            let entry = PasswordEntry(
                name: String(fields[0]), uid: uid, gid: gid, home: String(fields[5]),
                shell: fields.count > 6 ? String(fields[6]) : "")
            if matches(entry) { return entry }
        }
        return nil
    }

    private static func groupEntries(_ root: CInt) throws(LaunchFailure) -> [GroupEntry] {
        try lines(root, "/etc/group").compactMap { line in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count >= 4, let gid = UserRequest.id(fields[2]) else { return nil }
            return GroupEntry(
                name: String(fields[0]), gid: gid, members: fields[3].split(separator: ",").map(String.init))
        }
    }

    private static func lines(_ root: CInt, _ path: String) throws(LaunchFailure) -> [Substring] {
        // O_NONBLOCK: a fifo of that name must not hold us up.
        let raw = InsidePath(root: root).find(path, flags: [.readOnly, .nonBlocking])
        // An image need not have users at all.
        if raw == -ENOENT || raw == -ENOTDIR { return [] }
        let file = Descriptor(owning: try attempt(.user, raw))
        do throws(SystemError) {
            guard try file.stat().kind == .regular else { return [] }
            // By bytes: a carriage return and a new line are one character to Swift, which is no new line.
            return try file.readAll(limit: limit).split(separator: UInt8(ascii: "\n")).map {
                Substring(decoding: $0, as: UTF8.self)
            }
        } catch {
            throw LaunchFailure(.user, error.errno)
        }
    }
}
