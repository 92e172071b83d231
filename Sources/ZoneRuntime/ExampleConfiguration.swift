// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// A first `config.json` for who writes bundles by hand.
public enum ExampleConfiguration {
    /// A shell at a terminal, with what every zone has. `rootless`: for the ordinary user of these ids.
    public static func spec(rootless: (uid: UInt32, gid: UInt32)?) -> Spec {
        var spec = Spec()
        spec.process = process()
        spec.root = Spec.Root(path: "rootfs", readonly: true)
        spec.hostname = "zone"
        spec.mounts = DefaultProfile.mounts
        var linux = Spec.Linux()
        linux.namespaces = DefaultProfile.namespaces
        linux.maskedPaths = DefaultProfile.maskedPaths
        linux.readonlyPaths = DefaultProfile.readonlyPaths
        var resources = Spec.Resources()
        resources.devices = [.init(allow: false, access: "rwm")]
        linux.resources = resources
        if let rootless {
            // A network of one's own would have no link that an ordinary user could give it.
            linux.namespaces = linux.namespaces.filter { $0.type != .network } + [.init(.user)]
            linux.uidMappings = [.init(containerID: 0, hostID: rootless.uid, size: 1)]
            linux.gidMappings = [.init(containerID: 0, hostID: rootless.gid, size: 1)]
            linux.resources = nil
            // One group is all that there is: tty's is not.
            spec.mounts = DefaultProfile.mountsOfUsers(sharesNetwork: true, hasTerminalGroup: false)
        }
        spec.linux = linux
        return spec
    }

    private static func process() -> Spec.Process {
        var process = Spec.Process()
        process.terminal = true
        process.args = ["sh"]
        process.env = [DefaultProfile.path, "TERM=xterm"]
        let names = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
        var sets = Spec.Capabilities()
        (sets.bounding, sets.effective, sets.permitted) = (names, names, names)
        process.capabilities = sets
        process.rlimits = [.init(type: "RLIMIT_NOFILE", soft: 1024, hard: 1024)]
        process.noNewPrivileges = true
        return process
    }
}
