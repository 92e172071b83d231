// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI

/// Disks and discs.
extension MachineDescription {
    /// A node for a file of raw bytes that is no disk: firmware, a disc.
    func rawFile(_ path: String, node: String, isReadOnly: Bool) -> [JSON.Member] {
        [
            JSON.Member("driver", .string("raw")),
            JSON.Member("node-name", .string(node)),
            JSON.Member("read-only", .bool(isReadOnly)),
            JSON.Member(
                "file",
                .object([
                    JSON.Member("driver", .string("file")),
                    JSON.Member("filename", .string(path)),
                ])),
        ]
    }

    var needsSCSI: Bool { disks.contains { $0.model == .scsi } || !cdroms.isEmpty && board != .q35 }

    func addDisks(_ line: inout QEMUCommandLine) {
        if needsSCSI { line.device(virtio("scsi"), place(.scsi), ["id": "scsi"]) }
        // Of slots, ports of the SATA controller and targets of the SCSI controller.
        var taken = (slots: 0, ports: 0, targets: 0)
        for disk in disks {
            addNodes(disk, &line)
            let index = disk.bootIndex.map { "\($0)" }
            let node = "disk-\(disk.id)"
            // A full disk of the host's stops the guest, which goes on when there is room; other errors are the guest's.
            let (reading, writing) = ("report", "enospc")
            switch disk.model {
            case .virtio:
                line.device(
                    virtio("blk"), place(.firstDisk, plus: taken.slots),
                    [
                        "id": disk.id, "drive": node, "serial": disk.serial, "bootindex": index, "rerror": reading,
                        "werror": writing,
                    ])
                taken.slots += 1
            case .nvme:
                line.device(
                    "nvme", place(.firstDisk, plus: taken.slots),
                    ["id": disk.id, "drive": node, "serial": disk.serial ?? disk.id, "bootindex": index])
                taken.slots += 1
            case .scsi:
                line.device(
                    "scsi-hd", QEMUCommandLine.Place(bus: "scsi.0"),
                    [
                        "id": disk.id, "drive": node, "scsi-id": "\(taken.targets)", "serial": disk.serial,
                        "bootindex": index, "rerror": reading, "werror": writing,
                    ])
                taken.targets += 1
            case .ahci:
                line.device(
                    "ide-hd", QEMUCommandLine.Place(bus: "ide.\(taken.ports)"),
                    [
                        "id": disk.id, "drive": node, "serial": disk.serial, "bootindex": index, "rerror": reading,
                        "werror": writing,
                    ])
                taken.ports += 1
            }
        }
        for drive in cdroms {
            var node: String?
            if let disc = drive.disc {
                let name = "disk-\(drive.id)"
                line.blockNode(rawFile(line.file(disc), node: name, isReadOnly: true))
                node = name
            }
            let index = drive.bootIndex.map { "\($0)" }
            if board == .q35 {
                line.device(
                    "ide-cd", QEMUCommandLine.Place(bus: "ide.\(taken.ports)"),
                    ["id": drive.id, "drive": node, "bootindex": index])
                taken.ports += 1
            } else {
                line.device(
                    "scsi-cd", QEMUCommandLine.Place(bus: "scsi.0"),
                    ["id": drive.id, "drive": node, "scsi-id": "\(taken.targets)", "bootindex": index])
                taken.targets += 1
            }
        }
    }

    /// The nodes of a disk: its lowest base first, as each refers to the one below it by name.
    private func addNodes(_ disk: Disk, _ line: inout QEMUCommandLine) {
        var below: String?
        for (index, base) in disk.bases.enumerated().reversed() {
            let name = "disk-\(disk.id).\(index + 1)"
            addNode(name, base, disk, isReadOnly: true, below: below, &line)
            below = name
        }
        addNode("disk-\(disk.id)", disk.file, disk, isReadOnly: disk.isReadOnly, below: below, &line)
    }

    private func addNode(
        _ name: String, _ file: DiskFile, _ disk: Disk, isReadOnly: Bool, below: String?, _ line: inout QEMUCommandLine
    ) {
        let cache = JSON.object([
            JSON.Member("direct", .bool(disk.cache == .direct)),
            JSON.Member("no-flush", .bool(disk.cache == .unsafe)),
        ])
        let discard = JSON.Member("discard", .string(disk.discards && !isReadOnly ? "unmap" : "ignore"))
        let path = line.file(file.descriptor)
        var members = [
            JSON.Member("driver", .string(file.format.rawValue)),
            JSON.Member("node-name", .string(name)),
            JSON.Member("read-only", .bool(isReadOnly)),
            JSON.Member("cache", cache),
            discard,
        ]
        if disk.detectsZeroes && !isReadOnly {
            // `unmap` needs a node that discards.
            members.append(JSON.Member("detect-zeroes", .string(disk.discards ? "unmap" : "on")))
        }
        // Always said, so that a name in the file itself is never followed.
        if file.format == .qcow2 { members.append(JSON.Member("backing", below.map { .string($0) } ?? .null)) }
        members.append(
            JSON.Member(
                "file",
                .object([
                    JSON.Member("driver", .string(file.isBlockDevice ? "host_device" : "file")),
                    JSON.Member("filename", .string(path)),
                    JSON.Member("aio", .string(disk.input.rawValue)),
                    JSON.Member("cache", cache),
                    discard,
                ])))
        line.blockNode(members)
    }
}
