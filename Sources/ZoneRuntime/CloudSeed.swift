// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// What cloud-init reads at a machine's first boot: a CD of the name `cidata` (its datasource NoCloud).
struct CloudSeed {
    let zone: String
    let uuid: String
    let userData: String
    let definition: ZoneDefinition

    init(zone: String, uuid: String, userData: String, _ definition: ZoneDefinition) {
        self.zone = zone
        self.uuid = uuid
        self.userData = userData
        self.definition = definition
    }

    private static let name = "seed.iso"

    /// Makes the CD in the zone's folder. Returns its path.
    func make(_ store: ZoneStore) throws(ZoneError) -> String {
        let place = store.folders.persistent(zone)
        let attempt = "make the cloud-init CD of machine \(zone)"
        var program: HostProgram
        do throws(SystemError) { program = try CloudSeed.program() } catch {
            throw ZoneError(
                .unsupported, "\(attempt): neither xorriso nor genisoimage is installed",
                hint: "install Debian's package xorriso")
        }
        try attempting(attempt) { () throws(SystemError) in
            let folder = try Descriptor.open(place, [.readOnly, .directory])
            try folder.removeTree("seed")
            try folder.ensureDirectory("seed", mode: 0o700)
            let seed = try folder.open("seed", [.readOnly, .directory, .noFollow], resolve: .beneath)
            let name = definition.hostname ?? zone
            try seed.replaceFile(
                "meta-data", Array("instance-id: \(uuid)\nlocal-hostname: \(name)\n".utf8), mode: 0o600)
            try seed.replaceFile("user-data", Array(userData.utf8), mode: 0o600)
            if (try? folder.status(CloudSeed.name)) != nil { try folder.remove(CloudSeed.name) }
            program.arguments += [
                "-quiet", "-o", "\(place)/\(CloudSeed.name)", "-V", "cidata", "-J", "-r", "\(place)/seed",
            ]
            let outcome = try program.run()
            guard outcome.status == .exited(0) else { throw SystemError(program.program, outcome.reason, .ioError) }
            try folder.removeTree("seed")
        }
        return "\(place)/\(CloudSeed.name)"
    }

    private static func program() throws(SystemError) -> HostProgram {
        do throws(SystemError) { return try HostProgram("genisoimage") } catch {
            guard error.errno == .noEntry else { throw error }
        }
        return try HostProgram("xorriso", ["-as", "mkisofs"])
    }
}
