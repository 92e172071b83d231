// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import HVBridge
import Images
import LinuxSystem
import Namespaces
import Network
import OCI

/// What follows from a machine's settings.
extension MachineSettings {
    /// Bytes of memory of a guest of which nothing was said.
    private static let (microMemory, fullMemory): (Int64, Int64) = (512 << 20, 2 << 30)
    /// With less the kernel and its initramfs find no room.
    static let leastMemory: Int64 = 128 << 20
    /// What QEMU itself may take beside the guest's memory: its code and heap, caches of disks, translated code.
    static let (overhead, translation): (Int64, Int64) = (384 << 20, 256 << 20)

    func guestArchitecture() throws(ZoneError) -> GuestArchitecture {
        let name = architecture ?? Image.machine.architecture
        if let found = GuestArchitecture(ociName: name) { return found }
        let known = GuestArchitecture.allCases.map(\.ociName).joined(separator: ", ")
        throw ZoneError(
            .invalid, "--arch \"\(name)\" is no architecture that machines can have", hint: "one of \(known)")
    }

    func decideAccelerator(_ guest: GuestArchitecture) throws(ZoneError) -> AcceleratorChoice.Decision {
        guard let choice = AcceleratorChoice(rawValue: accelerator) else {
            throw ZoneError(.invalid, "--accel \"\(accelerator)\" is not known", hint: "give auto, kvm or tcg")
        }
        do throws(MachineFault) { return try choice.decide(for: guest) } catch {
            throw ZoneError(.unsupported, error.detail, hint: error.hint)
        }
    }

    /// Bytes of memory of the guest: what `--memory` limits a container to.
    func guestMemory(_ definition: ZoneDefinition) -> Int64 {
        let wanted = definition.resources.memory?.limit.flatMap { $0 > 0 ? $0 : nil }
        let bytes = memory ?? wanted ?? (kind == .micro ? MachineSettings.microMemory : MachineSettings.fullMemory)
        // Whole mebibytes are what boards take.
        return max(bytes, 1 << 20) / (1 << 20) * (1 << 20)
    }

    /// Virtual CPUs: as many as the limit of CPU time wants, else 2 of those that the host has.
    func topology(_ definition: ZoneDefinition) throws(ZoneError) -> (sockets: Int64, cores: Int64, threads: Int64) {
        let host = Int64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        var cores = self.cores ?? min(host, 2)
        if self.cores == nil, let cpu = definition.resources.cpu, let quota = cpu.quota, quota > 0 {
            let period = Int64(cpu.period ?? 100_000)
            cores = max(1, (quota + period - 1) / max(period, 1))
        }
        let (perSocket, isTooMany) = cores.multipliedReportingOverflow(by: threads)
        let (all, isStill) = perSocket.multipliedReportingOverflow(by: sockets)
        guard !isTooMany, !isStill, cores > 0, threads > 0, sockets > 0 else {
            throw ZoneError(.invalid, "--vcpus: sockets, cores and threads must be 1 or more")
        }
        guard all <= host else {
            throw ZoneError(
                .invalid, "\(all) virtual CPUs are more than the \(host) that the host has",
                hint: "give at most \(host) by --vcpus or --cpus")
        }
        return (sockets, cores, threads)
    }

    /// Host CPUs of each virtual CPU.
    func pinnedCPUs() throws(ZoneError) -> [[Int64]] {
        var result: [[Int64]] = []
        for text in pins {
            if text.isEmpty {
                result.append([])
                continue
            }
            guard let set = CPUSet(text) else {
                throw ZoneError(.invalid, "--vcpu-pin \"\(text)\" is not a list of CPUs", hint: "such as 0-3,6")
            }
            let numbers = (0..<CPUSet.limit).filter { set.contains($0) }.map { Int64($0) }
            let host = Int64(max(1, sysconf(Int32(_SC_NPROCESSORS_CONF))))
            if let missing = numbers.first(where: { $0 >= host }) {
                throw ZoneError(.invalid, "--vcpu-pin \"\(text)\": the host has no CPU \(missing)")
            }
            result.append(numbers)
        }
        return result
    }

    /// The address and port of `--vnc ADDRESS:PORT`. Only the host's own: what VNC protects is little (P20).
    static func viewerPlace(_ text: String) throws(ZoneError) -> (address: IPAddress, port: UInt16) {
        let fault = ZoneError(
            .invalid, "--vnc \"\(text)\" is not a place for viewers",
            hint:
                "give 'unix', or a port of the host's loopback such as 127.0.0.1:5901; 'ssh -L' leads there from elsewhere"
        )
        let bytes = Array(text.utf8)
        guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")) else { throw fault }
        var host = String(decoding: bytes[..<colon], as: UTF8.self)
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard let port = UInt16(String(decoding: bytes[(colon + 1)...], as: UTF8.self)), port > 0,
            let address = IPAddress(host.isEmpty || host == "localhost" ? "127.0.0.1" : host), address.isLoopback
        else { throw fault }
        return (address, port)
    }

    /// Refuses what is no place for viewers.
    public static func checkViewers(_ text: String) throws(ZoneError) { _ = try viewerPlace(text) }

    var card: MachineDescription.NIC.Model {
        switch cardModel {
        case .virtio, nil: .virtio
        case .e1000e: .e1000e
        case .rtl8139: .rtl8139
        }
    }

    var model: MachineDescription.Disk.Model {
        switch diskModel {
        case .virtio, nil: .virtio
        case .sata: .ahci
        case .nvme: .nvme
        case .scsi: .scsi
        }
    }
}

extension ZoneDefinition {
    /// Whether the zone is a virtual machine that boots its own disks.
    var bootsDisk: Bool { machine?.kind == .full }

    /// The limits of the zone's control groups: a machine's own memory, and what QEMU needs beside it.
    func machineResources(_ machine: MachineSettings, _ accelerator: Accelerator) -> Spec.Resources {
        guard let limit = resources.memory?.limit, limit > 0 else { return resources }
        let extra =
            MachineSettings.overhead + (accelerator == .tcg ? MachineSettings.translation : 0)
            + max(0, machine.guestMemory(self) - limit)
        return resources.withMemory(extra)
    }
}

extension Spec.Resources {
    /// The same with so many bytes more wherever memory is limited: what QEMU takes beside the guest's.
    func withMemory(_ extra: Int64) -> Spec.Resources {
        // Engines write the largest number there is for "no limit".
        let more = { (bytes: Int64) in bytes.addingReportingOverflow(extra) }
        var grown = self
        if let limit = memory?.limit, limit > 0 {
            grown.memory?.limit = more(limit).overflow ? limit : more(limit).partialValue
        }
        if let swap = memory?.swap, swap > 0 {
            grown.memory?.swap = more(swap).overflow ? swap : more(swap).partialValue
        }
        return grown
    }
}

/// Settles what a machine is, when its zone is made.
enum MachinePlanner {
    /// Users that nothing else on a host has: the range that systemd's documentation ("Users, Groups, UIDs and GIDs on systemd systems") calls
    /// unused, so that a random one is free but for other machines'.
    private static let users: ClosedRange<Int64> = 1_879_048_192...2_147_483_640

    static func settle(_ definition: inout ZoneDefinition, _ store: ZoneStore) throws(ZoneError) {
        guard var machine = definition.machine else { return }
        definition.type = "vm"
        if Rootless.isInside {
            throw ZoneError(
                .unsupported, "virtual machines need root: each has a user of its own on the host",
                hint: "try sudo; a container of the same image needs no rights")
        }
        try refuse(definition)
        if machine.kind == .full {
            // A machine has a console: what it says there is its log, and `attach` logs in there.
            definition.hasTerminal = true
            definition.isInteractive = true
        }
        let architecture = try machine.guestArchitecture()
        let cpus = try machine.topology(definition)
        let count = Int(clamping: cpus.sockets * cpus.cores * cpus.threads)
        guard try machine.pinnedCPUs().count <= count else {
            throw ZoneError(
                .invalid, "--vcpu-pin: the machine has no virtual CPU \(machine.pins.count - 1), but \(count), from 0")
        }
        try checkMemory(machine, definition)
        if machine.accelerator == "kvm" { _ = try machine.decideAccelerator(architecture) }
        if machine.uuid.isEmpty { machine.uuid = try newUUID() }
        if machine.user == 0 { machine.user = newUser(store) }
        definition.machine = machine
    }

    /// What a machine has no use for is refused, and not left out: nobody is to believe that it holds.
    private static func refuse(_ definition: ZoneDefinition) throws(ZoneError) {
        var refused: [(isWanted: Bool, option: String, hint: String?)] = [
            (definition.network == .host, "--network host", "a machine has a network of its own: --network zone0"),
            (definition.network == .zone, "--network zone:NAME", "put both into one network: --network NAME"),
            (!definition.devices.isEmpty, "--device", "give a disk with --disk, a USB device with --usb"),
            (
                definition.seccompProfile != nil, "--security-opt seccomp",
                "a machine has QEMU's own filter and the default one"
            ),
            (
                definition.networks.contains { if case .macvlan = $0.kind { true } else { false } },
                "--network macvlan:",
                "use a bridge of the host's: --network bridge:LINK"
            ),
            (
                (definition.resources.pids?.limit ?? 0) > 0, "--pids-limit",
                "processes in a machine are its own kernel's matter"
            ),
            (definition.maxUsers != nil, "--max-users", nil),
            (definition.systemMode == .always, "--systemd always", nil),
            (definition.procView == .zone, "--proc zone", "a machine's /proc is its own kernel's"),
        ]
        if definition.bootsDisk { refused += ofContainers(definition) }
        for entry in refused where entry.isWanted {
            let what = definition.bootsDisk ? "a machine that boots a disk" : "a virtual machine"
            throw ZoneError(.unsupported, "\(entry.option) means nothing to \(what)", hint: entry.hint)
        }
    }

    /// What concerns programs that zonectl itself starts.
    private static func ofContainers(
        _ definition: ZoneDefinition
    ) -> [(isWanted: Bool, option: String, hint: String?)] {
        [
            (
                !definition.mounts.isEmpty, "-v (--volume, --mount, --tmpfs)",
                "folders of the host's are for micro machines: --vm=micro"
            ),
            (!definition.command.isEmpty, "a command", "what it runs is on its disk"),
            (definition.entrypoint != nil, "--entrypoint", nil), (definition.user != nil, "--user", nil),
            (!definition.environment.isEmpty, "--env", "use --user-data for systems with cloud-init"),
            (definition.workingDirectory != nil, "--workdir", nil), (!definition.sysctls.isEmpty, "--sysctl", nil),
            (!definition.addedCapabilities.isEmpty, "--cap-add", nil),
            (!definition.droppedCapabilities.isEmpty, "--cap-drop", nil),
            (!definition.limits.isEmpty, "--ulimit", nil), (definition.runsInit, "--init", nil),
            (definition.isReadOnly, "--read-only", "a disk is read-only with --disk PATH,ro"),
            (
                definition.allowsNewPrivileges || definition.forbidsNewPrivileges, "--security-opt no-new-privileges",
                nil
            ),
            (definition.storage != nil, "--storage", "a new disk has its size: --disk new:SIZE"),
            (!definition.hosts.isEmpty, "--add-host", nil), (!definition.nameServers.isEmpty, "--dns", nil),
            (definition.health != nil, "a health check", "it would be a program in the machine"),
        ]
    }

    private static func checkMemory(_ machine: MachineSettings, _ definition: ZoneDefinition) throws(ZoneError) {
        let wanted = machine.guestMemory(definition)
        let least = machine.kind == .micro ? MachineSettings.leastMemory : 64 << 20
        if wanted < least {
            throw ZoneError(
                .invalid, "\(ByteSize.text(wanted)) of memory are too little for a kernel of one's own",
                hint: "give at least \(least >> 20)M by --memory")
        }
        if let host = HostUsage().memory, UInt64(wanted) > host {
            throw ZoneError(
                .invalid,
                "\(ByteSize.text(wanted)) of memory are more than the \(ByteSize.text(Int64(clamping: host))) that the host has",
                hint: "give less by --memory")
        }
        try checkPool(machine, wanted)
        if let page = machine.hugePages, wanted % page != 0 {
            throw ZoneError(
                .invalid, "\(ByteSize.text(wanted)) of memory are no whole number of pages of \(ByteSize.text(page))")
        }
    }

    /// Whether the host has set aside enough pages, Documentation/admin-guide/mm/hugetlbpage.rst.
    static func checkPool(_ machine: MachineSettings, _ wanted: Int64) throws(ZoneError) {
        guard let page = machine.hugePages else { return }
        let pool = "/sys/kernel/mm/hugepages/hugepages-\(page / 1024)kB"
        guard let bytes = try? readHostFile("\(pool)/free_hugepages", limit: 64),
            let free = Int64(String(decoding: bytes, as: UTF8.self).fields("\n").first ?? "")
        else {
            throw ZoneError(
                .unsupported, "--hugepages: this host has no pages of \(ByteSize.text(page))",
                hint: "'ls /sys/kernel/mm/hugepages' lists the sizes that it has")
        }
        let needed = wanted / page
        guard free >= needed else {
            throw ZoneError(
                .wrongState, "--hugepages: \(needed) pages of \(ByteSize.text(page)) are needed, and \(free) are free",
                hint: "set some aside: echo NUMBER > \(pool)/nr_hugepages")
        }
    }

    /// RFC 9562, version 4.
    static func newUUID() throws(ZoneError) -> String {
        let text = Array(try SystemZone.newMachineID())
        var result = ""
        for (index, digit) in text.enumerated() {
            if [8, 12, 16, 20].contains(index) { result.append("-") }
            result.append(digit)
        }
        return result
    }

    static func newUser(_ store: ZoneStore) -> Int64 {
        let taken = ((try? store.names()) ?? []).compactMap { (try? store.definition(of: $0))??.machine?.user }
        for _ in 0..<64 {
            let user = Int64.random(in: users)
            if !taken.contains(user) { return user }
        }
        return Int64.random(in: users)
    }
}
