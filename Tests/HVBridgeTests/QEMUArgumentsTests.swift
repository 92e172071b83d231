// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import LinuxSystem
import OCI
import Testing

/// The whole command line of five machines: a change of any of them is one that a guest can see.
struct QEMUArgumentsTests {
    private static let confined = [
        "-nodefaults", "-no-user-config", "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-msg", "timestamp=off",
    ]
    private static let entropy = ["-object", "rng-builtin,id=entropy"]

    /// A qcow2 or raw node, as it is written.
    private static func node(
        _ format: String, _ name: String, _ descriptor: Int, isReadOnly: Bool = false, discard: String = "unmap",
        zeroes: String? = "unmap", backing: String? = nil, driver: String = "file", aio: String = "threads",
        direct: Bool = false, noFlush: Bool = false
    ) -> String {
        let cache = #""cache":{"direct":\#(direct),"no-flush":\#(noFlush)},"discard":"\#(discard)""#
        let zeroes = zeroes.map { #""detect-zeroes":"\#($0)","# } ?? ""
        let backing = backing.map { #""backing":\#($0),"# } ?? ""
        return
            #"{"driver":"\#(format)","node-name":"\#(name)","read-only":\#(isReadOnly),\#(cache),\#(zeroes)\#(backing)"#
            + #""file":{"driver":"\#(driver)","filename":"/dev/fdset/\#(descriptor)","aio":"\#(aio)",\#(cache)}}"#
    }

    @Test func aMicroMachine() throws {
        let expected =
            ["-name", "guest=web,process=vm-web,debug-threads=on"] + Self.confined + [
                "-no-reboot", "-uuid", Machines.uuid, "-machine",
                "microvm,acpi=on,pit=on,pic=on,rtc=on,pcie=off,usb=off,ioapic2=on,isa-serial=on,auto-kernel-cmdline=off,"
                    + "memory-backend=ram,mem-merge=off,dump-guest-core=off",
                "-accel", "tcg,tb-size=256", "-cpu", "max", "-smp", "2,sockets=1,cores=2,threads=1", "-m", "256M",
                "-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-rtc", "base=utc",
                "-global", "virtio-mmio.force-legacy=false",
                "-kernel", "/run/machine/kernel", "-initrd", "/run/machine/initrd", "-append", "console=ttyS0 quiet",
                "-chardev", "socket,id=serial,fd=5", "-serial", "chardev:serial",
                "-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control",
                "-device", "virtio-serial-device,id=agents,max_ports=2", "-chardev", "socket,id=agent.0,fd=6",
                "-device", "virtserialport,chardev=agent.0,nr=1,name=zone.agent.0,bus=agents.0",
                "-netdev", "tap,id=net-net0,fd=8",
                "-device", "virtio-net-device,id=net0,netdev=net-net0,mac=52:54:00:12:34:56", "-display", "none",
                "-chardev", "socket,id=share.0,fd=7",
                "-device", "vhost-user-fs-device,id=share.0,chardev=share.0,tag=root,queue-size=1024",
            ] + Self.entropy + [
                "-device", "virtio-rng-device,id=rng,rng=entropy",
                "-device", "virtio-balloon-device,id=balloon,deflate-on-oom=on,free-page-reporting=on",
            ]
        #expect(try Machines.micro.arguments() == expected)
    }

    @Test func aPCWithAnInstallationDisc() throws {
        let disc =
            #"{"driver":"raw","node-name":"disk-cd0","read-only":true,"#
            + #""file":{"driver":"file","filename":"/dev/fdset/14"}}"#
        let expected =
            // The comma of its name is doubled.
            ["-name", "guest=old,, box,process=vm-old,, box,debug-threads=on"] + Self.confined + [
                "-uuid", Machines.uuid, "-machine",
                "q35,usb=off,vmport=off,smbus=off,sata=on,i8042=off,graphics=off,smm=off,hpet=on,"
                    + "memory-backend=ram,mem-merge=off,dump-guest-core=off",
                "-accel", "tcg,tb-size=512", "-cpu", "max", "-smp", "1,sockets=1,cores=1,threads=1", "-m", "1024M",
                "-object", "memory-backend-ram,id=ram,size=1024M", "-rtc", "base=utc",
                "-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1",
                "-smbios", "type=1,manufacturer=ZoneRuntime,product=Zone,uuid=\(Machines.uuid)",
                "-boot", "menu=on,splash-time=500,strict=on",
                "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
                "-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control",
                "-add-fd", "fd=13,set=13", "-blockdev", Self.node("raw", "disk-root", 13),
                "-device", "ide-hd,id=root,drive=disk-root,bootindex=0,rerror=report,werror=enospc,bus=ide.0",
                "-add-fd", "fd=14,set=14", "-blockdev", disc,
                "-device", "ide-cd,id=cd0,drive=disk-cd0,bootindex=1,bus=ide.1", "-device", "ide-cd,id=cd1,bus=ide.2",
                "-display", "none",
            ] + Self.entropy + [
                "-device", "virtio-rng-pci,id=rng,rng=entropy,bus=pcie.0,addr=0x4", "-device",
                "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on,bus=pcie.0,addr=0x5",
            ]
        #expect(try Machines.installer.arguments() == expected)
    }

    @Test func windows() throws {
        let expected =
            ["-name", "guest=win,process=vm-win,debug-threads=on"] + Self.confined + [
                "-S", "-uuid", Machines.uuid, "-machine",
                "pc-q35-7.2,usb=off,vmport=off,smbus=off,sata=off,i8042=on,graphics=on,smm=on,hpet=off,"
                    + "memory-backend=ram,mem-merge=off,dump-guest-core=off,"
                    + "pflash0=firmware-code,pflash1=firmware-variables",
                "-accel", "kvm", "-cpu",
                "host,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on,hv-runtime=on,hv-time=on,hv-synic=on,"
                    + "hv-stimer=on,hv-reset=on,hv-frequencies=on,hv-tlbflush=on,hv-ipi=on",
                "-smp", "4,sockets=1,cores=2,threads=2", "-m", "4096M",
                "-object", "memory-backend-ram,id=ram,size=4096M", "-rtc", "base=localtime,driftfix=slew",
                "-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1",
                "-global", "kvm-pit.lost_tick_policy=delay",
                "-global", "driver=cfi.pflash01,property=secure,value=on",
                "-smbios", "type=1,manufacturer=ZoneRuntime,product=Zone,uuid=\(Machines.uuid)",
                "-blockdev",
                #"{"driver":"raw","node-name":"firmware-code","read-only":true,"#
                    + #""file":{"driver":"file","filename":"/usr/share/OVMF/OVMF_CODE_4M.ms.fd"}}"#,
                "-add-fd", "fd=12,set=12", "-blockdev",
                #"{"driver":"raw","node-name":"firmware-variables","read-only":false,"#
                    + #""file":{"driver":"file","filename":"/dev/fdset/12"}}"#,
                "-boot", "menu=off,strict=on",
                "-chardev", "socket,id=qmp,fd=4", "-mon", "chardev=qmp,mode=control",
                "-device", "virtio-serial-pci,id=agents,max_ports=2,bus=pcie.0,addr=0x3",
                "-chardev", "socket,id=agent.0,fd=17",
                "-device", "virtserialport,chardev=agent.0,nr=1,name=org.qemu.guest_agent.0,bus=agents.0",
                "-add-fd", "fd=13,set=13", "-blockdev", Self.node("qcow2", "disk-root", 13, backing: "null"),
                "-device", "nvme,id=root,drive=disk-root,serial=root,bootindex=0,bus=pcie.0,addr=0x10",
                "-netdev", "tap,id=net-net0,fd=15",
                "-device", "e1000e,id=net0,netdev=net-net0,mac=52:54:00:12:34:56,romfile=,bus=pcie.0,addr=0x8",
                "-vnc", "unix:/run/machine/vnc", "-device", "VGA,id=video,bus=pcie.0,addr=0x1",
                "-device", "qemu-xhci,id=usb,p2=8,p3=8,bus=pcie.0,addr=0x2",
                "-device", "usb-kbd,id=keyboard,bus=usb.0", "-device", "usb-tablet,id=pointer,bus=usb.0",
                "-chardev", "socket,id=tpm,fd=16", "-tpmdev", "emulator,id=chip,chardev=tpm",
                "-device", "tpm-crb,id=tpm,tpmdev=chip",
            ] + Self.entropy + [
                "-device", "virtio-rng-pci,id=rng,rng=entropy,bus=pcie.0,addr=0x4", "-device",
                "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on,bus=pcie.0,addr=0x5",
                "-device", "vmgenid,id=generation,guid=11111111-2222-3333-4444-555555555555", "-device",
                "pcie-root-port,id=slot.0,chassis=1,slot=1,bus=pcie.0,addr=0x1c.0x0,multifunction=on",
            ]
        #expect(try Machines.windows.arguments() == expected)
    }

    @Test func anARMServerOnLayers() throws {
        let base = Self.node(
            "raw", "disk-root.2", 19, isReadOnly: true, discard: "ignore", zeroes: nil, driver: "host_device",
            aio: "io_uring", direct: true)
        let middle = Self.node(
            "qcow2", "disk-root.1", 18, isReadOnly: true, discard: "ignore", zeroes: nil, backing: #""disk-root.2""#,
            aio: "io_uring", direct: true)
        let top = Self.node(
            "qcow2", "disk-root", 13, backing: #""disk-root.1""#, aio: "io_uring", direct: true)
        let expected =
            ["-name", "guest=arm,process=vm-arm,debug-threads=on"] + Self.confined + [
                "-uuid", Machines.uuid, "-machine",
                "virt,usb=off,gic-version=max,memory-backend=ram,mem-merge=off,dump-guest-core=off,"
                    + "pflash0=firmware-code,pflash1=firmware-variables",
                "-accel", "tcg,tb-size=512", "-cpu", "max,pauth-impdef=on,lpa2=off",
                "-smp", "1,sockets=1,cores=1,threads=1", "-m", "512M",
                "-object", "memory-backend-ram,id=ram,size=512M", "-rtc", "base=utc",
                "-smbios", "type=1,manufacturer=ZoneRuntime,product=Zone,uuid=\(Machines.uuid)", "-blockdev",
                #"{"driver":"raw","node-name":"firmware-code","read-only":true,"#
                    + #""file":{"driver":"file","filename":"/usr/share/AAVMF/AAVMF_CODE.fd"}}"#,
                "-add-fd", "fd=12,set=12", "-blockdev",
                #"{"driver":"raw","node-name":"firmware-variables","read-only":false,"#
                    + #""file":{"driver":"file","filename":"/dev/fdset/12"}}"#,
                "-boot", "menu=off,strict=off",
                "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
                "-device", "virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x6",
                "-add-fd", "fd=19,set=19", "-blockdev", base, "-add-fd", "fd=18,set=18", "-blockdev", middle,
                "-add-fd", "fd=13,set=13", "-blockdev", top, "-device",
                "virtio-blk-pci,id=root,drive=disk-root,serial=a,,b,rerror=report,werror=enospc,bus=pcie.0,addr=0x10",
                "-add-fd", "fd=14,set=14", "-blockdev",
                #"{"driver":"raw","node-name":"disk-seed","read-only":true,"#
                    + #""file":{"driver":"file","filename":"/dev/fdset/14"}}"#,
                "-device", "scsi-cd,id=seed,drive=disk-seed,scsi-id=0,bus=scsi.0",
                "-vnc", "unix:/run/machine/vnc", "-device", "virtio-gpu-pci,id=video,bus=pcie.0,addr=0x1",
                "-device", "qemu-xhci,id=usb,p2=8,p3=8,bus=pcie.0,addr=0x2",
                "-device", "usb-kbd,id=keyboard,bus=usb.0", "-device", "usb-tablet,id=pointer,bus=usb.0",
                "-add-fd", "fd=20,set=20", "-device", "usb-host,id=stick,hostdevice=/dev/fdset/20,bus=usb.0",
                "-chardev", "socket,id=tpm,fd=16", "-tpmdev", "emulator,id=chip,chardev=tpm",
                "-device", "tpm-tis-device,id=tpm,tpmdev=chip",
            ] + Self.entropy + [
                "-device", "virtio-rng-pci,id=rng,rng=entropy,bus=pcie.0,addr=0x4",
                "-device", "virtio-balloon-pci,id=balloon,deflate-on-oom=on,bus=pcie.0,addr=0x5",
                "-device", "pvpanic-pci,id=panic,bus=pcie.0,addr=0x7",
                "-device", "i6300esb,id=watchdog,bus=pcie.0,addr=0x19", "-action", "watchdog=reset",
            ]
        #expect(try Machines.arm.arguments() == expected)
    }

    @Test func aMainframe() throws {
        let expected =
            ["-name", "guest=z,process=vm-z,debug-threads=on"] + Self.confined + [
                "-uuid", Machines.uuid, "-machine",
                "s390-ccw-virtio,memory-backend=ram,mem-merge=off,dump-guest-core=off",
                "-accel", "tcg,tb-size=512", "-cpu", "max", "-smp", "1,sockets=1,cores=1,threads=1", "-m", "512M",
                "-object", "memory-backend-ram,id=ram,size=512M", "-rtc", "base=utc", "-boot", "menu=off,strict=off",
                "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
                "-device", "virtio-serial-ccw,id=agents,max_ports=1", "-chardev", "socket,id=console,fd=23",
                "-device", "virtconsole,chardev=console,nr=0,bus=agents.0", "-device", "virtio-scsi-ccw,id=scsi",
                "-add-fd", "fd=13,set=13", "-blockdev", Self.node("qcow2", "disk-root", 13, backing: "null"),
                "-device", "virtio-blk-ccw,id=root,drive=disk-root,rerror=report,werror=enospc",
                "-add-fd", "fd=21,set=21", "-blockdev",
                Self.node("raw", "disk-data", 21, discard: "ignore", zeroes: "on", noFlush: true),
                "-device", "scsi-hd,id=data,drive=disk-data,scsi-id=0,rerror=report,werror=enospc,bus=scsi.0",
                "-netdev", "tap,id=net-net0,fd=15,vhost=on,vhostfd=22",
                "-device", "virtio-net-ccw,id=net0,netdev=net-net0,mac=52:54:00:12:34:56,host_mtu=1400",
                "-display", "none",
            ] + Self.entropy + [
                "-device", "virtio-rng-ccw,id=rng,rng=entropy",
                "-device", "diag288,id=watchdog", "-action", "watchdog=reset",
            ]
        #expect(try Machines.mainframe.arguments() == expected)
    }

    // MARK: What holds for all

    @Test func noMachineHasADeviceThatNobodyAskedFor() throws {
        let forbidden: Set<String> = [
            "floppy", "isa-fdc", "isa-parallel", "sb16", "AC97", "adlib", "gus", "cs4231a", "intel-hda", "e1000",
            "pcnet",
            "ne2k_pci", "ne2k_isa", "cirrus-vga", "vmware-svga", "qxl", "vmxnet3", "lsi53c895a", "megasas",
            "virtio-9p-pci",
            "usb-storage", "sdhci-pci", "vfio-pci", "ivshmem-plain", "virtio-crypto-pci", "i8042", "isa-debug-exit",
        ]
        for board in MachineBoard.allCases {
            #expect(MachineDescription.allowedDevices(on: board).isDisjoint(with: forbidden))
        }
        for machine in Machines.all {
            let names = try machine.deviceNames()
            #expect(Set(names).isSubset(of: MachineDescription.allowedDevices(on: machine.board)))
            let words = try machine.arguments()
            let given = zip(words, words.dropFirst()).filter { $0.0 == "-device" }.map { $0.1.halves(",").0 }
            #expect(given == names)
        }
    }

    /// A machine without anything has the confinement and nothing to attack but the board.
    @Test func anEmptyMachineHasNoDevice() throws {
        for architecture in GuestArchitecture.allCases {
            var machine = MachineDescription(
                name: "empty", uuid: Machines.uuid, architecture: architecture, accelerator: .tcg,
                memory: Machines.memory(mebibytes: 256))
            (machine.hasEntropy, machine.balloon, machine.hotplugPorts) = (false, nil, 0)
            let words = try machine.arguments()
            #expect(try machine.deviceNames().isEmpty)
            for word in ["-nodefaults", "-no-user-config", Self.confined[3]] { #expect(words.contains(word)) }
            for word in ["-device", "-drive", "-chardev", "-monitor", "-fsdev", "-net", "-nic", "-add-fd", "-vnc"] {
                #expect(!words.contains(word))
            }
        }
    }

    @Test func everyBlockNodeIsJSONWithAFormatAndNoFollowedName() throws {
        for machine in Machines.all {
            let words = try machine.arguments()
            for (option, value) in zip(words, words.dropFirst()) where option == "-blockdev" {
                let json = try JSON(parsing: Array(value.utf8))
                #expect(
                    json["driver"] == .string("raw") || json["driver"] == .string("qcow2") && json["backing"] != nil)
            }
        }
    }

    /// Windows under the translator has no Hyper-V, which only KVM can be.
    @Test func emulatedWindowsHasNoHyperV() throws {
        var machine = Machines.windows
        machine.accelerator = .tcg
        let words = try machine.arguments()
        let place = try #require(words.firstIndex(of: "-cpu"))
        #expect(words[place + 1] == "max")
        #expect(!words.contains("kvm-pit.lost_tick_policy=delay"))
        #expect(words.contains("base=localtime,driftfix=slew"))
    }

    @Test func aProcessorAsTheUserWantsIt() throws {
        var machine = Machines.installer
        machine.cpu = MachineDescription.CPU(sockets: 2, model: "Skylake-Client-v4")
        machine.cpu.features = [
            MachineDescription.CPU.Feature("vmx", isOn: false), MachineDescription.CPU.Feature("sse4.2", isOn: true),
        ]
        let words = try machine.arguments()
        #expect(words.contains("Skylake-Client-v4,vmx=off,sse4.2=on"))
        #expect(words.contains("2,sockets=2,cores=1,threads=1"))
    }

    @Test func hugePages() throws {
        var machine = Machines.micro
        machine.memory = Machines.memory(mebibytes: 256, .hugePages(bytes: 2 << 20))
        let expected = "memory-backend-memfd,id=ram,size=256M,share=on,hugetlb=on,hugetlbsize=2048K,prealloc=on"
        #expect(try machine.arguments().contains(expected))
    }

    /// A card that comes or goes moves no other device.
    @Test func slotsStay() throws {
        var machine = Machines.windows
        let before = try machine.arguments()
        machine.nics.append(MachineDescription.NIC(id: "net1", mac: "52:54:00:12:34:57", tap: 30))
        machine.disks.append(Machines.disk("more", 31))
        machine.hasWatchdog = true
        let after = Set(try machine.arguments())
        for word in before { #expect(after.contains(word)) }
    }
}
