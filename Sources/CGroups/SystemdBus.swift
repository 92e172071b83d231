// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Calls to systemd's manager, org.freedesktop.systemd1(5), by the program `busctl` that comes with it.
struct SystemdBus: Sendable {
    /// Absolute path.
    let program: String
    /// The user whose own manager is asked; `nil`: the machine's.
    let user: UInt32?
    var milliseconds = 30_000

    /// `program` is another one than the machine's `busctl`, for tests.
    init(program: String?, user: UInt32?) throws(SystemError) {
        self.user = user
        do throws(SystemError) { self.program = try HostProgram.find(program ?? "busctl") } catch {
            throw SystemError("find systemd", "the program busctl is not installed", .notSupported)
        }
    }

    private static let destination = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
    private static let interface = "org.freedesktop.systemd1.Manager"

    /// Calls a method; arguments are those of busctl(1): a signature and values.
    func call(_ method: String, _ signature: String, _ values: [String]) throws(SystemError) {
        _ = try run(
            ["call"] + SystemdBus.destination + [SystemdBus.interface, method, signature] + values, method,
            values.first ?? "")
    }

    /// Returns a property of the manager that is a string.
    func text(_ property: String) throws(SystemError) -> String {
        let output = try run(
            ["get-property"] + SystemdBus.destination + [SystemdBus.interface, property], property, "")
        // s "/user.slice/user-1000.slice/user@1000.service"
        let parts = output.utf8.split(separator: UInt8(ascii: "\""), omittingEmptySubsequences: false)
        guard output.hasPrefix("s \""), parts.count == 3, let text = String(parts[1]) else {
            throw SystemError("ask systemd for", property, .invalid)
        }
        return text
    }

    private func run(_ words: [String], _ what: String, _ subject: String) throws(SystemError) -> String {
        // Everything after `--` is no option, not even `-.slice` or -1.
        let arguments = [user == nil ? "--system" : "--user", "--no-pager", "--"] + words
        var command = try HostProgram(program, arguments)
        command.milliseconds = milliseconds
        if let user {
            let folder = SystemdBus.variable("XDG_RUNTIME_DIR") ?? "/run/user/\(user)"
            command.environment.append("XDG_RUNTIME_DIR=\(folder)")
            if let address = SystemdBus.variable("DBUS_SESSION_BUS_ADDRESS") {
                command.environment.append("DBUS_SESSION_BUS_ADDRESS=\(address)")
            }
        }
        let outcome = try command.run()
        if outcome.status == .exited(0) { return String(decoding: outcome.output, as: UTF8.self) }
        let place = subject.isEmpty ? what : "\(what) \(subject)"
        let reason = outcome.reason.isEmpty ? "busctl ended with \(outcome.status.shellCode)" : outcome.reason
        throw SystemError("ask systemd for", "\(place): \(reason)", SystemdBus.errno(of: reason))
    }

    /// busctl has one exit code for all; its sentences are in English as LC_ALL is C.
    private static func errno(of reason: String) -> Errno {
        let has = { (part: String) in reason.holds(part) }
        if has("already exists") || has("already loaded") || has("fragment file") { return .exists }
        if has("not loaded") || has("not found") { return .noEntry }
        if has("Access denied") || has("authentication required") || has("Permission denied") { return .accessDenied }
        // Nothing at the other end, or a bus without systemd on it.
        if has("not provided by any") || has("Process org.freedesktop.systemd1") { return .notSupported }
        if has("connect to bus") || has("No such file") || has("has not been booted") { return .notSupported }
        if has("nvalid") || has("Cannot set property") || has("Unknown") { return .invalid }
        return .ioError
    }

    private static func variable(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
