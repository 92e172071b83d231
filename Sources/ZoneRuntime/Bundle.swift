// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// An OCI bundle: a folder with `config.json`, and the root file system that it names (bundle.md).
struct Bundle {
    /// Absolute.
    let path: String
    /// Absolute.
    let rootfs: String
    let spec: Spec
    /// `config.json` as it was read.
    let configuration: [UInt8]

    /// More than this is no configuration but an attack on our memory: as values it takes up to forty times as much.
    private static let limit = 4 << 20

    /// Reads and checks the bundle.
    init(_ folder: String) throws(ZoneError) {
        path = try Bundle.absolute(folder.isEmpty ? "." : folder, "bundle")
        let file = "\(path)/config.json"
        do throws(SystemError) { configuration = try readRegularFile(file, limit: Bundle.limit) } catch {
            let hint = error.errno == .noEntry ? "'zonectl spec' writes a first one" : ZoneError.hint(for: error.errno)
            throw ZoneError(.invalid, "bundle \(path): \(error)", hint: hint)
        }
        do throws(JSONError) { spec = try Spec(parsing: configuration) } catch {
            throw ZoneError(file: file, error)
        }
        do throws(ZoneError) { try SpecRules.check(spec) } catch { throw error.inside(file) }
        guard let root = spec.root else { throw ZoneError(.invalid, "\(file): root: is missing") }
        rootfs = try Bundle.absolute(
            root.path.isAbsolutePath ? root.path : "\(path)/\(root.path)", "\(file): root.path")
        let status = try attempting("\(file): root.path") { () throws(SystemError) in try FileStatus.of(rootfs) }
        guard status.kind == .directory else {
            throw ZoneError(.invalid, "\(file): root.path: \(rootfs) is not a directory")
        }
    }

    /// The path without links, `.` and `..`.
    private static func absolute(_ path: String, _ what: String) throws(ZoneError) -> String {
        guard let resolved = realpath(path, nil) else {
            throw ZoneError(what, SystemError("open", path, Errno(rawValue: errno)))
        }
        defer { free(resolved) }
        guard let text = String(validatingCString: resolved) else {
            throw ZoneError(.invalid, "\(what): \(path) is not valid UTF-8 once links are followed")
        }
        return text
    }
}

/// What the specification demands of a configuration beyond its form (config.md, config-linux.md).
enum SpecRules {
    static func check(_ spec: Spec) throws(ZoneError) {
        try checkVersion(spec.ociVersion)
        guard let linux = spec.linux else {
            throw ZoneError(.invalid, "linux: is missing: this runtime makes Linux containers only")
        }
        if let process = spec.process { try check(process) }
        if linux.intelRdt != nil {
            throw ZoneError(
                .unsupported, "linux.intelRdt: cache and memory bandwidth allocation (resctrl) is not supported",
                hint: "leave it out, and limit CPUs with linux.resources.cpu")
        }
        let types = linux.namespaces.map(\.type)
        if spec.hostname != nil, !types.contains(.uts) {
            throw ZoneError(.invalid, "hostname: would be the host's: linux.namespaces has no uts namespace")
        }
        if spec.domainname != nil, !types.contains(.uts) {
            throw ZoneError(.invalid, "domainname: would be the host's: linux.namespaces has no uts namespace")
        }
        guard spec.annotations[""] == nil else { throw ZoneError(.invalid, "annotations: one has no name") }
        if let path = spec.root?.path, path.isEmpty { throw ZoneError(.invalid, "root.path: is empty") }
        for (name, paths) in [("maskedPaths", linux.maskedPaths), ("readonlyPaths", linux.readonlyPaths)] {
            for path in paths where !path.isAbsolutePath {
                throw ZoneError(.invalid, "linux.\(name): \"\(path)\" is not an absolute path")
            }
        }
        for name in linux.sysctl.keys.sorted() { try checkSysctl(name, linux) }
        if let hooks = spec.hooks { try check(hooks) }
    }

    static func check(_ process: Spec.Process) throws(ZoneError) {
        guard process.cwd.isAbsolutePath else {
            throw ZoneError(.invalid, "process.cwd: \"\(process.cwd)\" is not an absolute path")
        }
        guard let first = process.args.first else { throw ZoneError(.invalid, "process.args: is empty") }
        // Engines tell "not found" from other errors by these words.
        guard !first.isEmpty else {
            throw ZoneError(.invalid, "process.args[0]: is empty: exec: \"\": executable file not found in $PATH")
        }
        // To the kernel that number means "no change": CVE-2026-30892.
        let ids = [("uid", process.user.uid), ("gid", process.user.gid)]
        for (name, id) in ids + process.user.additionalGids.map({ ("additionalGids", $0) }) where id == .max {
            throw ZoneError(.invalid, "process.user.\(name): 4294967295 is no id")
        }
    }

    /// Any version 1 may be asked for: what it does not know it does not say (config.md "Specification version").
    private static func checkVersion(_ text: String) throws(ZoneError) {
        // What follows a - or a + says which build it is.
        let (major, following) = text.halves("+").0.halves("-").0.halves(".")
        let (minor, patch) = (following ?? "").halves(".")
        guard [major, minor, patch ?? ""].allSatisfy({ UInt32($0) != nil }) else {
            throw ZoneError(.invalid, "ociVersion: \"\(text)\" is not a version such as \(Spec.version)")
        }
        guard major == "1" else {
            throw ZoneError(
                .unsupported, "ociVersion: \(text) is not supported, versions from 1.0.0 to \(Spec.version) are")
        }
    }

    /// A parameter must belong to a namespace of the zone's own: others would change the host (config-linux.md "Sysctl").
    private static func checkSysctl(_ name: String, _ linux: Spec.Linux) throws(ZoneError) {
        let parts = ZoneDefinition.parameterParts(name)
        if parts.isEmpty || parts.contains("..") || parts.contains(".") || name.utf8.first == UInt8(ascii: "/") {
            throw ZoneError(.invalid, "linux.sysctl: \"\(name)\" is not a parameter")
        }
        let needed: Spec.Namespace.Kind
        if parts[0] == "net", parts.count > 1 {
            needed = .network
        } else if ZoneDefinition.isInterProcessParameter(parts) {
            needed = .ipc
        } else if parts == ["kernel", "domainname"] || parts == ["kernel", "hostname"] {
            needed = .uts
        } else if parts[0] == "user", parts.count > 1 {
            needed = .user
        } else {
            throw ZoneError(
                .invalid,
                "linux.sysctl: \(name) is not a parameter of the zone's own namespaces: it would change the host")
        }
        guard linux.namespaces.contains(where: { $0.type == needed }) else {
            throw ZoneError(
                .invalid,
                "linux.sysctl: \(name) would change the host: linux.namespaces has no \(needed.rawValue) namespace")
        }
    }

    private static func check(_ hooks: Spec.Hooks) throws(ZoneError) {
        let kinds = [
            ("prestart", hooks.prestart), ("createRuntime", hooks.createRuntime),
            ("createContainer", hooks.createContainer), ("startContainer", hooks.startContainer),
            ("poststart", hooks.poststart), ("poststop", hooks.poststop),
        ]
        for (name, list) in kinds {
            for (index, hook) in list.enumerated() {
                guard hook.path.isAbsolutePath else {
                    throw ZoneError(.invalid, "hooks.\(name)[\(index)].path: \"\(hook.path)\" is not an absolute path")
                }
                guard hook.timeout.map({ $0 > 0 && $0 <= 1 << 31 }) ?? true else {
                    throw ZoneError(.invalid, "hooks.\(name)[\(index)].timeout: is not a number of seconds above 0")
                }
            }
        }
    }
}
