// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// The text of the systemd unit that keeps a zone, systemd.service(5). Nothing in it is a container's alone: a zone of
/// another type is started by the same words.
public struct SystemdUnit: Sendable {
    /// Absolute path of zonectl.
    let program: String
    let folders: ZoneFolders

    public init(program: String, _ folders: ZoneFolders) {
        self.program = program
        self.folders = folders
    }

    /// `zone@NAME.service`. Names of zones hold nothing that a unit's name would have to escape.
    public static func name(of zone: String) -> String { "zone@\(zone).service" }

    public static let templateName = "zone@.service"

    /// The unit of one zone.
    public func text(of definition: ZoneDefinition) -> String {
        SystemdUnit.mark + "\n" + text(zone: SystemdUnit.escaped(definition.name), RestartRules(definition.restart))
    }

    /// The unit of any zone; ``dropIn(of:)`` has what the zones' definitions change in it.
    public func template() -> String {
        "# Keeps the zone that it is an instance for, such as zone@web.service.\n"
            + text(zone: "%i", RestartRules(.never))
    }

    /// What differs from the template; nil where nothing does.
    public func dropIn(of definition: ZoneDefinition) -> String? {
        RestartRules(definition.restart) == RestartRules(.never) ? nil : overrides(of: definition)
    }

    /// All that may differ between two zones, or two definitions of one.
    func overrides(of definition: ZoneDefinition) -> String {
        let rules = RestartRules(definition.restart)
        return "\(SystemdUnit.mark)\n[Unit]\n\(rules.unit)\n[Service]\nRestart=\(rules.restart)\n"
    }

    /// The first line of files that ``SystemdUnits`` makes and may remove.
    static let mark = "# Made by zonectl, which replaces and removes it; changes belong into a drop-in of your own."

    private func text(zone: String, _ rules: RestartRules) -> String {
        """
        [Unit]
        Description=Zone \(zone)
        Documentation=man:zonectl(1)
        After=network.target local-fs.target
        RequiresMountsFor=\(SystemdUnit.quoted(folders.store))
        \(rules.unit)
        [Service]
        Type=notify
        NotifyAccess=main
        ExecStart=\(SystemdUnit.quoted(program)) \(arguments(zone))
        Restart=\(rules.restart)
        RestartSec=2
        # The zone is gone, or was stopped by zonectl itself.
        RestartPreventExitStatus=\(KeeperService.staysStopped)
        # The keeper asks the zone to end, and tells systemd how long that may take.
        KillMode=mixed
        TimeoutStartSec=10min
        TimeoutStopSec=30
        # The zone's control group is made below the unit's: limits of both hold.
        Delegate=yes
        TasksMax=infinity
        OOMPolicy=continue
        Slice=machine.slice
        SyslogIdentifier=zone-\(zone)
        [Install]
        WantedBy=multi-user.target

        """
    }

    /// zonectl's words; `zone` as it is written in a unit.
    func arguments(_ zone: String) -> String {
        var words: [String] = []
        if folders.root != ZoneFolders.defaultRoot { words += ["--root", SystemdUnit.argument(folders.root)] }
        if folders.store != ZoneFolders.defaultStore { words += ["--store", SystemdUnit.argument(folders.store)] }
        return (words + ["start", "--foreground", zone]).joined(separator: " ")
    }

    /// What follows the program in the value of an ExecStart= that ``text(of:)`` has written.
    static func arguments(of command: String) -> String {
        var rest = command.utf8[...]
        var isQuoted = false
        while let byte = rest.first {
            rest.removeFirst()
            switch byte {
            case UInt8(ascii: "\\") where isQuoted: rest = rest.dropFirst()
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: " ") where !isQuoted: return String(Substring(rest))
            default: break
            }
        }
        return ""
    }

    // MARK: Quoting, systemd.syntax(7)

    /// A text where specifiers such as `%i` are replaced.
    static func escaped(_ text: String) -> String { replacing(text) { $0 == "%" ? "%%" : nil } }

    /// A path where words are split and specifiers replaced.
    static func quoted(_ text: String) -> String {
        let plain = text.unicodeScalars.allSatisfy { scalar in
            scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
                || "/-_.:@+,".unicodeScalars.contains(scalar)
        }
        if plain { return text }
        let inside = replacing(text) { scalar in
            switch scalar {
            case "%": "%%"
            case "\"", "\\": "\\\(scalar)"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: "\\x" + hexadecimal(scalar.value)
            default: nil
            }
        }
        return "\"\(inside)\""
    }

    /// A word of ExecStart= behind the program, where variables are replaced as well.
    static func argument(_ text: String) -> String { replacing(quoted(text)) { $0 == "$" ? "$$" : nil } }

    private static func replacing(_ text: String, _ change: (Unicode.Scalar) -> String?) -> String {
        var result = ""
        for scalar in text.unicodeScalars { result += change(scalar) ?? String(scalar) }
        return result
    }

    private static func hexadecimal(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return digits.utf8.count == 1 ? "0" + digits : digits
    }
}

/// A restart policy in systemd's words.
private struct RestartRules: Equatable {
    let restart: String
    /// Lines of the section Unit. A limit counts starts, of which the first is no restart.
    let unit: String

    init(_ policy: RestartPolicy) {
        switch policy.kind {
        case .no: restart = "no"
        case .onFailure: restart = "on-failure"
        case .always, .unlessStopped: restart = "always"
        }
        // Without attempts told the zone is started again as long as it takes, every two seconds.
        unit =
            policy.attempts.map { "StartLimitIntervalSec=1h\nStartLimitBurst=\($0 + 1)" } ?? "StartLimitIntervalSec=0"
    }
}
