// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl commit ZONE IMAGE`
enum CommitCommand {
    static let message = Option.value("message", "m", "TEXT", "A note for the image's history")
    static let author = Option.value("author", "a", "TEXT", "Who has made the image")

    static let command = Command(
        names: ["commit"], group: .keep, operands: "ZONE IMAGE", summary: "Make an image of what a zone has become",
        details: """
            The zone's changes become a layer upon its image, whose command and environment stay. What is mounted into the
            zone is not part of it. A zone that runs is frozen while it is read.
            """,
        examples: "zonectl commit -m 'with nginx' web web:v2", options: [message, author]
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 2 else {
            throw ZoneError(
                .invalid, "commit takes a zone and the name of an image to make", hint: "zonectl commit web web:v2")
        }
        let image = try ZoneCommit(context.folders).commit(
            arguments.operands[0], as: arguments.operands[1], comment: arguments.value(message),
            author: arguments.value(author))
        try Output.write("\(image.name) \(image.digest)\n")
        return 0
    }
}
