// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import OCI
import ZoneRuntime

/// `zonectl image push NAME [DESTINATION]`
enum ImagePushCommand {
    static let command = Command(
        names: ["image push", "push"], group: .images, operands: "NAME [DESTINATION]",
        summary: "Put an image into a registry",
        details: """
            DESTINATION is [HOST[:PORT]/]REPOSITORY[:TAG], the image's own name if not given. Layers that the registry has
            are not sent again. The digest that it has there is printed: layers that are not compressed here are there.
            """,
        examples: """
            zonectl image push busybox registry.example.com/team/busybox:v1
            """,
        options: [ImagePullCommand.quiet] + PullOptions.access
    ) { (arguments, context) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(.invalid, "image push takes the name of an image, and where it is to go")
        }
        let access = try PullOptions.access(arguments)
        let terminal = arguments.flag(ImagePullCommand.quiet) ? nil : PullProgressLine.terminal
        let pushed = try asZoneError { () throws(ImageError) in
            try context.folders.images.push(name, to: arguments.operands.dropFirst().first, access, terminal: terminal)
        }
        try Output.write("\(pushed.name) \(pushed.digest)\n")
        return 0
    }
}
