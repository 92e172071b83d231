// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl df`
enum UsageCommand {
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["df"], group: .look, operands: "",
        summary: "Show zones and volumes of a limited size, and what is left",
        details: """
            These are zones with --storage and volumes with --size. KIND is project for a quota of the host's file system, or
            image for a file system of their own in a file, which keeps some of its SIZE for itself. What images take is for
            'zonectl image df'.
            """,
        options: [json]
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let volumes = VolumeStore(context.folders)
        var uses: [StorageUse] = []
        var exitCode: Int32 = 0
        let look = { (body: () throws(ZoneError) -> StorageUse?) in
            do throws(ZoneError) { if let use = try body() { uses.append(use) } } catch {
                // What is removed meanwhile is not there.
                if error.code == .notFound { return }
                Output.report(error)
                exitCode = error.exitCode
            }
        }
        for zone in try context.store.names() {
            look { () throws(ZoneError) in try context.store.storageUse(of: zone) }
        }
        for volume in try volumes.list() {
            look { () throws(ZoneError) in try volumes.storageUse(of: volume.name) }
        }
        if arguments.flag(json) {
            try Output.json(uses)
        } else {
            try Output.table(
                ["TYPE", "NAME", "KIND", "SIZE", "USED", "AVAILABLE"],
                uses.map { use in
                    [use.type.rawValue, use.name, use.kind.rawValue]
                        + [use.size, use.used, use.available].map { ByteSize.text($0) }
                })
        }
        return exitCode
    }
}
