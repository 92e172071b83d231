// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Whether the kernel's security modules that a configuration asks for are active: what cannot be done is said.
enum SecurityModules {
    static func requireAppArmor(_ place: String) throws(ZoneError) {
        let enabled = try? readHostFile("/sys/module/apparmor/parameters/enabled", limit: 64)
        guard enabled?.first == UInt8(ascii: "Y") else { throw missing(place, "AppArmor") }
    }

    /// selinuxfs is mounted there by who activates it.
    static var hasSELinux: Bool { (try? FileStatus.of("/sys/fs/selinux/enforce")) != nil }

    static func requireSELinux(_ place: String) throws(ZoneError) {
        guard hasSELinux else { throw missing(place, "SELinux") }
    }

    private static func missing(_ place: String, _ name: String) -> ZoneError {
        ZoneError(
            .unsupported, "\(place): is given, but \(name) is not active on this machine",
            hint: "leave it out, or activate \(name)")
    }
}
