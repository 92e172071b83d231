// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import HVBridge
import Images
import LinuxSystem
import OCI

/// What can be done with machines that run.
public struct MachineVerbs: Sendable {
    let store: ZoneStore

    public init(_ folders: ZoneFolders) { store = ZoneStore(folders) }

    init(_ store: ZoneStore) { self.store = store }

    /// Asks the monitor of a zone for something.
    @discardableResult
    func ask(
        _ zone: String, _ request: MachineRequest, milliseconds: Int64 = 30_000
    ) throws(ZoneError) -> MachineStatus {
        var client = try MachineClient(store, zone)
        return try client.ask(request, milliseconds: milliseconds)
    }

    /// The name and settings of a zone that is a machine and runs.
    private func find(_ verb: String, _ name: String) throws(ZoneError) -> (zone: String, machine: MachineSettings) {
        let entry = try store.find(name)
        guard let machine = try store.definition(of: entry.name)?.machine else {
            throw ZoneError(.unsupported, "\(verb): zone \(entry.name) is a container, and no virtual machine")
        }
        _ = try entry.state.livingProcess(for: verb, of: entry.name)
        return (entry.name, machine)
    }

    /// Presses the reset button.
    public func reset(_ name: String) throws(ZoneError) {
        let (zone, machine) = try find("reset", name)
        if machine.kind == .micro {
            throw ZoneError(
                .unsupported, "reset: micro machine \(zone) ends where its kernel does",
                hint: "'zonectl restart \(zone)' starts it again")
        }
        try ask(zone, MachineRequest(.reset))
        EventLog(store.folders).record(.restart, zone: zone, ["by": "reset"])
    }

    /// Presses keys, one chord after the other, such as `ctrl-alt-delete`; `types`: words are texts to be typed.
    public func sendKeys(_ words: [String], types: Bool, to name: String) throws(ZoneError) {
        let (zone, machine) = try find("sendkey", name)
        guard machine.hasDisplay else { throw withoutDisplay("sendkey", zone, "a keyboard") }
        var request = MachineRequest(.sendKeys)
        do throws(KeyNameError) {
            for word in words {
                let chords = types ? try KeyNames.typing(word) : [try KeyNames.chord(word)]
                request.keys += chords.map { $0.keys.map(\.rawValue) }
            }
        } catch {
            throw ZoneError(.invalid, "sendkey: \(error)")
        }
        try ask(zone, request)
    }

    /// Writes what is on the machine's screen to a file, as PNG; `-` is stdout.
    public func screenshot(of name: String, to path: String) throws(ZoneError) {
        let (zone, machine) = try find("screenshot", name)
        guard machine.hasDisplay else { throw withoutDisplay("screenshot", zone, "a screen") }
        var request = MachineRequest(.screenshot)
        request.file = "screen-\(getpid()).png"
        try ask(zone, request)
        let attempt = "screenshot of zone \(zone)"
        let bytes = try attempting(attempt) { () throws(SystemError) in
            let folder = try Descriptor.open(
                "\(store.folders.volatile(zone))/\(MachinePlaces.hostFolder)", [.readOnly, .directory])
            defer { try? folder.remove(request.file) }
            // QEMU has written it: a file of that name, and no larger than a screen can be.
            let file = try folder.open(request.file, [.readOnly, .noFollow, .nonBlocking], resolve: .beneath)
            return try file.readAll(limit: 64 << 20)
        }
        guard bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else {
            throw ZoneError(.system, "\(attempt): what QEMU wrote is no PNG")
        }
        try attempting(attempt) { () throws(SystemError) in
            if path == "-" {
                try Descriptor.duplicate(of: 1).writeAll(bytes, "stdout")
            } else {
                let file = try Descriptor.open(path, [.writeOnly, .create, .truncate], mode: 0o644)
                try file.writeAll(bytes, path)
            }
        }
    }

    private func withoutDisplay(_ verb: String, _ zone: String, _ what: String) -> ZoneError {
        ZoneError(
            .unsupported, "\(verb): machine \(zone) has no display, and so not \(what)", hint: "it gets one by --vnc")
    }

    /// How a machine that runs is, as QEMU and its guest say.
    public func status(of name: String) throws(ZoneError) -> MachineStatus {
        let (zone, machine) = try find("inspect", name)
        var status = try ask(zone, MachineRequest(.status))
        if machine.kind == .micro, let guest = try? statistics(zone) {
            status.memoryTotal = guest.memoryTotal
            status.memoryAvailable = guest.memoryAvailable
        }
        return status
    }

    /// What the guest says of its memory, in bytes; nil where nothing in it tells at once.
    func memory(of zone: String) -> (total: UInt64, available: UInt64)? {
        // An engine's is always a micro machine.
        let kind = ((try? store.definition(of: zone)) ?? nil)?.machine?.kind ?? .micro
        if kind == .micro {
            guard let guest = try? statistics(zone, milliseconds: 1000) else { return nil }
            return (UInt64(clamping: guest.memoryTotal), UInt64(clamping: guest.memoryAvailable))
        }
        guard let status = try? ask(zone, MachineRequest(.status), milliseconds: 1000),
            let total = status.memoryTotal, let available = status.memoryAvailable
        else { return nil }
        return (UInt64(clamping: total), UInt64(clamping: available))
    }

    private func statistics(_ zone: String, milliseconds: Int64 = 5000) throws(ZoneError) -> GuestStatistics {
        var request = GuestRequest()
        request.action = .statistics
        let frame = GuestFrame(.open, MachineGuest.mainSession, request.serialized())
        var client = try MachineClient(store, zone)
        let bytes = try client.answer(to: frame, milliseconds: milliseconds)
        guard let answer = try? GuestStatistics(parsing: bytes) else {
            throw ZoneError(.system, "the machine of zone \(zone) answers nonsense")
        }
        return answer
    }

    // MARK: Programs in the guest

    /// Executes a program in a micro machine.
    func exec(
        _ request: ExecRequest, in zone: String, _ definition: ZoneDefinition, _ machine: MachineSettings,
        _ signals: borrowing SignalQueue, report: @escaping @Sendable (String) -> Void
    ) throws(ZoneError) -> Int32 {
        try requireAgent("exec", zone, machine)
        let image = try ZoneLifecycle(store).image(of: definition)
        let spec = try SpecBuilder(
            definition: definition, image: image.configuration.config ?? .init(), volatile: "", persistent: "",
            cgroupsPath: "", report: { _ in }
        ).spec(windowSize: nil)
        var guest = GuestRequest()
        guest.action = .exec
        guest.isInteractive = request.isInteractive
        guest.process = try ZoneExecutor.process(request, spec)
        EventLog(store.folders).record(.exec, zone: zone, ["command": request.arguments.first ?? ""])
        let session = MachineSession(
            try MachineClient(store, zone), input: request.isInteractive ? 0 : nil, hasTerminal: request.hasTerminal)
        return try session.run(guest, signals)
    }

    func requireAgent(_ verb: String, _ zone: String, _ machine: MachineSettings) throws(ZoneError) {
        if machine.kind == .micro { return }
        throw ZoneError(
            .unsupported, "\(verb): machine \(zone) boots a system of its own, in which zonectl has no agent",
            hint: "log in at its console ('zonectl attach \(zone)') or by ssh")
    }
}

/// What a machine would be, for `run --dry-run`.
public enum MachinePreview {
    public static func text(_ definition: ZoneDefinition) throws(ZoneError) -> String {
        guard var machine = definition.machine else {
            throw ZoneError(.invalid, "--dry-run is for virtual machines", hint: "give --vm as well")
        }
        var lines: [String] = []
        if machine.kind == .full {
            let plan = try MachineDiskPlan(machine)
            machine = plan.machine
            lines += plan.reasons
        } else {
            lines.append("micro machine: the image \(definition.image) under a kernel of its own")
        }
        let architecture = try machine.guestArchitecture()
        let decision = try machine.decideAccelerator(architecture)
        lines.append(
            "processor \(architecture.ociName), accelerator \(decision.accelerator.rawValue)"
                + (decision.reason.map { ": \($0)" } ?? ""))
        let cpus = try machine.topology(definition)
        lines.append(
            "virtual CPUs: \(cpus.sockets * cpus.cores * cpus.threads) (\(cpus.sockets) sockets, \(cpus.cores) cores, \(cpus.threads) threads)"
        )
        lines.append("memory: \(ByteSize.text(machine.guestMemory(definition)))")
        if machine.kind == .full {
            lines.append(
                "disk model \((machine.diskModel ?? .virtio).rawValue), network model \((machine.cardModel ?? .virtio).rawValue)"
            )
            lines.append(
                "clock \((machine.clock ?? .utc).rawValue), TPM \(machine.tpm ?? false ? "yes" : "no"), secure boot \(machine.isSecure ? "yes" : "no")"
            )
            lines.append("display: " + (machine.hasDisplay ? "VNC, \(machine.vnc ?? "unix") " : "none"))
        }
        return lines.map { $0 + "\n" }.joined()
    }
}
