// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// `spec` and `features`.
enum EngineSpec {
    private static let rootless = Option.flag("rootless", nil, "For an ordinary user")

    static let spec = EngineVerb(
        name: "spec", operands: "", summary: "Write a first config.json",
        options: [EngineOption.bundle, rootless]
    ) { (arguments, context) throws(ZoneError) in
        let folder = arguments.value(EngineOption.bundle) ?? "."
        let user = arguments.flag(rootless) ? (getuid(), getgid()) : nil
        let text = ExampleConfiguration.spec(rootless: user).serialized(pretty: true)
        do throws(SystemError) {
            let directory = try Descriptor.open(folder, [.path, .directory])
            // Never over one that is there.
            let file = try directory.open(
                "config.json", [.writeOnly, .create, .exclusive, .noFollow], mode: 0o644, resolve: .beneath)
            try file.writeAll(text, "config.json")
        } catch {
            if error.errno == .exists {
                throw ZoneError(
                    .exists, "file config.json exists in \(folder)", hint: "remove it first, or give another folder")
            }
            throw ZoneError("spec", error)
        }
        return 0
    }

    static let features = EngineVerb(
        name: "features", operands: "", summary: "Show what this runtime supports, as JSON"
    ) { (_, context) throws(ZoneError) in
        try Output.write(RuntimeFeatures.text(version: Version.number, commit: Version.commit))
        return 0
    }
}
