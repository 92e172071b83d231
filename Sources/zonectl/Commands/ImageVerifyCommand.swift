// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl image verify`
enum ImageVerifyCommand {
    static let command = Command(
        names: ["image verify"], group: .images, operands: "", summary: "Compare all images with their digests",
        details: """
            Every blob is read and compared with the digest that names it, and every layer must be unpacked. The exit
            status is 1 where something is wrong; pulling or loading an image again replaces what is missing.
            """,
        statuses: "1\tan image is damaged", options: []
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        var count = 0
        let faults = try asZoneError { () throws(ImageError) in
            try context.folders.images.verify { _ in count += 1 }
        }
        for fault in faults { Output.report("image \(fault.image): \(fault.detail)") }
        try Output.write(
            "\(count) image\(count == 1 ? "" : "s"), \(faults.count) fault\(faults.count == 1 ? "" : "s")\n")
        return faults.isEmpty ? 0 : 1
    }
}
