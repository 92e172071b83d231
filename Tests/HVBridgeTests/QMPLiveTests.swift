// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import Testing

@testable import HVBridge

/// The same against QEMU itself: machines of the emulator that run no code, or none at all.
@Suite(.serialized, .timeLimit(.minutes(2))) struct QMPLiveTests {
    private static let program = "/usr/bin/qemu-system-x86_64"
    private static let isThere = access(program, X_OK) == 0
    private static let because: Comment = "there is no /usr/bin/qemu-system-x86_64"
    /// For a loaded machine: nothing here waits so long otherwise.
    private static let patience = 60_000

    /// A process that is killed in the end.
    private struct Victim: ~Copyable {
        let process: ProcessHandle

        deinit {
            try? process.signal(SIGKILL)
            _ = try? process.wait()
        }
    }

    /// A QEMU process with a connection to it.
    private struct Machine: ~Copyable {
        let victim: Victim
        var qmp: QMPConnection

        init(_ arguments: [String]) throws {
            let pair = try QMPSocketPair()
            let silence = try Descriptor.open("/dev/null", [.writeOnly])
            var host = try HostProgram(
                QMPLiveTests.program,
                arguments + [
                    "-nodefaults", "-no-user-config", "-display", "none", "-chardev", "socket,id=q,fd=3", "-mon",
                    "chardev=q,mode=control",
                ])
            host.inherited = [pair.theirs.raw]
            victim = Victim(process: try host.start(output: silence.raw, errors: silence.raw))
            qmp = QMPConnection(pair.takeOurs())
        }

        static func started(_ arguments: [String]) throws -> Machine {
            var machine = try Machine(arguments)
            try machine.qmp.negotiate(milliseconds: QMPLiveTests.patience)
            return machine
        }
    }

    /// Waits until an event of the kind came.
    private func wait(_ qmp: inout QMPConnection, for kind: QMPEvent.Kind) throws -> Bool {
        while true {
            while let event = qmp.nextEvent() { if event.kind == kind { return true } }
            guard try waitReadable(qmp.raw, milliseconds: Self.patience) else { return false }
            _ = try qmp.receive()
        }
    }

    @Test(.enabled(if: isThere, because)) func aMachineIsStoppedContinuedAndEnded() throws {
        var machine = try Machine.started(["-M", "none"])
        #expect((machine.qmp.version?.number.major ?? 0) >= 6)
        #expect(try machine.qmp.execute(QMP.QueryVersion()) == machine.qmp.version)
        #expect(try machine.qmp.execute(QMP.QueryStatus()).isRunning)
        _ = try machine.qmp.execute(QMP.Stop())
        #expect(try machine.qmp.execute(QMP.QueryStatus()).status == .paused)
        _ = try machine.qmp.execute(QMP.Continue())
        #expect(try wait(&machine.qmp, for: .stop))
        #expect(try wait(&machine.qmp, for: .resume))
        let refusal = failure { () throws(QMPError) in try machine.qmp.execute(QMP.QueryBalloon()) }
        guard case .refused("query-balloon", .deviceNotActive, _) = refusal else {
            Issue.record("\(reason(refusal))")
            return
        }
        _ = try machine.qmp.execute(QMP.Quit())
        #expect(try wait(&machine.qmp, for: .shutdown(guest: false, reason: "host-qmp-quit")))
        #expect(try machine.victim.process.wait() == .exited(0))
        let end = failure { () throws(QMPError) in while try waitAndReceive(&machine.qmp) {} }
        #expect(kind(end) == "closed")
    }

    private func waitAndReceive(_ qmp: inout QMPConnection) throws(QMPError) -> Bool {
        while qmp.nextEvent() != nil {}
        _ = try qmp.receive()
        return true
    }

    @Test(.enabled(if: isThere, because)) func aKilledMachineIsClosed() throws {
        var machine = try Machine.started(["-M", "none"])
        try machine.victim.process.signal(SIGKILL)
        let error = failure { () throws(QMPError) in
            while true { _ = try machine.qmp.execute(QMP.QueryStatus(), milliseconds: Self.patience) }
        }
        #expect(kind(error) == "closed")
    }

    /// Names of commands and arguments are right if QEMU complains of none.
    @Test(.enabled(if: isThere, because)) func everyCommandIsKnownWithItsArguments() throws {
        var machine = try Machine.started(["-M", "none"])
        func complaint<C: QMPCommand>(_ command: C) throws -> String? {
            do throws(QMPError) { _ = try machine.qmp.execute(command, milliseconds: Self.patience) } catch {
                guard case .refused(_, let kind, let text) = error else { throw error }
                if kind == .commandNotFound || text.holds("nexpected") || text.holds("nvalid parameter") { return text }
                if text.holds("issing") || text.holds("Parameter") { return text }
            }
            return nil
        }
        #expect(try complaint(QMP.SystemReset()) == nil)
        #expect(try complaint(QMP.SystemPowerdown()) == nil)
        #expect(try complaint(QMP.InjectNMI()) == nil)
        #expect(try complaint(QMP.Screendump(filename: "/dev/null")) == nil)
        #expect(try complaint(QMP.SendKey(KeyChord(Array(QKeyCode.allCases)), holdMilliseconds: 1)) == nil)
        #expect(try complaint(QMP.SetPassword("secret")) == nil)
        #expect(try complaint(QMP.ExpirePassword("never")) == nil)
        #expect(try complaint(QMP.RemoveDescriptor(set: 5, number: 6)) == nil)
        #expect(try complaint(QMP.AddClient(descriptorName: "x")) == nil)
        #expect(try complaint(QMP.DeviceDelete(id: "x")) == nil)
        #expect(try complaint(QMP.Balloon(bytes: 1 << 28)) == nil)
        #expect(try complaint(QMP.QueryBalloon()) == nil)
        #expect(try complaint(QMP.QueryBlock()) == nil)
        #expect(try complaint(QMP.QueryBlockStatistics()) == nil)
        #expect(try complaint(QMP.QueryCPUs()) == nil)
        #expect(try complaint(QMP.QueryKVM()) == nil)
        #expect(try complaint(QMP.GetProperty(path: "/machine", property: "type")) == nil)
        #expect(try complaint(QMP.SetProperty(path: "/machine", property: "x", value: .bool(true))) == nil)
    }

    @Test(.enabled(if: isThere, because)) func aMachineWithDevicesTellsOfThem() throws {
        var machine = try Machine.started([
            "-M", "q35", "-accel", "tcg", "-S", "-m", "64", "-smp", "2", "-device", "VGA,id=vga", "-device",
            "virtio-balloon-pci,id=balloon", "-device", "pcie-root-port,id=slot0", "-blockdev",
            "driver=null-co,node-name=disk,size=1048576,read-zeroes=on", "-device", "virtio-blk-pci,drive=disk,id=vda",
        ])
        #expect(try machine.qmp.execute(QMP.QueryStatus()).status == .prelaunch)
        let processors = try machine.qmp.execute(QMP.QueryCPUs())
        #expect(processors.map(\.index) == [0, 1])
        #expect(processors.allSatisfy { $0.thread > machine.victim.process.pid })
        #expect(try machine.qmp.execute(QMP.QueryBalloon()).actual == 64 << 20)
        let path = "/machine/peripheral/balloon"
        _ = try machine.qmp.execute(QMP.PollGuestMemory(path: path, seconds: 1))
        let memory = try machine.qmp.execute(QMP.GetGuestMemory(path: path))
        #expect(memory.free == nil && memory.lastUpdate == nil)
        let disks = try machine.qmp.execute(QMP.QueryBlock())
        #expect(disks.count == 1)
        #expect(disks.first?.medium?.image.virtualSize == 1 << 20)
        #expect(disks.first?.medium?.node == "disk")
        #expect(disks.first?.guestDevice.isEmpty == false)
        let statistics = try machine.qmp.execute(QMP.QueryBlockStatistics())
        #expect(statistics.first?.counts.reads == 0)
        #expect(statistics.first?.node == "disk")
        _ = try machine.qmp.execute(QMP.DeviceAdd(driver: "virtio-rng-pci", id: "rng", bus: "slot0"))
        #expect(
            kind(
                failure { () throws(QMPError) in
                    try machine.qmp.execute(QMP.DeviceAdd(driver: "virtio-rng-pci", id: "rng", bus: "slot0"))
                }) == "refused")
    }

    @Test(.enabled(if: isThere, because)) func aPictureGoesIntoADescriptorOfOurs() throws {
        var machine = try Machine.started(["-M", "q35", "-accel", "tcg", "-S", "-m", "64", "-device", "VGA,id=vga"])
        let picture = try Descriptor.inMemory("picture")
        let writable = try Descriptor.open("/proc/self/fd/\(picture.raw)", [.writeOnly])
        let added = try machine.qmp.execute(QMP.AddDescriptor(note: "picture"), sending: writable.raw)
        _ = try machine.qmp.execute(
            QMP.Screendump(filename: "/dev/fdset/\(added.set)", device: "vga"), milliseconds: Self.patience)
        _ = try machine.qmp.execute(QMP.RemoveDescriptor(set: added.set, number: added.number))
        picture.rewind()
        #expect(try picture.read(upTo: 8) == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
        let client = try QMPSocketPair()
        _ = try machine.qmp.execute(QMP.GetDescriptor(name: "client"), sending: client.theirs.raw)
        // There is no VNC server here: what counts is whether the descriptor is found by its name.
        let known = failure { () throws(QMPError) in
            try machine.qmp.execute(QMP.AddClient(descriptorName: "client"))
        }
        let unknown = failure { () throws(QMPError) in
            try machine.qmp.execute(QMP.AddClient(descriptorName: "nobody"))
        }
        #expect(!reason(known).holds("has not been found"), "\(reason(known))")
        #expect(reason(unknown).holds("has not been found"), "\(reason(unknown))")
    }
}
