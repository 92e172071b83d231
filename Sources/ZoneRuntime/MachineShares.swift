// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// The folders and files of the host's that a micro machine sees, served by one virtiofsd beside it.
///
/// It must be able to do with them what the guest's root may, so it runs as root; but in namespaces of its own in which nothing else
/// of the host is, with the few capabilities that file servers need, and the default filter.
struct MachineShares {
    private var mounts: [Spec.Mount] = []

    private static let place = MachineRoot.share
    private static let program = "/usr/lib/qemu/virtiofsd"
    /// As virtiofsd itself keeps them but for device nodes, which a guest has no business to make in a folder of the host's; and
    /// what it needs to give up the rest.
    static let capabilities = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID",
        "CAP_SETFCAP", "CAP_SYS_CHROOT", "CAP_SETPCAP",
    ]

    var isEmpty: Bool { mounts.isEmpty }

    /// Adds a bind mount of the host's. Returns what takes its place in the guest.
    mutating func add(_ mount: Spec.Mount) -> Spec.Mount {
        var served = mount
        served.destination = "\(MachineShares.place)/\(mounts.count)"
        var shown = mount
        shown.type = "bind"
        shown.source = "\(GuestConfiguration.sharePlace)/\(mounts.count)"
        // Who owns what is mapped on the host's side.
        shown.uidMappings = []
        shown.gidMappings = []
        mounts.append(served)
        return shown
    }

    /// The name of the next share, for a folder that is not mounted but used as it is.
    mutating func add(folder: String) -> String {
        let name = String(mounts.count)
        mounts.append(
            Spec.Mount(
                destination: "\(MachineShares.place)/\(name)", type: "bind", source: folder, options: ["rbind"]))
        return name
    }

    /// Starts virtiofsd. Returns the connected socket for QEMU; it ends when that is closed.
    func serve(
        _ root: MachineRoot, groups: any CGroupManager, handles: borrowing CGroupHandles, cgroupsPath: String,
        seccomp: SeccompProgram?
    ) throws(ZoneError) -> Descriptor {
        let zone = root.name
        let attempt = "share folders with machine \(zone)"
        guard access(MachineShares.program, X_OK) == 0 else {
            throw ZoneError(
                .unsupported, "\(attempt): \(MachineShares.program) is missing",
                hint: "install Debian's package qemu-system-common")
        }
        let volatile = try root.store.openVolatile(zone)
        var connection: Descriptor?
        var plan = try makePlan(root, groups, cgroupsPath, seccomp, volatile, &connection)
        plan.cgroup.unified = handles.unified
        plan.cgroup.tasks = handles.tasks
        let signals = try attempting(attempt) { () throws(SystemError) in try SignalQueue(SignalSet([SIGTERM, SIGINT]))
        }
        drop(try MachineRoot.launch(plan, signals, zone))
        guard let connection = connection.take() else { throw ZoneError(.system, attempt) }
        return connection
    }

    private func makePlan(
        _ root: MachineRoot, _ groups: any CGroupManager, _ cgroupsPath: String, _ seccomp: SeccompProgram?,
        _ volatile: borrowing Descriptor, _ connection: inout Descriptor?
    ) throws(ZoneError) -> LaunchPlan {
        let zone = root.name
        var descriptors = DescriptorBag()
        // virtiofsd accepts one connection of a listening socket.
        let name = "share.sock"
        let listener = try attempting("share folders with machine \(zone)") { () throws(SystemError) in
            if (try? volatile.status(name)) != nil { try volatile.remove(name) }
            let path = "/proc/self/fd/\(volatile.raw)/\(name)"
            let listener = descriptors.adopt(Descriptor(owning: try check(zn_unix_listen(path, 1), "listen", name)))
            connection = Descriptor(owning: try check(zn_unix_connect(path, 1), "connect", name))
            try volatile.remove(name)
            return listener
        }
        var spec = try root.base(zone, cgroupsPath: cgroupsPath)
        var process = Spec.Process()
        process.args = [
            MachineShares.program, "--fd=\(listener)", "-o", "source=\(MachineShares.place)", "-o", "sandbox=chroot",
            "-o", "modcaps=-mknod",
            "-o",
            "xattr", "-o", "cache=auto", "-o", "announce_submounts", "-o", "log_level=err", "-f", "--rlimit-nofile=0",
        ]
        process.env = ["PATH=/usr/bin:/bin"]
        process.cwd = "/"
        process.noNewPrivileges = true
        var sets = Spec.Capabilities()
        sets.bounding = MachineShares.capabilities
        sets.effective = MachineShares.capabilities
        sets.permitted = MachineShares.capabilities
        process.capabilities = sets
        spec.process = process
        spec.mounts.append(
            .init(
                destination: MachineShares.place, type: "tmpfs", source: "tmpfs",
                options: ["nosuid", "nodev", "noexec", "mode=755", "size=1m"]))
        spec.mounts += mounts
        let tree = try root.plan(&descriptors)
        var plan = try PlanBuilder(spec: spec).plan(
            root: tree, cgroups: groups, seccomp: seccomp, descriptors: descriptors)
        plan.process.inherited = [listener]
        let null = try attempting("open /dev/null") { () throws(SystemError) in
            try Descriptor.open("/dev/null", [.readWrite])
        }
        let number = plan.descriptors.adopt(null)
        plan.process.standard = (number, number, number)
        return plan
    }
}
