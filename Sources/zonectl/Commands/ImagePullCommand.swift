// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import OCI
import ZoneRuntime

/// `zonectl image pull NAME…`
enum ImagePullCommand {
    static let quiet = Option.flag("quiet", "q", "Show no progress")

    static let command = Command(
        names: ["image pull", "pull"], group: .images, operands: "NAME…", summary: "Fetch images from registries",
        details: """
            NAME is [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], by docker's rules: alpine is docker.io/library/alpine:latest.
            Layers that are in the store are not fetched again, and a pull that was killed goes on where it was. skopeo
            (Debian package skopeo) speaks with the registries: its credentials, mirrors and policies in /etc/containers
            and of the user's hold. --arch arm64 is --platform linux/arm64; a name is that of the image pulled last, whatever
            machine it is for, and the one before keeps its digest.
            """,
        examples: """
            zonectl image pull debian:12 quay.io/podman/hello
            zonectl image pull --creds user:secret --tls-verify=false localhost:5000/team/tool
            """,
        options: [quiet, PullOptions.platform, MachineOptions.architecture] + PullOptions.access
    ) { (arguments, context) throws(ZoneError) in
        let request = try PullOptions.request(arguments, isQuiet: arguments.flag(quiet))
        try ImageNames.require(arguments.operands, for: "image pull")
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            let progress = PullProgressLine(name, isQuiet: arguments.flag(quiet))
            defer { progress.end() }
            let image = try asZoneError { () throws(ImageError) in
                try context.folders.images.pull(name, request, progress: progress.show)
            }
            progress.end()
            // One that was pulled by its digest alone has no name but the one that was given.
            let shown = image.name == image.digest.description ? name : image.name
            try Output.write("\(shown) \(image.digest)\n")
        }.exitCode
    }
}

/// Operands that name images.
enum ImageNames {
    static func require(_ names: [String], for verb: String) throws(ZoneError) {
        if names.isEmpty {
            throw ZoneError(
                .invalid, "\(verb) needs the name of an image", hint: "'zonectl image ls' lists those in the store")
        }
    }
}
