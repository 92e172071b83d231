// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// Where a zone's groups are to be: `linux.cgroupsPath` of the OCI configuration, config-linux.md "Cgroups Path".
public enum CGroupPath: Sendable, Equatable {
    /// A path below each hierarchy's root, without a leading slash, `.` or `..`.
    case group(String)
    /// A systemd unit, from `slice:prefix:name`; the slice may be empty, the prefix as well.
    case unit(slice: String, prefix: String, name: String)

    /// Bytes; with the mount point before it the path must fit into PATH_MAX.
    private static let longest = 3072

    /// Parses the text.
    ///
    /// An absolute path is taken as it is, a relative one is below `defaultParent`, none is `id` there. With `systemd`
    /// only the form `slice:prefix:name` will do, and none is `:zonectl:ID`. Never leaves the hierarchy; everything
    /// else is `.invalid` or `.nameTooLong`.
    public static func parse(
        _ text: String?, id: String, systemd: Bool, defaultParent: String
    ) throws(SystemError) -> CGroupPath {
        if systemd { return try parseUnit(text ?? ":zonectl:\(id)") }
        let path: String
        if let text {
            guard let first = text.utf8.first else { throw refusal(text, "is empty", .invalid) }
            path = first == UInt8(ascii: "/") ? String(text.utf8.dropFirst()) ?? "" : "\(defaultParent)/\(text)"
        } else {
            path = "\(defaultParent)/\(id)"
        }
        try verify(path, of: text ?? path)
        return .group(path)
    }

    private static func verify(_ path: String, of text: String) throws(SystemError) {
        if path.utf8.count > longest { throw refusal("", "is longer than \(longest) bytes", .nameTooLong) }
        // By bytes: to Swift a slash with a combining mark after it is another character.
        for part in path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if part.isEmpty { throw refusal(text, "has an empty component", .invalid) }
            if part.elementsEqual(".".utf8) || part.elementsEqual("..".utf8) {
                throw refusal(text, "has the component . or ..", .invalid)
            }
            if part.count > 255 { throw refusal("", "has a component of more than 255 bytes", .nameTooLong) }
            // The kernel refuses new lines, as /proc/PID/cgroup could not show them; the others are as hard to read.
            if part.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
                throw refusal("", "has a control character", .invalid)
            }
        }
    }

    private static func parseUnit(_ text: String) throws(SystemError) -> CGroupPath {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count == 3, let slice = String(parts[0]), let prefix = String(parts[1]), let name = String(parts[2])
        else { throw refusal(text, "is not of the form slice:prefix:name, which --systemd-cgroup needs", .invalid) }
        if !slice.isEmpty { _ = try SystemdName.expand(slice: slice) }
        _ = try SystemdName.unit(prefix: prefix, name: name)
        return .unit(slice: slice, prefix: prefix, name: name)
    }

    private static func refusal(_ text: String, _ why: String, _ errno: Errno) -> SystemError {
        SystemError("parse cgroupsPath", text.isEmpty ? why : "\"\(text)\": \(why)", errno)
    }
}
