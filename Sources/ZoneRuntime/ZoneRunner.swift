// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import Images
import LinuxSystem
import Namespaces

/// Makes a zone, runs it in the foreground and stays with it until it ends.
///
///     claim the name, lock    STORE/zones/NAME exists: the zone can be listed and removed from here on
///     start                   ``ZoneStarter``
///     wait                    terminal and signals are passed on
///     record `stopped`        or remove everything, with --rm
public struct ZoneRunner: Sendable {
    private let store: ZoneStore
    /// Gets lines for people: warnings and the reason why the kernel killed something.
    private let report: @Sendable (String) -> Void

    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void) {
        store = ZoneStore(folders)
        self.report = report
    }

    /// Runs the zone and returns its first process's exit status, as a shell shows it.
    public func run(_ wanted: ZoneDefinition, name: String?) throws(ZoneError) -> Int32 {
        // First: who does not find it may go and fetch it, which a signal must be able to end.
        let image = try store.image(for: wanted)
        // Before anything can wait for them; children start with an empty mask.
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        let claim = try store.claim(name)
        var rollback = Rollback()
        let zone = claim.name
        // Whatever cannot be removed now is still listed, and removed by `rm -f`.
        rollback.add { [store] in try? store.eraseInterrupted(zone) }
        // Before the layers are looked up: an image that a definition names is not removed.
        let definition = try store.define(wanted, image, claim)

        let starter = ZoneStarter(store: store, report: report)
        var prepared = try starter.prepare(definition, image, claim, .init())
        let streams =
            definition.hasTerminal
            ? ProcessStreams() : try ProcessStreams(&prepared.plan, passesInput: definition.isInteractive)
        var started = try starter.launch(prepared, interruptedBy: signals)
        rollback.commit()
        drop(claim)
        let events = EventLog(store.folders)
        events.record(.start, zone: zone, ["image": image.name])

        let lost = ForegroundSession.attend(
            &started.launching, streams: streams, signals: signals, passesInput: wanted.isInteractive,
            endSignal: definition.initSystem.map { _ in ZoneControl(store.folders).stopSignal(definition) },
            report: report)
        let status = try attempting("wait for zone \(zone)") { () throws(SystemError) in
            try started.launching.process.wait()
        }
        var code = status.shellCode
        if definition.initSystem != nil {
            if InitSystem.isReboot(code) {
                report("zone \(zone) wants to boot again: 'zonectl start \(zone)' does that")
            }
            code = InitSystem.isReboot(code) ? InitSystem.rebootStatus : InitSystem.exitStatus(code) ?? code
        }
        events.record(.die, zone: zone, ["exitCode": String(code)])
        // The program's status is told also when its remains cannot be removed: the next `rm` will.
        do throws(ZoneError) {
            try ZoneEnd(store: store).record(
                &started.record, exitCode: code, started.groups, removes: definition.autoRemove,
                volumes: definition.anonymousVolumes, report: report)
        } catch {
            report("\(error)")
        }
        return lost && code == 0 ? 125 : code
    }
}

extension ZoneStore {
    /// The image that a new zone is made from: none for a machine that boots its own disk.
    func image(for wanted: ZoneDefinition) throws(ZoneError) -> Image {
        if wanted.bootsDisk { return Image.none(wanted.image) }
        let image = try attemptingImage { () throws(ImageError) in try folders.images.find(wanted.image) }
        try ForeignPrograms.check(wanted, image.platform, name: image.name)
        return image
    }

    /// Writes what a claimed zone is to be.
    func define(
        _ wanted: ZoneDefinition, _ image: Image, _ claim: borrowing Claim
    ) throws(ZoneError) -> ZoneDefinition {
        var definition = wanted
        definition.name = claim.name
        // Who names a digest wants that one, whatever becomes of the name beside it.
        if !definition.bootsDisk {
            if !ImageStore.isPinned(wanted.image) { definition.image = image.name }
            definition.imageDigest = image.digest
        }
        definition.created = Int64(time(nil))
        if definition.machine != nil {
            try MachinePlanner.settle(&definition, self)
            try MachineDisks(self).make(&definition, in: claim.persistent)
        } else {
            try SystemZone.settle(&definition, image, folders.images)
        }
        try definition.addVolumes(of: image)
        definition.nameVolumes()
        if definition.storage != nil, definition.machine == nil {
            try StorageMaker(self).make(&definition, in: claim.persistent)
        }
        // No network goes until the definition says who is in it.
        let networks = try NetworkStore(self).provided(for: definition)
        defer { networks?.unlock() }
        try NetworkLeases(self).lease(&definition)
        do throws(ZoneError) {
            try ZonePorts.choose(&definition)
            try write(definition, in: claim.persistent)
        } catch {
            NetworkLeases(self).release(definition.networks, of: claim.name)
            throw error
        }
        return definition
    }
}

/// Ends a value's life here, with what its `deinit` does.
func drop<T: ~Copyable>(_ value: consuming T) {
    _ = consume value
}

extension SignalSet {
    /// What a foreground zonectl passes on, besides the window's size: the catchable signals that other processes send.
    static let forwarded = SignalSet([SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH, SIGCONT])
}
