// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Parses `--volume`, `--mount` and `--tmpfs`.
enum MountValue {
    /// `SOURCE:TARGET[:OPTIONS]`, or `TARGET` alone for a volume of the zone's own. A source that is no path is a volume.
    static func volume(_ text: String) throws(ZoneError) -> Spec.Mount {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        if parts.count == 1, text.isAbsolutePath { return try named(nil, text, [], "--volume") }
        guard (2...3).contains(parts.count), !parts[0].isEmpty, !parts[1].isEmpty else {
            throw ZoneError(
                .invalid, "--volume \"\(text)\" is not SOURCE:TARGET[:OPTIONS]",
                hint: "such as /srv/data:/data:ro, or data:/data with a volume")
        }
        let words = parts.count == 3 ? parts[2].split(separator: ",").map(String.init) : []
        guard isPath(parts[0]) else {
            // Labels for SELinux: see below.
            return try named(parts[0], parts[1], words.filter { $0 != "z" && $0 != "Z" }, "--volume")
        }
        var options = ["rbind"]
        var map: String?
        for option in words {
            switch option {
            case "rw", "nosuid", "nodev", "noexec", "suid", "dev", "exec", "rbind", "bind", "private", "rprivate",
                "slave", "rslave", "shared", "rshared":
                options.append(option)
            // People mean the folder with all that is mounted in it, as docker does.
            case "ro": options.append("rro")
            // Labels for SELinux, which docker's users write out of habit: there is nothing to label without it.
            case "z", "Z": break
            case _ where option.hasPrefix("idmap="): map = option.after("idmap=")
            default:
                throw ZoneError(
                    .invalid, "--volume \"\(text)\": unknown option \"\(option)\"",
                    hint:
                        "there is ro, rw, nosuid, nodev, noexec, suid, dev, exec, and how mounts spread: "
                        + "private, slave, shared, each also with an r before it, and idmap=uids=…;gids=…")
            }
        }
        for (one, other) in [("rro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec")]
        where options.contains(one) && options.contains(other) {
            throw ZoneError(
                .invalid, "--volume \"\(text)\": \(one == "rro" ? "ro" : one) and \(other) contradict each other")
        }
        var mount = try bind(parts[0], parts[1], options, "--volume")
        if let map { try IDMapValue.apply(map, to: &mount, "--volume") }
        return mount
    }

    private static func isPath(_ source: String) -> Bool { source.isAbsolutePath || source.hasPrefix(".") }

    /// A volume; of the zone's own without a name.
    private static func named(
        _ name: String?, _ target: String, _ words: [String], _ option: String
    ) throws(ZoneError) -> Spec.Mount {
        if let name, !ZoneName.isValid(name) {
            throw ZoneError(
                .invalid, "\(option) \"\(name)\" is neither a path nor a name for a volume",
                hint: name.contains("/")
                    ? "a path begins with / or ./"
                    : "a name is of 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
        }
        let shown = name ?? target
        let maps = words.filter { $0.hasPrefix("idmap=") }
        let options = words.filter { !$0.hasPrefix("idmap=") }
        // What was made for a zone alone is not for the command line to say.
        let known = VolumeOption.all.filter { $0 != VolumeOption.anonymous }
        if let unknown = options.first(where: { !known.contains($0) }) {
            throw ZoneError(
                .invalid, "\(option) \"\(shown)\": unknown option \"\(unknown)\" of a volume",
                hint: "there is \(known.joined(separator: ", ")) and idmap=uids=…;gids=…")
        }
        for (one, other) in [("ro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec")]
        where options.contains(one) && options.contains(other) {
            throw ZoneError(.invalid, "\(option) \"\(shown)\": \(one) and \(other) contradict each other")
        }
        var mount = Spec.Mount(
            destination: try ZoneDefinition.mountTarget(target, option), type: Spec.Mount.volumeType, source: name,
            options: options)
        if let map = maps.last?.after("idmap=") { try IDMapValue.apply(map, to: &mount, option) }
        return mount
    }

    /// `type=bind,src=…,dst=…,readonly`, `type=volume,src=NAME,dst=…,volume-nocopy` or
    /// `type=tmpfs,dst=…,tmpfs-size=…,tmpfs-mode=…`
    static func mount(_ text: String) throws(ZoneError) -> Spec.Mount {
        var type: String?
        var map: String?
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
            case ("idmap", let value?): map = value
            case ("volume-nocopy", nil), ("volume-nocopy", "true"): options.append(VolumeOption.noCopy)
            case ("volume-nocopy", "false"): break
            case ("tmpfs-size", let value?): tmpfsOptions.append("size=\(value)")
            case ("tmpfs-mode", let value?): tmpfsOptions.append("mode=\(value)")
            case ("bind-propagation", let kind?)
            where ["private", "rprivate", "slave", "rslave", "shared", "rshared"].contains(kind):
                options.append(kind)
            default: throw ZoneError(.invalid, "--mount \"\(text)\": \"\(field)\" is not understood", hint: hint)
            }
        }
        guard let target else { throw ZoneError(.invalid, "--mount \"\(text)\": dst= is missing", hint: hint) }
        // Without a type a volume is meant, as docker has it; but a path cannot be one's name.
        switch type ?? (source.map(isPath) == true ? "bind" : Spec.Mount.volumeType) {
        case "bind":
            guard let source, !source.isEmpty, tmpfsOptions.isEmpty, !options.contains(VolumeOption.noCopy) else {
                throw ZoneError(
                    .invalid,
                    "--mount \"\(text)\": a bind mount needs src= and takes no options of volumes and tmpfs", hint: hint
                )
            }
            // As for --volume: all that is mounted in it.
            var mount = try bind(source, target, ["rbind"] + options.map { $0 == "ro" ? "rro" : $0 }, "--mount")
            if let map { try IDMapValue.apply(map, to: &mount, "--mount") }
            return mount
        case Spec.Mount.volumeType:
            guard source?.isEmpty != true, tmpfsOptions.isEmpty else {
                throw ZoneError(
                    .invalid, "--mount \"\(text)\": a volume takes a name or none, and no tmpfs options", hint: hint)
            }
            return try named(source, target, options + (map.map { ["idmap=\($0)"] } ?? []), "--mount")
        case "tmpfs":
            guard source == nil, map == nil, !options.contains(VolumeOption.noCopy) else {
                throw ZoneError(
                    .invalid, "--mount \"\(text)\": a tmpfs has no src=, no idmap and no options of volumes", hint: hint
                )
            }
            return try tmpfs(target, options + tmpfsOptions, "--mount")
        case let other: throw ZoneError(.invalid, "--mount \"\(text)\": type \"\(other)\" is not known", hint: hint)
        }
    }

    private static let hint =
        "such as type=bind,src=/srv,dst=/srv,readonly, type=volume,src=data,dst=/data or "
        + "type=tmpfs,dst=/tmp,tmpfs-size=64M"

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
