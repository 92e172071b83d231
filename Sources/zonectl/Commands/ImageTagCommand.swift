// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl image tag NAME NEW`
enum ImageTagCommand {
    static let command = Command(
        names: ["image tag", "tag"], group: .images, operands: "NAME NEW", summary: "Give an image one more name",
        details: "An image that has the new name already keeps its digest only; 'zonectl image prune' removes it then.",
        options: []
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 2 else {
            throw ZoneError(
                .invalid, "image tag takes two names",
                hint: "zonectl image tag busybox registry.example.com/team/tool:v1")
        }
        let image = try asZoneError { () throws(ImageError) in
            try context.folders.images.tag(arguments.operands[0], as: arguments.operands[1])
        }
        try Output.write(image.name + "\n")
        return 0
    }
}
