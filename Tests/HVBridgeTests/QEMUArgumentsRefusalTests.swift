// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import Testing

/// What is refused before QEMU could misread it.
struct QEMUArgumentsRefusalTests {
    private func expectRefusal(
        _ code: MachineFault.Code, of machine: MachineDescription = Machines.installer, _ holding: String? = nil,
        location: SourceLocation = #_sourceLocation, _ change: (inout MachineDescription) -> Void
    ) {
        var machine = machine
        change(&machine)
        do throws(MachineFault) {
            let words = try machine.arguments()
            Issue.record("accepted: \(words)", sourceLocation: location)
        } catch {
            #expect(error.code == code, "\(error)", sourceLocation: location)
            if let holding { #expect(error.detail.contains(holding), "\(error)", sourceLocation: location) }
        }
    }

    @Test(arguments: ["", "a\nb", "a\u{7F}", "a\u{0}b", String(repeating: "a", count: 65)])
    func names(_ name: String) {
        expectRefusal(.invalid) { $0.name = name }
    }

    @Test(arguments: [
        "", "root,bus=x", "1st", "a.b", "-x", "ro ot", "röt", "usb", "video", String(repeating: "a", count: 21),
    ])
    func deviceNames(_ id: String) {
        expectRefusal(.invalid, id) { $0.disks[0].id = id }
        expectRefusal(.invalid, id) { $0.cdroms[0].id = id }
        expectRefusal(.invalid, of: Machines.windows, id) { $0.nics[0].id = id }
        expectRefusal(.invalid, id) {
            $0.usbDevices = [MachineDescription.USBDevice(id: id, descriptor: 40)]
        }
    }

    @Test(arguments: [
        "", "zz", "0b2f7f3c-6f0e-4c58-9f0b-7f5f3a1d2c4", "0b2f7f3c-6f0e-4c58-9f0b-7f5f3a1d2c4g",
        "0b2f7f3c06f0e-4c58-9f0b-7f5f3a1d2c4b", "0b2f7f3c-6f0e-4c58-9f0b-7f5f3a1d2c4b,x",
    ])
    func identities(_ uuid: String) {
        expectRefusal(.invalid) { $0.uuid = uuid }
        expectRefusal(.invalid) { $0.generation = uuid }
    }

    @Test(arguments: ["", "max,vmx=on", "host cpu", "-cpu", "é"])
    func processors(_ model: String) {
        expectRefusal(.invalid) { $0.cpu.model = model }
        expectRefusal(.invalid) { $0.cpu.features = [MachineDescription.CPU.Feature(model, isOn: true)] }
    }

    @Test(arguments: [(0, 1, 1), (1, -1, 1), (-1, -1, 1), (1, 1, 256), (Int.max, 2, 2), (16, 16, 1)])
    func topologies(_ sockets: Int, _ cores: Int, _ threads: Int) {
        expectRefusal(.invalid) {
            $0.cpu = MachineDescription.CPU(sockets: sockets, cores: cores, threads: threads)
        }
    }

    @Test(arguments: [0, -1, 1, (1 << 20) + 1, Int64.min, Int64.max] as [Int64])
    func sizes(_ bytes: Int64) {
        expectRefusal(.invalid) { $0.memory.bytes = bytes }
    }

    @Test(arguments: [0, -1, 4096, 3 << 20, Int64.min, Int64.max, 1 << 30] as [Int64])
    func pageSizes(_ bytes: Int64) {
        expectRefusal(.invalid, of: Machines.micro) { $0.memory.backing = .hugePages(bytes: bytes) }
    }

    @Test(arguments: [
        "/etc/passwd", "/usr", "/usrlocal/x", "usr/x", "", "/usr/../etc/shadow", "/run/machine/..", "/usr/a,b",
        "/usr/a\nb",
        "/dev/fdset/3", "/run/machine/" + String(repeating: "a", count: 5000),
    ])
    func paths(_ path: String) {
        expectRefusal(.invalid, of: Machines.micro) {
            $0.firmware = .kernel(path: path, initrd: nil, commandLine: "")
        }
        expectRefusal(.invalid, of: Machines.micro) {
            $0.firmware = .kernel(path: "/usr/k", initrd: path, commandLine: "")
        }
        expectRefusal(.invalid) { $0.firmware = .uefi(code: path, variables: 50, isSecure: false) }
        expectRefusal(.invalid) { $0.display = .vnc(path: path, video: .standard) }
    }

    @Test(arguments: ["a\nb", "a\u{0}", String(repeating: "a", count: 2048)])
    func commandLines(_ text: String) {
        expectRefusal(.invalid, of: Machines.micro) {
            $0.firmware = .kernel(path: "/usr/k", initrd: nil, commandLine: text)
        }
    }

    @Test(arguments: [
        "", "52:54:00:12:34", "52:54:00:12:34:5g", "52-54-00-12-34-56", "53:54:00:12:34:56", "5b:54:00:12:34:56",
        "FF:FF:FF:FF:FF:FF", "00:00:00:00:00:00", "52:54:00:12:34:56,x",
    ])
    func cards(_ mac: String) {
        expectRefusal(.invalid, of: Machines.windows) { $0.nics[0].mac = mac }
    }

    @Test(arguments: ["0a:54:00:12:34:56", "Fe:00:00:00:00:01", "52:54:00:12:34:56"])
    func goodCards(_ mac: String) throws {
        var machine = Machines.windows
        machine.nics[0].mac = mac
        _ = try machine.arguments()
    }

    @Test(arguments: ["", "a\nb", "é", String(repeating: "1", count: 21)])
    func serialNumbers(_ serial: String) {
        expectRefusal(.invalid) { $0.disks[0].serial = serial }
    }

    @Test(arguments: [CInt(-1), 0, 1, 2, 4, 13, 14])
    func descriptors(_ descriptor: CInt) {
        // 4, 13 and 14 are in use already.
        expectRefusal(.invalid, "descriptor") {
            $0.usbDevices = [MachineDescription.USBDevice(id: "stick", descriptor: descriptor)]
        }
    }

    @Test func bootIndexes() {
        expectRefusal(.invalid, "boot index") { $0.cdroms[0].bootIndex = 0 }
        expectRefusal(.invalid, "boot index") { $0.disks[0].bootIndex = -1 }
        expectRefusal(.invalid, "boot index") { $0.disks[0].bootIndex = Int.max }
        expectRefusal(.invalid) { $0.boot.menuMilliseconds = 65536 }
    }

    @Test func twiceTheSame() {
        expectRefusal(.invalid, "cd0") { $0.disks[0].id = "cd0" }
        expectRefusal(.invalid, of: Machines.micro) {
            $0.agents.append(
                MachineDescription.AgentChannel(name: MachineDescription.AgentChannel.zoneAgent, socket: 40))
        }
    }

    @Test(arguments: ["q35", "pc-q35-", "pc-q35-7.2,accel=kvm", "virt-7.2", "pc-i440fx-7.2", "pc-q35-77777777"])
    func versions(_ version: String) {
        expectRefusal(.invalid) { $0.boardVersion = version }
    }

    @Test func whatABoardDoesNotHave() {
        expectRefusal(.unsupported) { $0.board = .virt }
        expectRefusal(.unsupported) { $0.firmware = .bootLoader(path: "/usr/lib/u-boot/x") }
        expectRefusal(.unsupported, of: Machines.micro) { $0.firmware = .bios }
        expectRefusal(.unsupported, of: Machines.micro) {
            $0.display = .vnc(path: "/run/machine/vnc", video: .virtio)
        }
        expectRefusal(.unsupported, of: Machines.micro) { $0.disks = [Machines.disk("a", 40, .nvme)] }
        expectRefusal(.unsupported, of: Machines.micro) { $0.nics[0].model = .e1000e }
        expectRefusal(.unsupported, of: Machines.micro) { $0.tpm = MachineDescription.TPM(socket: 40) }
        expectRefusal(.unsupported, of: Machines.micro) { $0.hotplugPorts = 1 }
        expectRefusal(.unsupported, of: Machines.micro) { $0.boardVersion = "microvm-7.2" }
        expectRefusal(.unsupported, of: Machines.arm) { $0.disks[0].model = .ahci }
        expectRefusal(.unsupported, of: Machines.arm) {
            $0.display = .vnc(path: "/run/machine/vnc", video: .standard)
        }
        expectRefusal(.unsupported, of: Machines.arm) {
            $0.display = .vnc(path: "/run/machine/vnc", video: .virtio, input: .ps2)
        }
        expectRefusal(.unsupported, of: Machines.mainframe) { $0.tpm = MachineDescription.TPM(socket: 40) }
        expectRefusal(.unsupported, of: Machines.mainframe) { $0.hasPanicNotifier = true }
        expectRefusal(.unsupported, of: Machines.mainframe) {
            $0.firmware = .uefi(code: "/usr/x", variables: 40, isSecure: false)
        }
        expectRefusal(.unsupported) { $0.disks[0].isReadOnly = true }
        expectRefusal(.unsupported, of: Machines.windows) { $0.nics[0].mtu = 1400 }
    }

    @Test func tooMany() {
        expectRefusal(.unsupported, "SATA") { machine in
            machine.disks = (0..<5).map { Machines.disk("d\($0)", 40 + CInt($0), .ahci) }
        }
        expectRefusal(.unsupported, "virtio and NVMe") { machine in
            machine.disks = (0..<9).map { Machines.disk("d\($0)", 40 + CInt($0)) }
        }
        expectRefusal(.unsupported, of: Machines.micro, "virtio devices") { machine in
            machine.disks = (0..<22).map { Machines.disk("d\($0)", 40 + CInt($0)) }
        }
        expectRefusal(.unsupported) { $0.hotplugPorts = 9 }
        expectRefusal(.unsupported) { $0.hotplugPorts = -1 }
    }

    @Test func contradictions() {
        expectRefusal(.invalid, of: Machines.micro, "shared") { $0.memory.backing = .plain }
        // Only qcow2 lies on anything.
        expectRefusal(.invalid) {
            $0.disks[0].bases = [MachineDescription.DiskFile(descriptor: 40, format: .raw)]
        }
    }

    @Test func aHostileCommaStaysInItsValue() throws {
        var machine = Machines.micro
        machine.shares[0].tag = "a,b=c"
        machine.firmware = .kernel(path: "/usr/k", initrd: nil, commandLine: "x=1,2 -device floppy")
        let words = try machine.arguments()
        #expect(words.contains("vhost-user-fs-device,id=share.0,chardev=share.0,tag=a,,b=c,queue-size=1024"))
        #expect(words.contains("x=1,2 -device floppy"))
    }
}
