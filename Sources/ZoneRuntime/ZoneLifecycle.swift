// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Images
import LinuxSystem
import OCI

/// Makes zones and starts them in the background.
public struct ZoneLifecycle: Sendable {
    let store: ZoneStore
    /// Gets warnings of zones that are started in the background; their logs have them, too.
    private let report: @Sendable (String) -> Void

    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void = { _ in }) {
        store = ZoneStore(folders)
        self.report = report
    }

    init(_ store: ZoneStore) {
        self.store = store
        report = { _ in }
    }

    // MARK: Making

    /// Makes a zone and leaves it stopped. Returns its name.
    public func create(_ wanted: ZoneDefinition, name: String?) throws(ZoneError) -> String {
        let image = try store.image(for: wanted)
        let claim = try store.claim(name)
        var rollback = Rollback()
        let zone = claim.name
        rollback.add { [store] in try? store.eraseInterrupted(zone) }
        let definition = try store.define(wanted, image, claim)
        try check(definition, image)
        rollback.commit()
        EventLog(store.folders).record(.create, zone: zone, ["image": image.name])
        return zone
    }

    /// What would fail at the start fails now.
    func check(_ definition: ZoneDefinition, _ image: Image) throws(ZoneError) {
        if definition.bootsDisk { return }
        _ = try attemptingImage { () throws(ImageError) in try store.folders.images.layers(of: image) }
        let zone = definition.name
        var held = DescriptorBag()
        let provided = try VolumeMounts(store).provided(definition, &held)
        _ = try SpecBuilder(
            definition: provided, image: image.configuration.config ?? .init(),
            volatile: store.folders.volatile(zone), persistent: store.folders.persistent(zone),
            cgroupsPath: "/\(store.folders.cgroupParent)/\(zone)", report: { _ in }
        ).spec(windowSize: nil)
    }

    private func find(_ image: String) throws(ZoneError) -> Image {
        try attemptingImage { () throws(ImageError) in try store.folders.images.find(image) }
    }

    /// The image that the zone was made from, though its name may mean another one by now.
    func image(of definition: ZoneDefinition) throws(ZoneError) -> Image {
        if definition.bootsDisk { return Image.none(definition.image) }
        return try find(definition.imageDigest?.description ?? definition.image)
    }

    /// Makes a zone and starts it in the background. Returns its name once its program runs.
    public func run(_ wanted: ZoneDefinition, name: String?) throws(ZoneError) -> String {
        let image = try store.image(for: wanted)
        let claim = try store.claim(name)
        let zone = claim.name
        var rollback = Rollback()
        rollback.add { [store] in try? store.eraseInterrupted(zone, byUs: false) }
        let definition = try store.define(wanted, image, claim)
        try startDetached(definition, image, claim, adopting: nil)
        rollback.commit()
        return zone
    }

    // MARK: Starting

    /// Starts a stopped zone in the background. One that runs is left alone, but gets a keeper if its own is gone.
    /// Returns its name.
    @discardableResult
    public func start(_ name: String) throws(ZoneError) -> String {
        let found = ZoneControl(store.folders).settled(try store.find(name))
        if let bundle = found.record?.bundle {
            throw ZoneError(
                .unsupported, "start: zone \(found.name) was made from the bundle \(bundle)",
                hint: "'zonectl oci start \(found.name)' starts it")
        }
        // What systemd has started it can stop, limit and depend on.
        let units = SystemdUnits(store)
        if case .stopped = found.state, let unit = units.unitToStart(found.name) {
            try units.start(unit, found.name)
            return found.name
        }
        let claim = try store.lock(found.name)
        guard let (definition, adopted) = try prepareStart(claim) else { return claim.name }
        let zone = claim.name
        try startDetached(definition, try image(of: definition), claim, adopting: adopted)
        return zone
    }

    /// Stops a zone and starts it again. Returns its name.
    public func restart(_ name: String, seconds: Int?) throws(ZoneError) -> String {
        let entry = try store.find(name)
        let zone = entry.name
        if seconds == nil, let unit = SystemdUnits.unit(running: entry.record) {
            try SystemdUnits.restart(unit, zone)
            return zone
        }
        try ZoneControl(store.folders).stop(zone, seconds: seconds)
        return try start(zone)
    }

    /// What is to be started, and what runs of it already; `nil` where nothing is to be done.
    func prepareStart(_ claim: borrowing ZoneStore.Claim) throws(ZoneError) -> (ZoneDefinition, ZoneRecord?)? {
        let zone = claim.name
        // Again, under the lock: another `start` may have been faster.
        let entry = store.entry(zone)
        guard let definition = try store.definition(of: zone) else {
            throw ZoneError(
                .wrongState, "start: the making or removal of zone \(zone) was interrupted",
                hint: "'zonectl rm -f \(zone)' removes what there is of it")
        }
        switch entry.state {
        case .running, .paused:
            // Of a `stop` or `kill` that another start was faster than: whoever starts a zone wants it to come back.
            try store.noteStart(claim.persistent)
            if let record = entry.record, record.isDetached, !record.keeper.isAlive { return (definition, record) }
            return nil
        case .restarting where entry.record?.phase == .restarting:
            try store.noteStart(claim.persistent)
            return nil
        case .restarting:
            throw ZoneError(
                .wrongState, "start: zone \(zone) has ended, and its keeper is still clearing up",
                hint: "try again in a moment")
        case .creating, .created, .damaged: _ = try entry.state.runningProcess(for: "start", of: zone)
        case .stopped: break
        }
        // Of a run whose keeper was killed.
        if let record = entry.record { try store.removeGroups(record) }
        try store.noteStart(claim.persistent)
        return (definition, nil)
    }

    /// Forks a keeper, which starts the zone or takes it over, and returns once the program runs.
    private func startDetached(
        _ definition: ZoneDefinition, _ image: Image, _ claim: borrowing ZoneStore.Claim, adopting: ZoneRecord?
    ) throws(ZoneError) {
        let zone = claim.name
        try KeeperProcess.start(named: zone, report: report) { report in
            let notes = report.notes
            do throws(ZoneError) {
                let keeper = try self.begin(definition, image, claim, adopting: adopting, service: nil) {
                    notes.add($0)
                }
                claim.unlock()
                report.started()
                return keeper.keep()
            } catch {
                report.failed(error)
                return 1
            }
        }
    }

    /// A keeper whose zone runs.
    private func begin(
        _ definition: ZoneDefinition, _ image: Image, _ claim: borrowing ZoneStore.Claim, adopting: ZoneRecord?,
        service: KeeperService?, report: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ZoneError) -> Keeper {
        let signals = try attempting("wait for signals") { () throws(SystemError) in
            try SignalQueue(Keeper.signalSet)
        }
        var keeper = Keeper(store, definition, signals, service: service)
        if let adopting {
            if try keeper.adopt(adopting) { return keeper }
            // It has ended since the look: started it is all the same.
            try store.removeGroups(adopting)
        }
        do throws(ZoneError) { try keeper.start(claim, image: image, isAgain: false, report: report) } catch {
            keeper.noteFailedStart(error, next: .stopped)
            throw error
        }
        return keeper
    }

    /// The exit status of `start --foreground` that tells systemd not to start the service again, whatever `Restart=` says:
    /// the zone is gone, or somebody has stopped or killed it by zonectl. ``SystemdUnit`` names it in
    /// `RestartPreventExitStatus=`.
    public static let staysStopped: Int32 = 254

    /// Starts a zone and stays with it in the foreground, for a supervisor such as systemd, which is told when it runs and
    /// decides itself about the next start. Returns the zone's exit status, as a shell shows it.
    public func startSupervised(_ name: String) throws(ZoneError) -> Int32 {
        let found = try store.find(name)
        let claim = try store.lock(found.name)
        guard let (definition, adopted) = try prepareStart(claim) else {
            throw ZoneError(
                .wrongState, "start: zone \(claim.name) runs already, and has a keeper",
                hint: "'zonectl stop \(claim.name)' ends it")
        }
        let image = try image(of: definition)
        let service = try KeeperService.enter()
        let keeper = try begin(definition, image, claim, adopting: adopted, service: service)
        drop(claim)
        return keeper.keep()
    }
}
