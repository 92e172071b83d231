// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces

/// What a definition may say; each rule in one place for the command line and for files.
extension ZoneDefinition {
    /// Where the administrator's definitions are, NAME.json each.
    public static let folder = "/etc/zonectl/zones"

    /// Makes sure that a user is written as one.
    public static func validateUser(_ text: String) throws(ZoneError) {
        _ = try PlanBuilder.userRequest(text)
    }

    /// The full name of a capability given as `CAP_CHOWN`, `chown` or `CHOWN`; `nil` where there is none such.
    public static func capabilityName(_ text: String) -> String? {
        Capability.number(of: text).flatMap { Capability.name(of: $0) }
    }

    /// All names that ``capabilityName(_:)`` gives.
    public static var capabilityNames: [String] {
        (0..<64).filter { Capability.all >> UInt64($0) & 1 == 1 }.compactMap { Capability.name(of: $0) }
    }

    /// Where something may be mounted: an absolute path, but neither the root nor the kernel's file systems, which the
    /// zone's own tools and our masks rely on.
    public static func mountTarget(_ path: String, _ option: String) throws(ZoneError) -> String {
        let parts = path.pathComponents
        guard path.isAbsolutePath, !parts.isEmpty, !parts.contains(".."), !parts.contains(".") else {
            throw ZoneError(
                .invalid, "\(option): target \"\(path)\" is not an absolute path in the zone",
                hint: "it must begin with '/', be more than that, and hold no '..'")
        }
        if ["proc", "sys"].contains(parts[0]) {
            throw ZoneError(
                .invalid, "\(option): target \"\(path)\" is inside the zone's own /\(parts[0])",
                hint: "mount it elsewhere")
        }
        if parts == ["dev"] {
            throw ZoneError(
                .invalid, "\(option): target \"\(path)\" is the zone's own /dev",
                hint: "give single devices with --device, or mount below it")
        }
        return "/" + parts.joined(separator: "/")
    }

    /// Parameters that exist once per IPC namespace; everything else below kernel and fs is the host's.
    private static let ipcParameters: Set<String> = [
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced",
    ]

    /// Whether a parameter, as ``parameterParts(_:)``, belongs to the IPC namespace.
    static func isInterProcessParameter(_ parts: [String]) -> Bool {
        parts.count == 2 && ipcParameters.contains(parts.joined(separator: "."))
            || parts.count > 2 && parts[..<2] == ["fs", "mqueue"]
    }

    /// A parameter's folders and file as they are below /proc/sys: dots separate, unless slashes do.
    ///
    /// By bytes, as the kernel sees the path: to Swift a slash with a combining mark after it is another character.
    static func parameterParts(_ name: String) -> [String] {
        let separator = UInt8(ascii: name.utf8.contains(UInt8(ascii: "/")) ? "/" : ".")
        return name.utf8.split(separator: separator).compactMap { String($0) }
    }

    /// Makes sure that a kernel parameter is the zone's own and not the host's.
    public static func validateSysctl(_ name: String, network: Network) throws(ZoneError) {
        let parts = parameterParts(name)
        if parts.isEmpty || parts.contains("..") || parts.contains(".") || name.utf8.first == UInt8(ascii: "/") {
            throw ZoneError(.invalid, "--sysctl \"\(name)\" is not a parameter")
        }
        if isInterProcessParameter(parts) { return }
        if parts[0] == "net", parts.count > 1 {
            if network == .none { return }
            if network == .zone {
                throw ZoneError(
                    .invalid, "--sysctl \(name): with --network zone:NAME this would change the other zone",
                    hint: "set it there")
            }
            throw ZoneError(
                .invalid, "--sysctl \(name): with --network host this would change the host",
                hint: "set it on the host, or give the zone a network of its own")
        }
        throw ZoneError(
            .invalid, "--sysctl \(name): is not a parameter of the zone's own namespaces",
            hint: "net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* are; others would change the host")
    }
}
