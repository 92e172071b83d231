// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// Parses the values of options. Each error names the option, what is wrong and what would be right.
enum OptionValue {
    // MARK: Limits

    static func limit(_ text: String) throws(ZoneError) -> Spec.ResourceLimit {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, ResourceLimits.shortNames.contains(parts[0]) else {
            throw ZoneError(
                .invalid, "--ulimit \"\(text)\" is not NAME=SOFT[:HARD]",
                hint: "names are \(ResourceLimits.shortNames.joined(separator: ", "))")
        }
        let values = parts[1].split(separator: ":", omittingEmptySubsequences: false).map { text in
            text == "-1" || text == "unlimited" ? UInt64.max : UInt64(text)
        }
        guard values.count <= 2, let soft = values.first ?? nil, let hard = values.last ?? nil else {
            throw ZoneError(.invalid, "--ulimit \"\(text)\": limits are numbers, or -1 for none")
        }
        guard soft <= hard else {
            throw ZoneError(.invalid, "--ulimit \"\(text)\": the soft limit is above the hard limit")
        }
        return Spec.ResourceLimit(type: "RLIMIT_\(parts[0].uppercased())", soft: soft, hard: hard)
    }

    // MARK: Identity

    static func user(_ text: String) throws(ZoneError) -> String {
        try ZoneDefinition.validateUser(text)
        return text
    }

    static func hostname(_ text: String) throws(ZoneError) -> String {
        let bytes = text.utf8
        let isFine = bytes.allSatisfy { byte in
            byte >= 0x30 && byte <= 0x39 || byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A || byte == 0x2D || byte == 0x2E
        }
        guard isFine, !bytes.isEmpty, bytes.count <= 64, bytes.first != 0x2D else {
            throw ZoneError(
                .invalid, "--hostname \"\(text)\" is not a host name", hint: "1 to 64 letters, digits, '-' and '.'")
        }
        return text
    }

    /// `none`, `host`, or names of networks.
    static func proc(_ text: String) throws(ZoneError) -> ProcView {
        guard let view = ProcView(rawValue: text) else {
            throw ZoneError(.invalid, "--proc \"\(text)\" is not a view of /proc", hint: "there is auto, zone and host")
        }
        return view
    }

    // MARK: Environment

    /// Entries of files first, then those of the command line. A name without a value takes the caller's, if set.
    static func environment(files: [String], entries: [String]) throws(ZoneError) -> [String] {
        var result: [String] = []
        for path in files {
            let bytes: [UInt8]
            do throws(SystemError) { bytes = try readHostFile(path, limit: 1 << 20) } catch {
                throw ZoneError("--env-file", error)
            }
            guard let text = String(validating: bytes, as: UTF8.self), !text.contains("\0") else {
                throw ZoneError(.invalid, "--env-file \(path) is not a UTF-8 text")
            }
            // By bytes: the two that end a line on Windows are one character to Swift.
            let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() {
                let entry = Substring(line.last == UInt8(ascii: "\r") ? line.dropLast() : line)
                let clean = String(entry.drop { $0 == " " || $0 == "\t" })
                if clean.isEmpty || clean.hasPrefix("#") { continue }
                if let value = try variable(clean, "--env-file \(path), line \(index + 1):") { result.append(value) }
            }
        }
        for entry in entries {
            if let value = try variable(entry, "--env") { result.append(value) }
        }
        return result
    }

    private static func variable(_ entry: String, _ place: String) throws(ZoneError) -> String? {
        // By bytes, as getenv(3) reads it: to Swift "=" and an accent that follows are one character, and not "=".
        let equals = UInt8(ascii: "=")
        let name = entry.utf8.prefix { $0 != equals }
        guard !name.isEmpty, !Substring(name).contains(where: \.isWhitespace) else {
            throw ZoneError(.invalid, "\(place) \"\(entry)\" is not an environment variable: NAME=VALUE or NAME")
        }
        if entry.utf8.contains(equals) { return entry }
        guard let value = getenv(entry) else { return nil }
        return "\(entry)=\(String(cString: value))"
    }

    // MARK: Rights

    static func capability(_ text: String, _ option: String) throws(ZoneError) -> String {
        if text.uppercased() == "ALL" { return "ALL" }
        guard let known = ZoneDefinition.capabilityName(text) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a capability",
                hint: "capabilities(7) lists them; ALL means every one")
        }
        return known
    }

    static func applySecurity(_ text: String, to definition: inout ZoneDefinition) throws(ZoneError) {
        let separator = text.firstIndex { $0 == "=" || $0 == ":" } ?? text.endIndex
        let name = text[..<separator]
        let value = separator == text.endIndex ? nil : String(text[text.index(after: separator)...])
        switch (name, value) {
        case ("seccomp", "unconfined"): definition.seccompProfile = "unconfined"
        case ("seccomp", let path?) where !path.isEmpty:
            definition.seccompProfile = try HostPath.existing(path, "--security-opt seccomp")
        case ("no-new-privileges", nil), ("no-new-privileges", "true"):
            (definition.allowsNewPrivileges, definition.forbidsNewPrivileges) = (false, true)
        case ("no-new-privileges", "false"):
            (definition.allowsNewPrivileges, definition.forbidsNewPrivileges) = (true, false)
        default:
            throw ZoneError(
                .invalid, "--security-opt \"\(text)\" is not known",
                hint: "there is seccomp=unconfined, seccomp=FILE, no-new-privileges and no-new-privileges=false")
        }
    }

    static func sysctl(_ text: String, network: ZoneDefinition.Network) throws(ZoneError) -> (String, String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, !parts[0].isEmpty else {
            throw ZoneError(.invalid, "--sysctl \"\(text)\" is not NAME=VALUE")
        }
        try ZoneDefinition.validateSysctl(parts[0], network: network)
        return (parts[0], parts[1])
    }

    static func device(_ text: String) throws(ZoneError) -> ZoneDefinition.DeviceRequest {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        var target = parts.count > 1 ? parts[1] : parts[0]
        var access = parts.count > 2 ? parts[2] : "rwm"
        // docker's short form: /dev/fuse:rw
        if parts.count == 2, !parts[1].isEmpty, parts[1].allSatisfy("rwm".contains) {
            (target, access) = (parts[0], parts[1])
        }
        guard parts.count <= 3, parts[0].isAbsolutePath, target.isAbsolutePath, !access.isEmpty,
            access.allSatisfy("rwm".contains)
        else {
            throw ZoneError(
                .invalid, "--device \"\(text)\" is not SOURCE[:TARGET[:rwm]]", hint: "such as /dev/fuse:/dev/fuse:rw")
        }
        _ = try HostPath.existing(parts[0], "--device")
        return ZoneDefinition.DeviceRequest(source: parts[0], target: target, access: access)
    }
}

/// Paths of the host's in options.
enum HostPath {
    /// Makes the path absolute and makes sure that something is there.
    static func existing(_ path: String, _ option: String) throws(ZoneError) -> String {
        var absolute = path
        if !path.isAbsolutePath {
            guard let directory = getcwd(nil, 0) else {
                throw ZoneError(.system, "\(option) \(path): the working directory is gone")
            }
            defer { free(directory) }
            absolute = "\(String(cString: directory))/\(path)"
        }
        do throws(SystemError) { _ = try FileStatus.of(absolute) } catch {
            let hint = error.errno == .noEntry ? "make it first, or give another path" : nil
            throw ZoneError(.invalid, "\(option): \(absolute): \(error.errno.message)", hint: hint)
        }
        return absolute
    }
}
