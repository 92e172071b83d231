// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// Options about zones that boot as machines, and who logs in there.
enum SystemOptions {
    static let systemd = Option.value(
        "systemd", nil, "true|false|always",
        "Boot as a machine, with any init: if the command is one (true, the default), never, or always")
    static let maxUsers = Option.value(
        "max-users", nil, "NUMBER", "How many may be logged in at once ('zonectl shell', and logins that use PAM)")

    static let all = [systemd, maxUsers]

    static func apply(_ arguments: Arguments, to definition: inout ZoneDefinition) throws(ZoneError) {
        if let text = arguments.value(systemd) {
            guard let mode = SystemMode(rawValue: text) else {
                throw ZoneError(
                    .invalid, "--systemd \"\(text)\" is none of true, false and always",
                    hint: "true: if the command is an init such as /sbin/init; always: whatever it is called")
            }
            definition.systemMode = mode
        }
        if let text = arguments.value(maxUsers) {
            guard let number = Int64(text), (1...1_000_000).contains(number) else {
                throw ZoneError(
                    .invalid, "--max-users \"\(text)\" is not a number from 1 to 1000000",
                    hint: "without --max-users there is no limit")
            }
            definition.maxUsers = number
        }
    }
}
