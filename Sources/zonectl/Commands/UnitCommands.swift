// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl unit NAME…`
enum UnitCommand {
    static let template = Option.flag("template", nil, "Print zone@.service, the unit of all zones")

    static let command = Command(
        names: ["unit"], group: .boot, operands: "NAME…", summary: "Print the systemd unit of zones",
        details: """
            'zonectl enable' puts it where systemd finds it. Limits and dependencies go into drop-ins of yours, which hold for
            the zone, too: systemctl edit zone@NAME.service
            """,
        options: [template], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let unit = SystemdUnit(program: try program(), context.folders)
        if arguments.flag(template) {
            guard arguments.operands.isEmpty else {
                throw ZoneError(.invalid, "unit --template is about all zones and takes no name")
            }
            try Output.write(unit.template())
            return 0
        }
        let units = try SystemdUnits(context.folders)
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(unit.text(of: try units.definition(name, for: "unit")))
        }.exitCode
    }

    /// Where this very zonectl is.
    static func program() throws(ZoneError) -> String {
        do throws(SystemError) {
            let path = try Descriptor.open("/proc/self", [.path, .directory]).readLink("exe")
            _ = try FileStatus.of(path)
            return path
        } catch {
            throw ZoneError("find the path of zonectl, which a unit needs", error)
        }
    }
}

/// `zonectl enable NAME…` and `zonectl disable NAME…`
enum EnableCommand {
    static let starts = Option.flag("now", nil, "Also start them")
    static let stops = Option.flag("now", nil, "Also stop them")
    static let folder = Option.value(
        "systemd-dir", nil, "DIR",
        "Folder of units, as of an image that is being built (default \(SystemdUnits.defaultFolder))")

    static let enable = Command(
        names: ["enable"], group: .boot, operands: "NAME…", summary: "Let systemd start zones with the host",
        details: """
            The unit is zone@NAME.service; its Restart= is the zone's restart policy. 'zonectl start', 'stop' and 'restart' of
            such a zone are systemd's from then on, and its log is in the journal, too.
            """,
        options: [starts, folder]
    ) { (arguments, context) throws(ZoneError) in
        let units = try units(arguments, context)
        let program = try UnitCommand.program()
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(try units.enable(name, program: program, starts: arguments.flag(starts)) + "\n")
        }.exitCode
    }

    static let disable = Command(
        names: ["disable"], group: .boot, operands: "NAME…", summary: "Let systemd no longer start zones with the host",
        options: [stops, folder]
    ) { (arguments, context) throws(ZoneError) in
        let units = try units(arguments, context)
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(try units.disable(name, stops: arguments.flag(stops)) + "\n")
        }.exitCode
    }

    private static func units(_ arguments: Arguments, _ context: Context) throws(ZoneError) -> SystemdUnits {
        if Rootless.isInside {
            throw ZoneError(
                .unsupported, "units of ordinary users are not installed by zonectl",
                hint: "zonectl unit NAME >~/.config/systemd/user/NAME.service; systemctl --user enable NAME")
        }
        return try SystemdUnits(context.folders, folder: arguments.value(folder))
    }
}
