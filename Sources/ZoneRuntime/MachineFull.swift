// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import LinuxSystem
import Network
import OCI

/// A machine that boots what is on its disks.
extension MachineStart {
    private static let variables = "efivars.fd"
    private static let tpmFolder = "tpm"

    mutating func prepareFull(
        in persistent: borrowing Descriptor, _ volatile: borrowing Descriptor
    ) throws(ZoneError) {
        try addFirmware(in: persistent)
        try addDisks(in: persistent)
        try addDiscs(in: persistent)
        if machine.tpm ?? false { try addTPM(in: persistent) }
        if machine.hasDisplay { try addDisplay() }
        try addUSB()
        // What the machine says on its first serial line is the zone's output.
        description.serial = .stdio
        description.hasPanicNotifier = description.architecture.isX86
        if !machine.isWindows {
            let agent = try socketPair("the guest agent")
            run.guestAgent = agent.own
            description.agents = [
                .init(name: MachineDescription.AgentChannel.guestAgent, socket: agent.qemu)
            ]
        }
    }

    // MARK: Firmware

    private mutating func addFirmware(in persistent: borrowing Descriptor) throws(ZoneError) {
        guard machine.firmware != .bios else { return }
        let found: Firmware
        do throws(MachineFault) {
            found = try Firmware.find(description.architecture, secureBoot: machine.isSecure ? .enrolled : .off)
        } catch {
            throw ZoneError(error, zone: zone)
        }
        switch found {
        case .builtIn: break
        case .bootLoader(let path): description.firmware = .bootLoader(path: path)
        case .uefi(let uefi):
            let name = MachineStart.variables
            let file = try attempting("make the firmware's memory of machine \(zone)") { () throws(SystemError) in
                if (try? persistent.status(name)) == nil {
                    try persistent.replaceFile(name, try readHostFile(uefi.template, limit: 64 << 20), mode: 0o600)
                }
                return try persistent.open(name, [.readWrite, .noFollow], resolve: .beneath)
            }
            description.firmware = .uefi(
                code: uefi.code, variables: pass(descriptors.adopt(file)), isSecure: uefi.isSecure)
        }
    }

    // MARK: Disks

    private mutating func addDisks(in persistent: borrowing Descriptor) throws(ZoneError) {
        for (index, disk) in machine.disks.enumerated() {
            let isOurs = !disk.path.isAbsolutePath
            let path = isOurs ? "\(store.folders.persistent(zone))/\(disk.path)" : disk.path
            let isOverlaid = definition.autoRemove && !isOurs && !disk.isReadOnly
            let file = try MachineDiskFile.open(path, disk, zone: zone, store, writes: !isOverlaid && !disk.isReadOnly)
            guard let format = MachineDescription.DiskFile.Format(rawValue: disk.format) else {
                throw ZoneError(
                    .unsupported, "disk \(path): machines do not run from images of the format \(disk.format)",
                    hint: "qemu-img convert -O qcow2 \(path) NEW.qcow2 makes one that they do")
            }
            let (isBlock, header) = (file.isBlockDevice, file.header)
            let base = MachineDescription.DiskFile(
                descriptor: pass(descriptors.adopt(file.release())), format: format, isBlockDevice: isBlock)
            var described = MachineDescription.Disk(id: "disk\(index)", file: base, model: machine.model)
            if isOverlaid {
                let overlay = try makeOverlay(index, of: path, header, in: persistent)
                described.file = .init(descriptor: pass(descriptors.adopt(overlay)), format: .qcow2)
                described.bases = [base]
                described.cache = .unsafe
            }
            described.isReadOnly = disk.isReadOnly
            described.serial = disk.serial ?? "zone-disk\(index)"
            let order = machine.boot ?? "cd"
            if let place = order.utf8.firstIndex(of: UInt8(ascii: "c")) {
                described.bootIndex = 10 * order.utf8.distance(from: order.utf8.startIndex, to: place) + index
            } else {
                // An installer that restarts finds what it has installed.
                described.bootIndex = 50 + index
            }
            description.disks.append(described)
        }
    }

    /// What is written goes there, and goes with the zone.
    private func makeOverlay(
        _ index: Int, of path: String, _ header: DiskHeader, in persistent: borrowing Descriptor
    ) throws(ZoneError) -> Descriptor {
        let name = "overlay-\(index).qcow2"
        let place = "\(store.folders.persistent(zone))/\(name)"
        if (try? persistent.status(name)) != nil {
            try attempting("make disk \(name)") { () throws(SystemError) in try persistent.remove(name) }
        }
        do throws(DiskFault) {
            try DiskImages.overlay(over: path, header, at: place)
        } catch {
            throw ZoneError(error, disk: path)
        }
        return try attempting("open disk \(name)") { () throws(SystemError) in
            try persistent.open(name, [.readWrite, .noFollow], resolve: .beneath)
        }
    }

    private mutating func addDiscs(in persistent: borrowing Descriptor) throws(ZoneError) {
        if let text = machine.userData {
            try addSeed(CloudSeed(zone: zone, uuid: machine.uuid, userData: text, definition).make(store))
        }
        let order = machine.boot ?? "cd"
        for (index, path) in machine.cdroms.enumerated() {
            let disc = try attempting("open the CD of machine \(zone)") { () throws(SystemError) in
                try Descriptor.open(path, [.readOnly, .nonBlocking])
            }
            var drive = MachineDescription.CDROM(id: "cd\(index)", disc: pass(descriptors.adopt(disc)))
            if let place = order.utf8.firstIndex(of: UInt8(ascii: "d")) {
                drive.bootIndex = 10 * order.utf8.distance(from: order.utf8.startIndex, to: place) + index
            }
            description.cdroms.append(drive)
        }
    }

    /// A disk and no CD where the disks are virtio: kernels for clouds have no driver for others, and cloud-init goes by the name of the
    /// file system.
    private mutating func addSeed(_ path: String) throws(ZoneError) {
        let file = try attempting("open the cloud-init CD of machine \(zone)") { () throws(SystemError) in
            try Descriptor.open(path, [.readOnly])
        }
        let number = pass(descriptors.adopt(file))
        if machine.model != .virtio {
            description.cdroms.append(MachineDescription.CDROM(id: "seed", disc: number))
            return
        }
        var disk = MachineDescription.Disk(id: "seed", file: .init(descriptor: number, format: .raw))
        disk.isReadOnly = true
        disk.discards = false
        disk.serial = "zone-seed"
        description.disks.append(disk)
    }

    // MARK: TPM

    /// swtpm beside QEMU, as the same user in the same namespaces; what it knows is kept with the zone.
    private mutating func addTPM(in persistent: borrowing Descriptor) throws(ZoneError) {
        let program: String
        do throws(SystemError) { program = try HostProgram.find("swtpm") } catch {
            throw ZoneError(
                .unsupported, "machine \(zone): a TPM needs swtpm, which is missing",
                hint: "install Debian's package swtpm, or give --tpm=false")
        }
        try attempting("make the TPM of machine \(zone)") { () throws(SystemError) in
            try persistent.ensureDirectory(MachineStart.tpmFolder, mode: 0o700)
            let folder = try persistent.open(
                MachineStart.tpmFolder, [.readOnly, .directory, .noFollow], resolve: .beneath)
            try check(zn_fchownat(folder.raw, "", user, user, 0x1000 /* AT_EMPTY_PATH */), "chown", "tpm")
        }
        mounts.append(
            .init(
                destination: MachinePlaces.tpm, type: "bind",
                source: "\(store.folders.persistent(zone))/\(MachineStart.tpmFolder)",
                options: ["bind", "nosuid", "nodev", "noexec"]))
        var ends: [CInt] = [-1, -1]
        _ = try attempting("connect the TPM of machine \(zone)") { () throws(SystemError) in
            try check(zn_socketpair_stream(&ends), "socketpair")
        }
        let own = descriptors.adopt(Descriptor(owning: ends[0]))
        description.tpm = .init(socket: pass(descriptors.adopt(Descriptor(owning: ends[1]))))
        run.companions.append(
            MachineCompanion(
                program: program,
                arguments: [
                    "socket", "--tpm2", "--tpmstate", "dir=\(MachinePlaces.tpm),mode=0600", "--ctrl",
                    "type=unixio,clientfd=\(own)", "--flags", "startup-clear", "--terminate",
                ], descriptors: [own]))
    }

    // MARK: Display

    private mutating func addDisplay() throws(ZoneError) {
        let path = "\(MachinePlaces.folder)/\(MachinePlaces.vnc)"
        description.display = .vnc(path: path, video: description.architecture.isX86 ? .standard : .virtio)
        run.vncPath = path
        guard let vnc = machine.vnc, vnc != "unix" else { return }
        let place = try MachineSettings.viewerPlace(vnc)
        do throws(SystemError) {
            run.viewers = descriptors.adopt(try PortSocket.listen(.tcp, place.address, port: place.port))
        } catch {
            throw ZoneError("listen for viewers of machine \(zone) on \(vnc)", error)
        }
    }

    // MARK: USB

    private mutating func addUSB() throws(ZoneError) {
        for (index, request) in machine.usb.enumerated() {
            let device = try USBLease(store, zone).take(request, others: machine.usb)
            description.usbDevices.append(
                .init(id: "usb\(index)", descriptor: pass(descriptors.adopt(device))))
        }
    }
}
