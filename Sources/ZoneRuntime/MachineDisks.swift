// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import LinuxSystem

/// Makes the disks that a new machine has of its own, and looks at those that it is given.
struct MachineDisks {
    let store: ZoneStore

    init(_ store: ZoneStore) { self.store = store }

    func make(_ definition: inout ZoneDefinition, in persistent: borrowing Descriptor) throws(ZoneError) {
        guard var machine = definition.machine, machine.kind == .full else { return }
        machine = try MachineDiskPlan(machine).machine
        for (index, disk) in machine.disks.enumerated() {
            guard let size = disk.size else { continue }
            guard let format = DiskFormat(name: disk.format.isEmpty ? "qcow2" : disk.format),
                [.raw, .qcow2].contains(format)
            else {
                throw ZoneError(.invalid, "--disk new: format \"\(disk.format)\"", hint: "new disks are qcow2 or raw")
            }
            let name = "disk-\(index).\(format.rawValue)"
            do throws(DiskFault) {
                try DiskImages.create(
                    "\(store.folders.persistent(definition.name))/\(name)", size: size, format: format)
            } catch {
                throw ZoneError(error, disk: name)
            }
            machine.disks[index].path = name
            machine.disks[index].format = format.rawValue
        }
        definition.machine = machine
    }
}
