// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import LinuxSystem
import Namespaces
import OCI

/// What QEMU and its monitor see of the host: /usr, read-only, one folder of their own, and nothing else (P18). They have namespaces
/// of their own, no network, a user of their own, no capabilities and the default filter.
struct MachineRoot {
    let store: ZoneStore
    let name: String
    /// QEMU's own user and group.
    let user: UInt32

    /// Made once for all machines: mount points, and the links of a merged /usr as the host has them.
    private var skeleton: String { "\(store.folders.store)/machines/host" }
    static let systemFolders = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]

    /// Makes the skeleton where it is missing.
    private func makeSkeleton() throws(SystemError) -> [String] {
        let machines = try Descriptor.makePath("\(store.folders.store)/machines", mode: 0o711)
        try machines.ensureDirectory("host", mode: 0o755)
        let root = try machines.open("host", [.readOnly, .directory, .noFollow], resolve: .beneath)
        for name in ["usr", "dev", "proc", "tmp", "run", "etc", "share"] { try root.ensureDirectory(name) }
        let run = try root.open("run", [.readOnly, .directory, .noFollow], resolve: .beneath)
        try run.ensureDirectory("machine")
        var bound: [String] = []
        for name in MachineRoot.systemFolders {
            guard let status = try? FileStatus.of("/\(name)", followLinks: false) else { continue }
            if status.kind == .symlink {
                let text = try Descriptor.open("/", [.path, .directory]).readLink(name)
                do throws(SystemError) { try root.makeSymlink(name, to: text) } catch {
                    if error.errno != .exists { throw error }
                }
            } else if status.kind == .directory {
                try root.ensureDirectory(name)
                bound.append("/\(name)")
            }
        }
        return bound
    }

    /// The folder that the machine and the host share: ROOT/NAME/machine.
    func makeFolder(in volatile: borrowing Descriptor) throws(ZoneError) -> Descriptor {
        try attempting("make the folder of machine \(name)") { () throws(SystemError) in
            try volatile.removeTree(MachinePlaces.hostFolder)
            try volatile.ensureDirectory(MachinePlaces.hostFolder, mode: 0o700)
            let folder = try volatile.open(
                MachinePlaces.hostFolder, [.readOnly, .directory, .noFollow], resolve: .beneath)
            try check(zn_fchownat(folder.raw, "", user, user, 0x1000 /* AT_EMPTY_PATH */), "chown", name)
            return folder
        }
    }

    /// The configuration of the machine's first process. `mounts` come beside what every machine has.
    func spec(
        _ definition: ZoneDefinition, program: [String], mounts: [Spec.Mount], usesKVM: Bool, cgroupsPath: String
    ) throws(ZoneError) -> Spec {
        var spec = try base(definition.name, cgroupsPath: cgroupsPath)
        var process = Spec.Process()
        process.terminal = definition.hasTerminal
        process.args = program
        process.env = ["PATH=/usr/bin:/bin", "HOME=\(MachinePlaces.folder)"]
        process.cwd = "/"
        process.user.uid = user
        process.user.gid = user
        process.capabilities = Spec.Capabilities()
        process.noNewPrivileges = true
        process.rlimits = definition.limits
        spec.process = process
        spec.mounts.append(
            .init(
                destination: MachinePlaces.folder, type: "bind",
                source: "\(store.folders.volatile(name))/\(MachinePlaces.hostFolder)",
                options: ["bind", "nosuid", "nodev", "noexec"]))
        spec.mounts += mounts
        var linux = spec.linux ?? Spec.Linux()
        var resources = definition.resources
        resources.devices = DefaultProfile.deviceRules
        if usesKVM {
            // misc, 10:232; QEMU has no way to be handed the open file.
            var device = Spec.Device(type: "c", path: "/dev/kvm", major: 10, minor: 232, fileMode: 0o600)
            device.uid = user
            device.gid = user
            linux.devices.append(device)
            resources.devices.append(.init(allow: true, type: "c", major: 10, minor: 232, access: "rw"))
        }
        linux.resources = resources
        spec.linux = linux
        return spec
    }

    /// What all processes of machines have: /usr and the kernel's file systems, namespaces of their own, no rights.
    func base(_ hostname: String, cgroupsPath: String) throws(ZoneError) -> Spec {
        let bound = try attempting("make the root of machines") { () throws(SystemError) in try makeSkeleton() }
        var spec = Spec()
        spec.root = Spec.Root(path: skeleton, readonly: true)
        spec.hostname = hostname
        let hidden = ["bind", "ro", "nosuid", "nodev"]
        spec.mounts =
            DefaultProfile.mounts.filter { ["/proc", "/dev", "/dev/pts"].contains($0.destination) }
            + [
                .init(
                    destination: "/tmp", type: "tmpfs", source: "tmpfs",
                    options: ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]),
                .init(destination: "/usr", type: "bind", source: "/usr", options: hidden),
            ] + bound.map { .init(destination: $0, type: "bind", source: $0, options: hidden) }
        var linux = Spec.Linux()
        linux.namespaces = DefaultProfile.namespaces
        linux.cgroupsPath = cgroupsPath
        linux.maskedPaths = DefaultProfile.maskedPaths.filter { $0.hasPrefix("/proc") }
        linux.readonlyPaths = DefaultProfile.readonlyPaths
        spec.linux = linux
        return spec
    }

    /// Where programs beside machines find what they are shown.
    static let share = "/share"

    /// Runs a program to its end that sees /usr and one tree of files, and nothing else. Returns how it ended and the first line that it
    /// said.
    func run(
        _ words: [String], showing tree: consuming Descriptor, inheriting inherited: [CInt], capabilities: [String]
    ) throws(ZoneError) -> (status: ExitStatus, said: String) {
        var spec = try base(name, cgroupsPath: "")
        var process = Spec.Process()
        process.args = words
        process.env = ["PATH=/usr/bin:/bin"]
        process.cwd = "/"
        process.noNewPrivileges = true
        var sets = Spec.Capabilities()
        (sets.bounding, sets.effective, sets.permitted) = (capabilities, capabilities, capabilities)
        process.capabilities = sets
        spec.process = process
        var descriptors = DescriptorBag()
        let rootPlan = try plan(&descriptors)
        let shown = descriptors.adopt(tree)
        var launch = try PlanBuilder(spec: spec).plan(
            root: rootPlan, cgroups: CGroups.disabled(), seccomp: nil, descriptors: descriptors)
        launch.mounts.append(MountPlan(target: MachineRoot.share, source: .tree(shown, isDirectory: true)))
        launch.process.inherited = inherited
        launch.process.diesWithLauncher = true
        let pipe = try attempting("run \(words[0])") { () throws(SystemError) in try Pipe() }
        let null = try attempting("run \(words[0])") { () throws(SystemError) in
            try Descriptor.open("/dev/null", [.readWrite])
        }
        launch.process.standard = (null.raw, pipe.writer.raw, pipe.writer.raw)
        let signals = try attempting("wait for signals") { () throws(SystemError) in
            try SignalQueue(SignalSet([SIGTERM, SIGINT, SIGHUP, SIGQUIT]))
        }
        let launching = try MachineRoot.launch(launch, signals, name)
        let words = pipe.takeReader()
        return try attempting("run a program beside machines") { () throws(SystemError) in
            var said: [UInt8] = []
            while true {
                let more = try words.read(upTo: 4096)
                if more.isEmpty { break }
                if said.count < 4096 { said += more }
            }
            let status = try launching.process.wait()
            return (status, String(decoding: said, as: UTF8.self).fields("\n").first ?? "")
        }
    }

    /// A process that executes its program.
    static func launch(
        _ plan: borrowing LaunchPlan, _ signals: borrowing SignalQueue, _ name: String
    ) throws(ZoneError) -> LaunchingProcess {
        do throws(LaunchError) {
            var launching = try LaunchingProcess.start(plan)
            try launching.waitUntilReady(interruptedBy: signals)
            try launching.release(interruptedBy: signals)
            return launching
        } catch {
            throw ZoneError(error, zone: name)
        }
    }

    /// The root itself, detached.
    func plan(_ descriptors: inout DescriptorBag) throws(ZoneError) -> RootPlan {
        try attempting("open the root of machines") { () throws(SystemError) in
            let tree = try Descriptor.cloneTree(skeleton, recursive: false)
            return RootPlan(.tree(descriptors.adopt(tree)), anchor: store.folders.root, isReadOnly: true)
        }
    }
}
