// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Parses `--volume`, `--mount` and `--tmpfs`.
enum MountValue {
    /// `SOURCE:TARGET[:OPTIONS]`
    static func volume(_ text: String) throws(ZoneError) -> Spec.Mount {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (2...3).contains(parts.count), !parts[0].isEmpty, !parts[1].isEmpty else {
            throw ZoneError(
                .invalid, "--volume \"\(text)\" is not SOURCE:TARGET[:OPTIONS]", hint: "such as /srv/data:/data:ro")
        }
        guard parts[0].isAbsolutePath || parts[0].hasPrefix(".") else {
            throw ZoneError(
                .unsupported, "--volume \"\(parts[0])\": volumes by name are not supported",
                hint: "give a path: /\(parts[0]) or ./\(parts[0])")
        }
        var options = ["rbind"]
        for option in parts.count == 3 ? parts[2].split(separator: ",").map(String.init) : [] {
            switch option {
            case "rw", "nosuid", "nodev", "noexec", "suid", "dev", "exec", "rbind", "bind", "private", "rprivate",
                "slave", "rslave", "shared", "rshared":
                options.append(option)
            // People mean the folder with all that is mounted in it, as docker does.
            case "ro": options.append("rro")
            // Labels for SELinux, which docker's users write out of habit: there is nothing to label without it.
            case "z", "Z": break
            default:
                throw ZoneError(
                    .invalid, "--volume \"\(text)\": unknown option \"\(option)\"",
                    hint:
                        "there is ro, rw, nosuid, nodev, noexec, suid, dev, exec, and how mounts spread: "
                        + "private, slave, shared, each also with an r before it")
            }
        }
        for (one, other) in [("rro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec")]
        where options.contains(one) && options.contains(other) {
            throw ZoneError(
                .invalid, "--volume \"\(text)\": \(one == "rro" ? "ro" : one) and \(other) contradict each other")
        }
        return try bind(parts[0], parts[1], options, "--volume")
    }

    /// `type=bind,src=…,dst=…,readonly` or `type=tmpfs,dst=…,tmpfs-size=…,tmpfs-mode=…`
    static func mount(_ text: String) throws(ZoneError) -> Spec.Mount {
        var type = "bind"
        var source: String?
        var target: String?
        var options: [String] = []
        var tmpfsOptions: [String] = []
        for field in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let value = parts.count == 2 ? parts[1] : nil
            switch (parts.first ?? "", value) {
            case ("type", let value?): type = value
            case ("source", let value?), ("src", let value?): source = value
            case ("target", let value?), ("destination", let value?), ("dst", let value?): target = value
            case ("readonly", nil), ("readonly", "true"), ("ro", nil), ("ro", "true"): options.append("ro")
            case ("readonly", "false"), ("ro", "false"): options.append("rw")
            case ("tmpfs-size", let value?): tmpfsOptions.append("size=\(value)")
            case ("tmpfs-mode", let value?): tmpfsOptions.append("mode=\(value)")
            case ("bind-propagation", let kind?)
            where ["private", "rprivate", "slave", "rslave", "shared", "rshared"].contains(kind):
                options.append(kind)
            default: throw ZoneError(.invalid, "--mount \"\(text)\": \"\(field)\" is not understood", hint: hint)
            }
        }
        guard let target else { throw ZoneError(.invalid, "--mount \"\(text)\": dst= is missing", hint: hint) }
        switch type {
        case "bind":
            guard let source, !source.isEmpty, tmpfsOptions.isEmpty else {
                throw ZoneError(
                    .invalid, "--mount \"\(text)\": a bind mount needs src= and takes no tmpfs options", hint: hint)
            }
            // As for --volume: all that is mounted in it.
            return try bind(source, target, ["rbind"] + options.map { $0 == "ro" ? "rro" : $0 }, "--mount")
        case "tmpfs":
            guard source == nil else {
                throw ZoneError(.invalid, "--mount \"\(text)\": a tmpfs has no src=", hint: hint)
            }
            return try tmpfs(target, options + tmpfsOptions, "--mount")
        default: throw ZoneError(.invalid, "--mount \"\(text)\": type \"\(type)\" is not known", hint: hint)
        }
    }

    private static let hint = "such as type=bind,src=/srv,dst=/srv,readonly or type=tmpfs,dst=/tmp,tmpfs-size=64M"

    /// `TARGET[:OPTIONS]`
    static func tmpfs(_ text: String) throws(ZoneError) -> Spec.Mount {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let options = parts.count == 2 ? parts[1].split(separator: ",").map(String.init) : []
        return try tmpfs(parts[0], options, "--tmpfs")
    }

    private static func tmpfs(_ target: String, _ options: [String], _ option: String) throws(ZoneError) -> Spec.Mount {
        var result = ["nosuid", "nodev", "noexec"]
        for text in options {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            switch (parts[0], parts.count == 2 ? parts[1] : nil) {
            case ("size", let value?):
                guard let bytes = ByteSize.parse(value) ?? percentage(value), bytes > 0 else {
                    throw ZoneError(.invalid, "\(option): tmpfs size \"\(value)\" is not a size", hint: "such as 64M")
                }
                result.append("size=\(value.hasSuffix("%") ? value : String(bytes))")
            case ("mode", let value?):
                guard let mode = UInt32(value, radix: 8), mode <= 0o7777 else {
                    throw ZoneError(.invalid, "\(option): tmpfs mode \"\(value)\" is not octal", hint: "such as 1777")
                }
                result.append("mode=\(value)")
            case ("uid", let value?), ("gid", let value?), ("nr_inodes", let value?):
                guard UInt32(value) != nil else { throw ZoneError(.invalid, "\(option): \"\(text)\" is not a number") }
                result.append(text)
            case ("ro", nil), ("rw", nil), ("nosuid", nil), ("nodev", nil), ("noexec", nil), ("suid", nil),
                ("dev", nil),
                ("exec", nil), ("noatime", nil), ("strictatime", nil):
                result.append(text)
            default:
                throw ZoneError(
                    .invalid, "\(option): unknown tmpfs option \"\(text)\"",
                    hint: "there is size, mode, uid, gid, nr_inodes, ro, rw, exec, suid and dev")
            }
        }
        let destination = try ZoneDefinition.mountTarget(target, option)
        return Spec.Mount(destination: destination, type: "tmpfs", source: "tmpfs", options: result)
    }

    private static func percentage(_ text: String) -> Int64? {
        guard text.hasSuffix("%"), let number = Int64(text.dropLast()), (1...100).contains(number) else { return nil }
        return number
    }

    private static func bind(_ source: String, _ target: String, _ options: [String], _ option: String)
        throws(ZoneError) -> Spec.Mount
    {
        let path = try HostPath.existing(source, option)
        return Spec.Mount(
            destination: try ZoneDefinition.mountTarget(target, option), type: "bind", source: path, options: options)
    }
}
