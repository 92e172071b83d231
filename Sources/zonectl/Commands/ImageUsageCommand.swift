// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl image df`
enum ImageUsageCommand {
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["image df"], group: .images, operands: "", summary: "Show what images take of the disk",
        details: """
            ACTIVE are those that zones are made from. RECLAIMABLE is what 'zonectl image prune --all' frees: images as they
            came, the layers unpacked from them, and what killed pulls have left.
            """,
        options: [json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let usage = try ImageRemoval(context.folders).usage()
        if arguments.flag(json) {
            try Output.json(usage)
            return 0
        }
        try Output.table(
            ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"],
            usage.map { row in
                let text = ByteSize.text(row.reclaimable)
                return ["\(row.type)", "\(row.total)", "\(row.active)", ByteSize.text(row.bytes), text]
            })
        return 0
    }
}
