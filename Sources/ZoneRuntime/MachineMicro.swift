// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import Images
import LinuxSystem
import Network
import OCI

/// A micro machine: an OCI image under a kernel of its own, with `zonectl` as its init.
extension MachineStart {
    /// Serial numbers by which the agent finds its disks.
    private static let imageSerial = "zone-image"
    private static let changesSerial = "zone-changes"
    /// Of the file system for the zone's own changes, where nothing is said: sparse, so that it takes what is in it.
    private static let changesSize: Int64 = 16 << 30

    mutating func prepareMicro(
        in persistent: borrowing Descriptor, _ volatile: borrowing Descriptor
    ) throws(ZoneError) {
        try prepareKernel()
        let images = GuestImages(store: store, architecture: description.architecture.ociName, report: report)
        var configuration = GuestConfiguration()
        configuration.hostname = definition.hostname ?? zone
        configuration.zone = zone
        configuration.runsInit = definition.runsInit
        try addDisks(images, &configuration, in: persistent)
        try configure(&configuration)
        run.guest = configuration
    }

    /// The kernel with its initramfs, and the lines to the agent and the console.
    mutating func prepareKernel() throws(ZoneError) {
        let name = description.architecture.ociName
        let kernel = try GuestImages.kernelFolder(name, store.folders)
        let images = GuestImages(store: store, architecture: name, report: report)
        let agent = name == Image.machine.architecture ? "/proc/self/exe" : "\(kernel)/agent"
        let initrd = try images.initrd(kernel, agent: agent)
        show("\(kernel)/\(GuestImages.kernelName)", as: MachinePlaces.kernel)
        show(initrd, as: MachinePlaces.initrd)
        description.firmware = .kernel(
            path: "\(MachinePlaces.folder)/\(MachinePlaces.kernel)",
            initrd: "\(MachinePlaces.folder)/\(MachinePlaces.initrd)", commandLine: commandLine)
        description.endsOnReboot = true
        description.hotplugPorts = 0

        let serial = try socketPair("the console")
        run.serial = serial.own
        description.serial = .socket(serial.qemu)
        let agentSocket = try socketPair("the agent")
        run.agent = agentSocket.own
        description.agents = [
            .init(name: MachineDescription.AgentChannel.zoneAgent, socket: agentSocket.qemu)
        ]
    }

    /// Mounts a file of the host's into the machine's folder.
    private mutating func show(_ path: String, as name: String) {
        mounts.append(
            .init(
                destination: "\(MachinePlaces.folder)/\(name)", type: "bind", source: path,
                options: ["bind", "ro", "nosuid", "nodev", "noexec"]))
    }

    /// See images/guest-kernel/README.md for what each word is worth.
    private var commandLine: String {
        var words = [
            description.architecture.consoleName.map { "console=\($0)" } ?? "", "quiet", "panic=-1",
            "cryptomgr.notests",
        ]
        if description.architecture.isX86 {
            words += ["tsc=reliable", "no_timer_check"]
            if description.accelerator == .tcg, let rate = HostProcessor.timeStampKilohertz() {
                words.append("tsc_early_khz=\(rate)")
            }
        }
        return words.filter { !$0.isEmpty }.joined(separator: " ")
    }

    // MARK: Disks

    private mutating func addDisks(
        _ images: GuestImages, _ configuration: inout GuestConfiguration, in persistent: borrowing Descriptor
    ) throws(ZoneError) {
        configuration.root.isReadOnly = definition.isReadOnly
        let path = try images.root(of: image)
        let attempt = "open the disks of machine \(zone)"
        let file = try attempting(attempt) { () throws(SystemError) in try Descriptor.open(path, [.readOnly]) }
        var disk = MachineDescription.Disk(
            id: "image", file: .init(descriptor: pass(descriptors.adopt(file)), format: .raw))
        disk.isReadOnly = true
        disk.serial = MachineStart.imageSerial
        description.disks.append(disk)
        configuration.root.image = MachineStart.imageSerial
        if definition.isReadOnly { return }
        if (try? persistent.status(OwnFiles.image)) == nil {
            try StorageImage.make(definition.storage ?? MachineStart.changesSize, in: persistent)
        }
        let own = try attempting(attempt) { () throws(SystemError) in
            try persistent.open(OwnFiles.image, [.readWrite, .noFollow], resolve: .beneath)
        }
        var changes = MachineDescription.Disk(
            id: "changes", file: .init(descriptor: pass(descriptors.adopt(own)), format: .raw))
        changes.serial = MachineStart.changesSerial
        changes.cache = definition.autoRemove ? .unsafe : .writeBack
        description.disks.append(changes)
        configuration.root.changes = MachineStart.changesSerial
    }

    // MARK: What the guest is told

    private mutating func configure(_ configuration: inout GuestConfiguration) throws(ZoneError) {
        let builder = SpecBuilder(
            definition: definition, image: image.configuration.config ?? .init(),
            volatile: store.folders.volatile(zone), persistent: store.folders.persistent(zone), cgroupsPath: "",
            report: report)
        var spec = try builder.spec(windowSize: nil)
        spec.linux?.resources = nil
        spec.linux?.cgroupsPath = nil
        spec.linux?.namespaces.removeAll { $0.type == .network || $0.type == .cgroup }
        spec.root = nil
        let own = store.folders.persistent(zone)
        var mounts: [Spec.Mount] = []
        for mount in spec.mounts where mount.type != "cgroup" {
            guard mount.type == "bind" || mount.options.contains("bind") || mount.options.contains("rbind") else {
                mounts.append(mount)
                continue
            }
            if let name = (mount.source ?? "").after("\(own)/"), NetworkFiles.names.contains(name) {
                configuration.files.append(try file(name, at: "\(own)/\(name)"))
                var shown = mount
                shown.source = "\(GuestConfiguration.filePlace)/\(name)"
                mounts.append(shown)
            } else {
                mounts.append(shares.add(mount))
            }
        }
        spec.mounts = mounts
        configuration.hasShares = !shares.isEmpty
        configuration.spec = spec
        configuration.interfaces = try interfaces()
    }

    private func file(_ name: String, at path: String) throws(ZoneError) -> GuestFile {
        try attempting("read the zone's network files") { () throws(SystemError) in
            let bytes = try readHostFile(path, limit: 16 << 10)
            return GuestFile(name: name, content: String(decoding: bytes, as: UTF8.self))
        }
    }

    /// The network cards, as the zone's links would be.
    private func interfaces() throws(ZoneError) -> [GuestInterface] {
        var served: [IPAddress.Family] = []
        let networks = NetworkStore(store)
        var interfaces: [GuestInterface] = []
        for attachment in definition.networks {
            var interface = GuestInterface()
            interface.mac = attachment.mac
            interface.name = attachment.link
            if attachment.isOfZones {
                let network = try networks.find(attachment.name)
                interface.mtu = network.mtu
                for range in network.ranges {
                    guard let address = attachment.ipAddresses.first(where: { range.contains($0) }) else { continue }
                    interface.addresses.append("\(address)/\(range.length)")
                    if network.isInternal || served.contains(range.base.family) { continue }
                    guard let gateway = network.gateway(in: range) else { continue }
                    served.append(range.base.family)
                    interface.gateways.append("\(gateway)")
                }
            }
            interfaces.append(interface)
        }
        return interfaces
    }
}

extension GuestArchitecture {
    /// The first serial line, as Linux calls it.
    var consoleName: String? {
        switch self {
        case .amd64, .i386, .riscv64: "ttyS0"
        case .aarch64, .armv7: "ttyAMA0"
        case .ppc64le: "hvc0"
        case .s390x: nil
        }
    }
}
