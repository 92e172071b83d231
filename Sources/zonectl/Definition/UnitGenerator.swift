// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import ZoneRuntime

/// systemd.generator(7): makes the units of the zones in ``DefinitionFolder``. systemd runs it early at each boot and reload,
/// by the name `zonectl-generator`; a file that cannot be read is reported and the others go on.
enum UnitGenerator {
    static func isCalled(by program: String) -> Bool {
        program == "zonectl-generator" || program.hasSuffix("/zonectl-generator")
    }

    /// `words`: the folders for units of normal, early and late priority.
    static func run(_ words: [String]) -> Int32 {
        guard let folder = words.first, folder.isAbsolutePath else {
            Output.report("zonectl-generator is called by systemd, with the folders for units")
            return 1
        }
        do throws(ZoneError) {
            let units = try SystemdUnits(
                ZoneFolders(root: ZoneFolders.defaultRoot, store: ZoneFolders.defaultStore), folder: folder)
            let program = try UnitCommand.program()
            for file in try files() {
                do throws(ZoneError) {
                    let name = String(file.dropLast(5))
                    let zones = try DefinitionFile("\(DefinitionFolder.path)/\(file)").zones(
                        named: name, looksAtHost: false)
                    if let zone = zones.first, zone.startsWithHost {
                        try units.generate(zone.definition, program: program)
                    }
                } catch {
                    report(error)
                }
            }
        } catch {
            report(error)
        }
        // A boot goes on without a zone.
        return 0
    }

    private static func files() throws(ZoneError) -> [String] {
        do throws(SystemError) {
            return try Descriptor.open(DefinitionFolder.path, [.readOnly, .directory]).entries()
                .filter { $0.hasSuffix(".json") && !$0.hasPrefix(".") }.sorted()
        } catch {
            if error.errno == .noEntry { return [] }
            throw ZoneError("read definitions", error)
        }
    }

    private static func report(_ error: ZoneError) {
        Output.report(error)
        // The journal is not there yet: systemd (from 251 on tells that it is it) wants messages in the kernel's log.
        guard getenv("SYSTEMD_SCOPE") != nil, let log = try? Descriptor.open("/dev/kmsg", [.writeOnly]) else { return }
        try? log.writeOnce("<3>zonectl-generator: \(Output.printable(error.detail))\n", "/dev/kmsg")
    }
}
