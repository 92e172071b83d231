// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl image prune`
enum ImagePruneCommand {
    static let all = Option.flag(
        "all", "a", "Remove all images that no zone is made from, not only those without a name")
    static let force = Option.flag("force", "f", "For scripts made for docker: nothing is asked here")

    static let command = Command(
        names: ["image prune"], group: .images, operands: "", summary: "Remove images that nobody needs",
        details: """
            These are images without a name, whose name another one has got, and what pulls have left that were killed.
            An image that a zone is made from stays, also when the zone is just being made.
            """,
        options: [all, force]
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let pruned = try ImageRemoval(context.folders).prune(all: arguments.flag(all))
        try Output.write(pruned.names.map { $0 + "\n" }.joined() + "freed: \(ByteSize.text(pruned.bytes))\n")
        return 0
    }
}
