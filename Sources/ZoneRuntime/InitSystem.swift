// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// An init that boots a zone as a small machine.
public enum InitSystem: String, JSONCodable, CaseIterable, Sendable {
    case systemd, busybox, openrc
    /// sysvinit, or one that we do not know.
    case other

    /// Asks it to shut the machine down.
    var stopSignal: Int32 {
        switch self {
        // systemd(1), "Signals": power off. 34 is SIGRTMIN as all programs see it.
        case .systemd: 34 + 3
        // busybox's init/init.c: USR2 powers off, USR1 halts, TERM reboots.
        case .busybox: SIGUSR2
        // openrc-init.c: TERM shuts down, INT reboots.
        case .openrc: SIGTERM
        // What the kernel sends for Ctrl-Alt-Del, reboot(2): every init shuts down on it, to boot again, and does not get to
        // that because somebody has stopped the zone.
        case .other: SIGINT
        }
    }

    /// Signals by which people end a program. An init takes them for something else: busybox's boots again on SIGTERM.
    static let endSignals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM]

    /// Seconds that it has for that, unless told otherwise: services have their own times to stop.
    static let stopTimeout = 30

    /// The exit status of a machine that was to boot again, where nobody can start it: systemd-nspawn's.
    static let rebootStatus: Int32 = 133

    /// Whether its first process ended because it wanted to boot again. In a pid namespace of its own reboot(2) ends the
    /// first process by SIGHUP for that, and by SIGINT for power off, which nobody inside could send it.
    static func isReboot(_ status: Int32?) -> Bool { status == 128 + SIGHUP }

    /// The exit status of a machine, as a shell shows it: one that was switched off in order has succeeded.
    static func exitStatus(_ status: Int32?) -> Int32? {
        status == 128 + SIGINT || isReboot(status) ? 0 : status
    }

    // MARK: Finding out

    private static let names = ["init", "systemd", "openrc-init"]
    /// Where systems have their init; elsewhere it is a program that happens to be called so.
    private static let folders = [
        "/sbin", "/usr/sbin", "/usr/local/sbin", "/bin", "/usr/bin", "/lib/systemd", "/usr/lib/systemd",
    ]

    /// Whether a program's name could be an init's, so that a closer look is worth its time.
    static func isCandidate(_ arguments: [String]) -> Bool {
        guard let name = arguments.first?.pathComponents.last else { return false }
        return names.contains(name) || isBusyBox(name) && arguments.dropFirst().first == "init"
    }

    private static func isBusyBox(_ name: String) -> Bool { name == "busybox" || name == "busybox.static" }

    /// The init that a command is; `resolve` follows links in the image.
    static func detect(_ arguments: [String], resolve: (String) -> String?) -> InitSystem? {
        guard isCandidate(arguments), let program = arguments.first, let name = program.pathComponents.last else {
            return nil
        }
        if isBusyBox(name) { return .busybox }
        let folder = String(decoding: program.utf8.dropLast(name.utf8.count + 1), as: UTF8.self)
        guard program == name || folders.contains(folder) else { return nil }
        for place in program == name ? folders.map({ "\($0)/\(name)" }) : [program] {
            if let file = resolve(place) { return InitSystem(file: file.pathComponents.last ?? "") }
        }
        return nil
    }

    private init(file: String) {
        if file.hasPrefix("systemd") {
            self = .systemd
        } else if InitSystem.isBusyBox(file) {
            self = .busybox
        } else {
            self = file == "openrc-init" ? .openrc : .other
        }
    }
}

/// Whether a zone boots as a machine; podman's words.
public enum SystemMode: String, JSONCodable, CaseIterable, Sendable {
    /// When its command is an init.
    case auto = "true"
    case never = "false"
    case always

    public var isOmitted: Bool { self == .auto }
}
