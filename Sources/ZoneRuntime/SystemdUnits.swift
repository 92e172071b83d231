// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Zones that systemd starts with the host: their units among systemd's own files.
public struct SystemdUnits: Sendable {
    public static let defaultFolder = "/etc/systemd/system"

    let store: ZoneStore
    /// Where units of the administrator's are.
    let folder: String

    /// `folder`: nil for systemd's own, or `ZONECTL_SYSTEMD_DIR`.
    public init(_ folders: ZoneFolders, folder: String? = nil) throws(ZoneError) {
        let folder = folder ?? SystemdUnits.variable ?? SystemdUnits.defaultFolder
        guard folder.isAbsolutePath else {
            throw ZoneError(.invalid, "--systemd-dir \"\(folder)\" is not an absolute path")
        }
        self.init(ZoneStore(folders), folder: folder)
    }

    init(_ store: ZoneStore, folder: String? = nil) {
        self.store = store
        self.folder = folder ?? SystemdUnits.variable ?? SystemdUnits.defaultFolder
    }

    private static var variable: String? {
        guard let value = getenv("ZONECTL_SYSTEMD_DIR") else { return nil }
        let text = String(cString: value)
        return text.isAbsolutePath ? text : nil
    }

    /// Whether a manager is there that reads the folder.
    private var isLive: Bool { folder == SystemdUnits.defaultFolder && Systemd.isRunning }

    // MARK: What there is

    static let wants = "multi-user.target.wants"
    private static let generated = "/run/systemd/generator"

    /// Where systemd looks for units, first things first; systemd.unit(5).
    private var places: [String] {
        [
            folder, "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
        ]
    }

    private func fragment(_ zone: String) -> String { "\(folder)/\(SystemdUnit.name(of: zone))" }
    private func link(_ zone: String, in folder: String) -> String {
        "\(folder)/\(SystemdUnits.wants)/\(SystemdUnit.name(of: zone))"
    }
    private func dropInFolder(_ zone: String) -> String { "\(fragment(zone)).d" }
    private static let dropInName = "50-zonectl.conf"

    private var isDefault: Bool {
        store.folders.root == ZoneFolders.defaultRoot && store.folders.store == ZoneFolders.defaultStore
    }

    /// Whether systemd starts this zone with the host: by a unit of its own, or as an instance of the template, which means
    /// the zones of the default folders.
    public func isEnabled(_ zone: String) -> Bool {
        guard
            SystemdUnits.exists(link(zone, in: folder))
                || isLive && SystemdUnits.exists(link(zone, in: SystemdUnits.generated))
        else { return false }
        return isOurs(zone)
    }

    /// Whether a unit of this name is about our zone, and not about one of the same name in another store.
    private func isOurs(_ zone: String) -> Bool {
        guard let text = try? readHostFile(fragment(zone), limit: 1 << 20) else { return isDefault }
        let arguments = SystemdUnit(program: "", store.folders).arguments(zone)
        return String(decoding: text, as: UTF8.self).fields("\n").contains { line in
            line.after("ExecStart=").map { SystemdUnit.arguments(of: String($0)) } == arguments
        }
    }

    private static func exists(_ path: String) -> Bool { (try? FileStatus.of(path, followLinks: false)) != nil }

    /// The unit by which systemd starts the zone, where it does so now.
    func unitToStart(_ zone: String) -> String? {
        isLive && isEnabled(zone) ? SystemdUnit.name(of: zone) : nil
    }

    /// The unit that may start a zone that is stopped, be it any moment: the one that ran it last, or its own.
    func unitToStop(_ entry: ZoneStore.Entry) -> String? {
        if let unit = entry.record?.unit, entry.record?.bundle == nil, Systemd.isRunning { return unit }
        return unitToStart(entry.name)
    }

    /// The unit that runs a zone.
    static func unit(running record: ZoneRecord?) -> String? {
        guard let record, record.bundle == nil, let unit = record.unit, record.keeper.isAlive, Systemd.isRunning else {
            return nil
        }
        return unit
    }

    // MARK: Changes

    /// The definition of a zone that can have a unit.
    public func definition(_ name: String, for verb: String) throws(ZoneError) -> ZoneDefinition {
        let entry = try store.find(name)
        if entry.record?.bundle != nil {
            throw ZoneError(.unsupported, "\(verb): zone \(entry.name) is an engine's, which starts it itself")
        }
        guard let definition = try store.definition(of: entry.name) else {
            throw ZoneError(
                .wrongState, "\(verb): the making of zone \(entry.name) was interrupted",
                hint: "'zonectl rm -f \(entry.name)' removes what there is of it")
        }
        if definition.autoRemove {
            throw ZoneError(
                .invalid, "\(verb): zone \(entry.name) is removed when it ends (--rm): a unit could start it only once",
                hint: "make it without --rm")
        }
        return definition
    }

    /// Makes systemd start the zone with the host, and with `starts` at once. Returns the zone's name.
    public func enable(_ name: String, program: String, starts: Bool) throws(ZoneError) -> String {
        let definition = try definition(name, for: "enable")
        let zone = definition.name
        let unit = SystemdUnit(program: program, store.folders)
        if SystemdUnits.exists(fragment(zone)), !isOurs(zone) {
            throw ZoneError(
                .exists, "enable: \(fragment(zone)) is another zone's unit", hint: "rename one of the two zones")
        }
        if starts { try checkStart(zone) }
        var rollback = Rollback()
        let wasEnabled = isEnabled(zone)
        rollback.add { [self] in if !wasEnabled { try? self.removeFiles(zone) } }
        try write(unit, definition, in: folder)
        if isLive { try Systemd.reload() }
        // From here on the zone is enabled, whether or not it starts.
        rollback.commit()
        if starts, isLive { try start(SystemdUnit.name(of: zone), zone) }
        return zone
    }

    /// `enable --now` starts the zone once, as a service.
    private func checkStart(_ zone: String) throws(ZoneError) {
        if !isLive {
            throw ZoneError(
                .unsupported, "enable --now: systemd does not run here, or does not read \(folder)",
                hint: "without --now the unit is made for the next boot")
        }
        let entry = store.entry(zone)
        if case .stopped = entry.state { return }
        if SystemdUnits.unit(running: entry.record) != nil { return }
        throw ZoneError(
            .wrongState, "enable --now: zone \(zone) is \(entry.state.word), but not as a service",
            hint: "'zonectl stop \(zone)' first, or leave out --now: systemd starts it with the next boot")
    }

    /// Writes the unit, or the drop-in, and the link that makes systemd start it, below a folder of units.
    func write(_ unit: SystemdUnit, _ definition: ZoneDefinition, in folder: String) throws(ZoneError) {
        let zone = definition.name
        let name = SystemdUnit.name(of: zone)
        do throws(SystemError) {
            let units = try Descriptor.makePath(folder)
            let wants = try Descriptor.makePath("\(folder)/\(SystemdUnits.wants)")
            var target = "../\(name)"
            if let template = template(for: unit) {
                target = template
                try? units.remove(name)
                if let text = unit.dropIn(of: definition) {
                    let dropIns = try Descriptor.makePath("\(folder)/\(name).d")
                    try dropIns.replaceFile(SystemdUnits.dropInName, Array(text.utf8))
                } else {
                    try removeDropIn(zone)
                }
            } else {
                try units.replaceFile(name, Array(unit.text(of: definition).utf8))
                try removeDropIn(zone)
            }
            do throws(SystemError) { try wants.remove(name) } catch {
                if error.errno != .noEntry { throw error }
            }
            try wants.makeSymlink(name, to: target)
        } catch {
            throw ZoneError("write the unit of zone \(zone) into \(folder)", error)
        }
    }

    /// Follows a definition that has changed: the restart policy is systemd's business.
    func refresh(_ definition: ZoneDefinition) throws(ZoneError) {
        let zone = definition.name
        guard isEnabled(zone), SystemdUnits.exists(link(zone, in: folder)) else { return }
        let unit = SystemdUnit(program: "", store.folders)
        // A unit of the zone's own says what was true when it was made.
        let text = SystemdUnits.exists(fragment(zone)) ? unit.overrides(of: definition) : unit.dropIn(of: definition)
        do throws(SystemError) {
            if let text {
                try Descriptor.makePath(dropInFolder(zone)).replaceFile(SystemdUnits.dropInName, Array(text.utf8))
            } else {
                try removeDropIn(zone)
            }
        } catch {
            throw ZoneError("change the unit of zone \(zone)", error)
        }
        if isLive { try Systemd.reload() }
    }

    /// For a generator, systemd.generator(7): the unit of a zone that may not exist yet.
    public func generate(_ definition: ZoneDefinition, program: String) throws(ZoneError) {
        try write(SystemdUnit(program: program, store.folders), definition, in: folder)
    }

    /// The installed template, if it starts this very zonectl on the same folders.
    private func template(for unit: SystemdUnit) -> String? {
        guard isDefault else { return nil }
        for place in places {
            let path = "\(place)/\(SystemdUnit.templateName)"
            guard let bytes = try? readHostFile(path, limit: 1 << 20) else { continue }
            let start = "ExecStart=\(SystemdUnit.quoted(unit.program)) \(unit.arguments("%i"))"
            let isOurs = String(decoding: bytes, as: UTF8.self).fields("\n").contains(start)
            if !isOurs { return nil }
            return place == folder ? "../\(SystemdUnit.templateName)" : path
        }
        return nil
    }

    /// Takes the zone's unit away; a zone that is gone already may have one, too. With `stops` ends the zone first.
    /// Returns the zone's name.
    public func disable(_ name: String, stops: Bool) throws(ZoneError) -> String {
        var zone = name
        if !(ZoneName.isValid(name) && isEnabled(name)) { zone = try store.find(name).name }
        if stops, (try? store.find(zone, exactly: true)) != nil {
            try ZoneControl(store.folders).stop(zone, seconds: nil)
        }
        if SystemdUnits.exists(fragment(zone)) || SystemdUnits.exists(link(zone, in: folder)) {
            guard isOurs(zone) else {
                throw ZoneError(.exists, "disable: \(fragment(zone)) is the unit of another store's zone")
            }
        }
        try removeFiles(zone)
        if isLive { try Systemd.reload() }
        if isEnabled(zone) {
            throw ZoneError(
                .unsupported, "disable: zone \(zone) is started because of \(ZoneDefinition.folder)/\(zone).json",
                hint: "write \"boot\": false into that file, or remove it")
        }
        return zone
    }

    private func removeFiles(_ zone: String) throws(ZoneError) {
        do throws(SystemError) {
            try removeDropIn(zone)
            if let text = try? readHostFile(fragment(zone), limit: 1 << 20), text.starts(with: SystemdUnit.mark.utf8) {
                try remove(SystemdUnit.name(of: zone), in: folder)
            }
            // Last: as long as it is there the zone counts as enabled, and this can be done again.
            try remove(SystemdUnit.name(of: zone), in: "\(folder)/\(SystemdUnits.wants)")
        } catch {
            throw ZoneError("remove the unit of zone \(zone)", error)
        }
    }

    private func removeDropIn(_ zone: String) throws(SystemError) {
        try remove(SystemdUnits.dropInName, in: dropInFolder(zone))
        // Others' drop-ins stay.
        rmdir(dropInFolder(zone))
    }

    private func remove(_ name: String, in folder: String) throws(SystemError) {
        do throws(SystemError) { try Descriptor.open(folder, [.path, .directory]).remove(name) } catch {
            if error.errno != .noEntry { throw error }
        }
    }

    // MARK: Jobs

    func start(_ unit: String, _ zone: String) throws(ZoneError) {
        // One that failed too often before is wanted again now.
        try? Systemd.control(["reset-failed", unit], for: "")
        try Systemd.control(["start", unit], for: "start zone \(zone) by its unit", unit: unit)
    }

    static func stop(_ unit: String, _ zone: String, waits: Bool = true) throws(ZoneError) {
        try Systemd.control(
            ["stop"] + (waits ? [] : ["--no-block"]) + [unit], for: "stop zone \(zone) by its unit", unit: unit)
    }

    static func restart(_ unit: String, _ zone: String) throws(ZoneError) {
        try Systemd.control(["restart", unit], for: "restart zone \(zone) by its unit", unit: unit)
    }

    /// Refuses what would leave a unit behind that starts nothing.
    func refuse(_ verb: String, _ zone: String) throws(ZoneError) {
        guard isEnabled(zone) else { return }
        throw ZoneError(
            .wrongState, "\(verb): zone \(zone) is started with the host by \(SystemdUnit.name(of: zone))",
            hint: "'zonectl disable \(zone)' takes the unit away" + (verb == "rm" ? "; 'rm -f' does both" : ""))
    }
}
