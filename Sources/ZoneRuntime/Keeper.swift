// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import Glibc
import Images
import LinuxSystem
import Namespaces
import Network
import OCI

/// Stays with a detached zone: holds its streams, keeps its log, knows how it ended, and starts it again.
///
/// One process for each zone, without any power over others: whatever becomes of one keeper concerns its zone only. It
/// waits in one `poll`; between events it has given back the memory that its code takes. When it is killed the zone goes
/// on, and `zonectl start` gives it another one.
struct Keeper: ~Copyable {
    let store: ZoneStore
    let name: String
    let signals: SignalQueue
    /// The supervisor that is told how things stand, and decides about the next start.
    let service: KeeperService?
    var isSupervised: Bool { service != nil }

    var definition: ZoneDefinition
    var record = ZoneRecord()
    var groups: any CGroupManager = CGroups.disabled()
    var process: ProcessHandle?
    /// Whether the process is our child.
    var isParent = true
    var streams = KeeperStreams()
    var server: AttachServer?
    var health: HealthMonitor?
    var folder: Descriptor?
    /// Shows `ls` that the record may be trusted.
    private var presence: PresenceLock?
    var log: KeeperLog

    private var backOff = BackOff()
    private var restarts: Int64 = 0
    private var startedAt: Int64 = 0
    /// Somebody wants the zone to end: no start follows.
    var isStopping = false
    /// The zone is to end because it is not healthy: a start follows.
    var isUnhealthy = false
    /// When memory was given back last.
    var restedAt: Int64 = 0
    /// The zone has ended in order to boot again: a start follows, whatever the policy says.
    var isRebooting = false
    /// Looks whether the packet filter's rules are still there, and when.
    var watch: FilterWatch?
    var lookDue: Int64?
    /// When a zone that was asked to end is killed.
    var killDeadline: Int64?
    /// Whether a machine has been told to kill its program.
    var isLastWarning = false

    /// SIGTERM and SIGINT stop the zone. A terminal that is closed is none of the keeper's business.
    static let signalSet = SignalSet([SIGHUP, SIGINT, SIGTERM])

    init(
        _ store: ZoneStore, _ definition: ZoneDefinition, _ signals: consuming SignalQueue, service: KeeperService?
    ) {
        self.store = store
        self.definition = definition
        name = definition.name
        self.signals = signals
        self.service = service
        log = KeeperLog(definition, store.folders, copies: service != nil)
    }

    // MARK: Starting

    /// Starts the zone, whose lock the caller holds. Undoes nothing on failure.
    mutating func start(
        _ claim: borrowing ZoneStore.Claim, image: Image, isAgain: Bool,
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ZoneError) {
        let warnings = Lines()
        let starter = ZoneStarter(store: store) { line in
            warnings.add(line)
            report(line)
        }
        var prepared = try starter.prepare(
            definition, image, claim,
            .init(
                isDetached: true, restarts: restarts, keepsFolder: isAgain, unit: service?.unit, cgroup: service?.cgroup
            ))
        let folder = try store.openVolatile(name)
        do throws(SystemError) {
            if definition.hasTerminal {
                streams = KeeperStreams()
            } else {
                streams = try KeeperStreams(&prepared.plan, in: folder, passesInput: definition.isInteractive)
            }
            if server == nil { server = try AttachServer(in: folder) }
        } catch {
            throw ZoneError("set up the streams of zone \(name)", error)
        }
        var started = try starter.launch(prepared, interruptedBy: signals)
        streams.take(console: started.launching.takeConsole())
        record = started.record
        groups = started.groups
        process = try attempting("hold zone \(name)") { () throws(SystemError) in
            try started.launching.process.duplicate()
        }
        isParent = true
        begin(folder, image)
        for line in warnings.all { log.note(line) }
    }

    /// Takes over a zone that runs and whose keeper is gone. False, and nothing is changed, where it has ended by now.
    mutating func adopt(_ found: ZoneRecord) throws(ZoneError) -> Bool {
        let folder = try store.openVolatile(name)
        do throws(SystemError) { process = try ProcessHandle(pid: found.process.pid) } catch {
            if error.errno == .noProcess { return false }
            throw ZoneError("take over zone \(name)", error)
        }
        // The number could have been given to another process between the look and the open, not after it.
        guard found.process.isAlive else {
            process = nil
            return false
        }
        do throws(SystemError) {
            if !definition.hasTerminal { streams = try KeeperStreams(adopting: folder) }
            server = try AttachServer(in: folder)
        } catch {
            throw ZoneError("take over zone \(name)", error)
        }
        isParent = false
        record = found
        record.keeper = try attempting("find out who runs") { () throws(SystemError) in try RecordedProcess(getpid()) }
        record.unit = service?.unit
        restarts = record.restarts
        try store.write(record, in: folder)
        groups = record.groups
        begin(folder, try? ZoneLifecycle(store).image(of: definition))
        return true
    }

    private mutating func begin(_ folder: consuming Descriptor, _ image: Image?) {
        startedAt = MonotonicClock.milliseconds
        isUnhealthy = false
        killDeadline = nil
        isLastWarning = false
        if isParent {
            let kind: ZoneEvent.Kind = restarts > 0 || isRebooting ? .restart : .start
            EventLog(store.folders).record(kind, zone: name, ["image": record.image])
        }
        isRebooting = false
        // Without it the next zone that is started looks.
        watch = definition.networks.contains(where: \.isOfZones) ? try? FilterWatch() : nil
        health = HealthMonitor(HealthPolicy.of(definition, image), zone: name, store.folders)
        // Without it `ls` looks at the process.
        do throws(SystemError) {
            presence = try PresenceLock(try folder.open(".", [.readOnly, .directory], resolve: .beneath))
        } catch {
            presence = nil
        }
        self.folder = consume folder
        if let health = health?.record { write(health) }
        service?.ready(name, pid: record.process.pid)
    }

    // MARK: Staying

    /// Stays with the zone until it has ended and is not started again. Returns its last exit status, as a shell shows it.
    consuming func keep() -> Int32 {
        while true {
            let code = attend()
            let isLast = isToStay(code)
            finish(code, isLast: isLast)
            if isLast { return isSupervised ? serviceStatus(code) : isUnhealthy ? max(code ?? 1, 1) : code ?? 125 }
            guard waitForNextStart(), startAgain() else { return code ?? 125 }
        }
    }

    /// What the supervisor is to make of the zone's end.
    private func serviceStatus(_ code: Int32?) -> Int32 {
        // The supervisor's own wish; how the zone took it is in the record.
        if isStopping { return 0 }
        if store.isToStayStopped(name) { return KeeperService.staysStopped }
        return isUnhealthy ? max(code ?? 1, 1) : code ?? 125
    }

    /// Serves until the zone has ended, and returns how.
    private mutating func attend() -> Int32? {
        while true {
            // Where not even poll(2) works there is nothing else to wait with.
            guard let event = try? serve(until: nil) else {
                pause(milliseconds: 1000)
                continue
            }
            if case .ended = event { break }
        }
        health = nil
        var code = exitCode()
        if definition.initSystem != nil {
            isRebooting = InitSystem.isReboot(code)
            code = InitSystem.exitStatus(code)
        }
        process = nil
        drainStreams()
        return code
    }

    private func exitCode() -> Int32? {
        guard process != nil else { return record.exitCode }
        if isParent { return (try? process?.wait())?.shellCode }
        // Its parent, the host's init, reaps it any moment.
        for _ in 0..<50 {
            if let status = process?.exitStatusOfOther() { return status.shellCode }
            pause(milliseconds: 2)
        }
        return nil
    }

    /// Whether the zone stays as it is after it ended with this status.
    private func isToStay(_ code: Int32?) -> Bool {
        if isStopping || store.isToStayStopped(name) { return true }
        if isRebooting { return false }
        if isSupervised { return true }
        return !policy.isToRestart(after: isUnhealthy ? 1 : code ?? 1, restarts: Int(clamping: restarts))
    }

    /// As `set` may have changed it since the start.
    var policy: RestartPolicy { ((try? store.definition(of: name)) ?? nil)?.restart ?? definition.restart }

    private mutating func finish(_ code: Int32?, isLast: Bool) {
        EventLog(store.folders).record(.die, zone: name, ["exitCode": code.map { String($0) } ?? "unknown"])
        recordEnd(code, removes: definition.autoRemove && isLast, next: isLast ? .stopped : .restarting)
        sayEnd(code, isLast: isLast)
    }

    /// Tells those who are attached, and with the last end waits until they know.
    private mutating func sayEnd(_ code: Int32?, isLast: Bool) {
        server?.sendEnd(code, isLast: isLast)
        if isLast { server?.settle() }
    }

    // MARK: Starting again

    /// Waits for the time of the next start; `false` when somebody does not want it.
    private mutating func waitForNextStart() -> Bool {
        let due = MonotonicClock.milliseconds + backOff.next(afterRunning: MonotonicClock.milliseconds - startedAt)
        while MonotonicClock.milliseconds < due {
            guard let event = try? serve(until: due) else { continue }
            if case .stop = event { break }
        }
        if !isStopping && !store.isToStayStopped(name) { return true }
        // Nothing to end any more: only the record says that a start would follow.
        recordEnd(record.exitCode, removes: definition.autoRemove, next: .stopped)
        sayEnd(record.exitCode, isLast: true)
        return false
    }

    private mutating func recordEnd(_ code: Int32?, removes: Bool, next: ZoneRecord.Phase) {
        var lines: [String] = []
        do throws(ZoneError) {
            try ZoneEnd(store: store).record(
                &record, exitCode: code, groups, removes: removes, volumes: definition.anonymousVolumes,
                killsRest: true, next: next
            ) {
                lines.append($0)
            }
        } catch {
            lines.append("\(error)")
        }
        for line in lines { log.note(line) }
    }

    /// Starts the zone once more; tries again, ever later, where that fails, as far as the policy goes. `false` when the
    /// zone stays stopped, or is no longer this keeper's.
    private mutating func startAgain() -> Bool {
        while true {
            // A boot that the zone itself has asked for is none of those that a policy counts.
            if !isRebooting { restarts += 1 }
            startedAt = MonotonicClock.milliseconds
            do throws(ZoneError) {
                if try startOnce() { return true }
                return false
            } catch {
                isRebooting = false
                // Removed meanwhile.
                if (try? store.isPersistent(name)) == false { return false }
                log.note("start \(restarts): \(error)")
                let isLast = isToStay(error.exitCode)
                if let claim = try? store.lock(name) {
                    noteFailedStart(error, next: isLast ? .stopped : .restarting)
                    drop(claim)
                }
                if isLast {
                    sayEnd(error.exitCode, isLast: true)
                    return false
                }
            }
            if !waitForNextStart() { return false }
        }
    }

    /// `false` when the zone is another keeper's by now, or was stopped since the wait was over.
    private mutating func startOnce() throws(ZoneError) -> Bool {
        let claim = try store.lock(name)
        guard let current = try store.record(of: name), current.keeper == record.keeper,
            !store.isToStayStopped(name), let definition = try store.definition(of: name)
        else { return false }
        self.definition = definition
        let image = try ZoneLifecycle(store).image(of: definition)
        try start(claim, image: image, isAgain: true)
        drop(claim)
        return true
    }

    /// Takes back what a start made that failed, and records the end. The caller holds the zone's lock.
    mutating func noteFailedStart(_ error: ZoneError, next: ZoneRecord.Phase) {
        // Where even that fails, `rm -f` removes what there is.
        guard var failed = try? store.record(of: name), failed.keeper.pid == getpid() else { return }
        _ = try? failed.groups.kill()
        if (try? failed.groups.remove()) != nil { failed.cgroups = [] }
        ZoneLinks(store, definition).forget()
        failed.phase = next
        failed.exitCode = error.exitCode
        failed.finished = Int64(time(nil))
        if let folder = try? store.openVolatile(name) { try? store.write(failed, in: folder) }
        record = failed
        groups = failed.groups
    }

    func write(_ health: HealthRecord) {
        // A check's result that cannot be written is told by the next one.
        _ = try? folder?.replaceFile(HealthMonitor.fileName, health.serialized(), mode: 0o600)
    }
}

/// Lines that are collected by a closure. There is one thread.
private final class Lines: @unchecked Sendable {
    private(set) var all: [String] = []

    func add(_ line: String) { all.append(line) }
}
