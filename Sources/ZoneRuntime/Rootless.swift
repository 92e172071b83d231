// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Zones of ordinary users: zonectl first enters a user namespace in which the user is root and the subordinate ids of
/// subuid(5) are other users, and executes itself again there. From then on nothing is different but what the kernel
/// refuses: control groups without delegation, device nodes, limits beyond the user's own.
///
/// Executed again, so that the executable is reached through a read-only mount there too (CStart), which needs the
/// namespace's rights.
public enum Rootless {
    /// Tells the second execution whose namespace it is in: the user's uid outside.
    private static let marker = "ZONECTL_ROOTLESS_UID"

    /// Whether the caller's root is not the host's. Nobody changes namespaces in mid-run: ``enter(process:report:)``
    /// executes zonectl again.
    public static let isInside = geteuid() != 0 || !UserNamespace.isInitial

    /// Whether zonectl itself entered the namespace, so that ids in configurations are still those outside.
    static var hasEntered: Bool { getenv(marker) != nil && geteuid() == 0 && !UserNamespace.isInitial }

    /// The ordinary user's uid on the host; nil for root.
    static var user: UInt32? {
        if geteuid() != 0 { return geteuid() }
        guard isInside else { return nil }
        if let text = getenv(marker), let user = UInt32(String(cString: text)) { return user }
        let own = (try? UserNamespace.ranges("/proc/self/uid_map")) ?? []
        return own.first { $0.inside == 0 }?.outside
    }

    /// For an ordinary user: enters a new user namespace, or that of a zone's process, and executes zonectl again.
    /// Returns for root.
    public static func enter(process: Int32? = nil, report: (String) -> Void) throws(ZoneError) {
        let user = geteuid()
        if user == 0 { return }
        do throws(SystemError) {
            if let process {
                try UserNamespace.join(of: process)
            } else {
                try enterNew(user, getegid(), report)
            }
        } catch {
            let hint =
                error.errno == .notPermitted || error.errno == .noSpace
                ? "the kernel refuses user namespaces to ordinary users: see /proc/sys/user/max_user_namespaces" : nil
            throw ZoneError(.notPermitted, "use zones without root rights: \(error)", hint: hint)
        }
        setenv(marker, String(user), 1)
        // By its path: /proc/self/exe leads to the mount of the namespace that was left, which nobody here may copy.
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let length = zn_readlinkat(AT_FDCWD, "/proc/self/exe", &buffer, Int(PATH_MAX))
        let result = length < 0 ? CInt(length) : zn_execve(buffer, zn_arguments(), environ)
        throw ZoneError("execute zonectl again", SystemError("execve", "zonectl", Errno(rawValue: -result)))
    }

    private static func enterNew(_ user: UInt32, _ group: UInt32, _ report: (String) -> Void) throws(SystemError) {
        let name = SubordinateIDs.name(of: user, in: text("/etc/passwd"))
        let users = SubordinateIDs.ranges(text("/etc/subuid"), user: user, name: name)
        let groups = SubordinateIDs.ranges(text("/etc/subgid"), user: user, name: name)
        let uidMap = Maps.text(SubordinateIDs.map(own: user, users))
        let gidMap = Maps.text(SubordinateIDs.map(own: group, groups))
        let programs = (try? HostProgram.find("newuidmap"), try? HostProgram.find("newgidmap"))
        if !users.isEmpty, !groups.isEmpty, let newuidmap = programs.0, let newgidmap = programs.1 {
            return try UserNamespace.enterNew { pid in
                Maps.write(newuidmap, pid, uidMap, report) && Maps.write(newgidmap, pid, gidMap, report)
            }
        }
        if !users.isEmpty, !groups.isEmpty {
            report(
                "only one user and one group are available to zones: newuidmap and newgidmap are not installed (package uidmap)"
            )
        }
        try UserNamespace.enterNew { pid in
            // A user may map the own ids, but then groups can no longer be changed: user_namespaces(7).
            Maps.writeFile("/proc/\(pid)/setgroups", "deny")
                && Maps.writeFile("/proc/\(pid)/uid_map", "0 \(user) 1\n")
                && Maps.writeFile("/proc/\(pid)/gid_map", "0 \(group) 1\n")
        }
    }

    private static func text(_ path: String) -> String {
        // A host without these files has no subordinate ids.
        String(decoding: (try? readHostFile(path, limit: 4 << 20)) ?? [], as: UTF8.self)
    }

    // MARK: Ids of configurations

    /// Mappings of a bundle as they are written from where zonectl is. Where it entered a namespace by itself, the ids
    /// outside are looked up in that namespace's map; elsewhere they are taken as they are.
    static func translated(
        _ mappings: [Spec.IDMapping], _ file: String, _ place: String
    ) throws(ZoneError) -> [Spec.IDMapping] {
        guard hasEntered else { return mappings }
        let ranges = try attempting(place) { () throws(SystemError) in try UserNamespace.ranges(file) }
        var result: [Spec.IDMapping] = []
        for mapping in mappings {
            guard let inside = translate(mapping, ranges) else {
                throw ZoneError(
                    .notPermitted,
                    "\(place): the ids \(mapping.hostID) and \(mapping.size) on from there are not yours to give",
                    hint: "an ordinary user has the own id and those in /etc/subuid and /etc/subgid")
            }
            result.append(inside)
        }
        return result
    }

    /// The mapping with its outside ids seen from inside; nil where one range does not hold all of them.
    static func translate(_ mapping: Spec.IDMapping, _ ranges: [UserNamespace.Range]) -> Spec.IDMapping? {
        for range in ranges {
            guard mapping.hostID >= range.outside else { continue }
            let offset = mapping.hostID - range.outside
            guard offset < range.count, mapping.size <= range.count - offset else { continue }
            return Spec.IDMapping(
                containerID: mapping.containerID, hostID: range.inside + offset, size: mapping.size)
        }
        return nil
    }
}

/// Writes id maps from outside of a namespace.
private enum Maps {
    static func text(_ ranges: [UserNamespace.Range]) -> [String] {
        ranges.flatMap { [String($0.inside), String($0.outside), String($0.count)] }
    }

    /// Through newuidmap(1) or newgidmap(1), which may map what subuid(5) and subgid(5) give.
    static func write(_ program: String, _ pid: Int32, _ map: [String], _ report: (String) -> Void) -> Bool {
        do throws(SystemError) {
            let outcome = try HostProgram(program, [String(pid)] + map).run()
            if outcome.status == .exited(0) { return true }
            report("\(program): \(outcome.reason)")
        } catch {
            report("\(error)")
        }
        return false
    }

    static func writeFile(_ path: String, _ text: String) -> Bool {
        do throws(SystemError) {
            try Descriptor.open(path, [.writeOnly]).writeOnce(text, path)
            return true
        } catch {
            return false
        }
    }
}
