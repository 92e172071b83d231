// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import OCI
import ZoneRuntime

/// `zonectl image update NAME…`
enum ImageUpdateCommand {
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["image update"], group: .images, operands: "NAME…",
        summary: "Fetch what the names of images mean in their registries now",
        details: """
            NAME is that of an image in the store. Zones stay on the image that they were made from until
            'zonectl restart --updated' moves them to the new one; 'zonectl image prune' removes the old one then.
            """,
        examples: """
            zonectl image update debian:12
            zonectl restart --updated
            """,
        options: [ImagePullCommand.quiet, json, PullOptions.platform] + PullOptions.access
    ) { (arguments, context) throws(ZoneError) in
        let request = try PullOptions.request(arguments)
        try ImageNames.require(arguments.operands, for: "image update")
        let updates = ImageUpdates(context.folders)
        let isJSON = arguments.flag(json)
        let found = try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            let progress = PullProgressLine(name, isQuiet: arguments.flag(ImagePullCommand.quiet))
            defer { progress.end() }
            let update = try updates.update(name, request, progress: progress.show)
            progress.end()
            if !isJSON { try Output.write(text(update)) }
            return update
        }
        if isJSON { try Output.json(found.results) }
        return found.exitCode
    }

    static func text(_ update: ImageUpdate) -> String {
        let first =
            update.isNew
            ? "\(update.name): updated from \(RestartCommand.short(update.from)) to \(RestartCommand.short(update.to))\n"
            : "\(update.name): up to date (\(RestartCommand.short(update.to)))\n"
        if update.zones.isEmpty { return first }
        let count = update.zones.count
        return first
            + "\(update.name): \(count) zone\(count == 1 ? "" : "s") on another image of this name: 'zonectl restart --updated' moves \(count == 1 ? "it" : "them")\n"
    }
}
