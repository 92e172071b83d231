// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import Namespaces
import OCI

extension BundleRuntime {
    /// Makes a zone from a bundle whose processes go on where a checkpoint left them. In the foreground it returns the
    /// program's exit status, as a shell shows it, once the zone has ended and is deleted.
    public func restore(_ request: RestoreRequest) throws(ZoneError) -> Int32 {
        let id = request.zone.id
        let bundle = try Bundle(request.zone.bundle)
        let session = try CriuSession(.restore, id, request.criu, program: options.criu)
        let saved = try Restore.savedFile(session, bundle.spec)
        let signals =
            request.zone.isDetached
            ? nil : try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        let handover = try EngineHandover.prepare(
            console: request.zone.consoleSocket, pidfd: request.zone.pidfdSocket, pidFile: request.zone.pidFile,
            preserved: 0, bundle.spec.process ?? Spec.Process(), isForeground: !request.zone.isDetached)
        // The zone that was saved, which has no process any more: its name and its groups are wanted again.
        if let entry = try? store.findBundle(id), entry.record?.checkpoint != nil, case .stopped = entry.state {
            try delete(id, force: false)
        }
        let restore = Restore(
            runtime: self, request: request, bundle: bundle, session: session, saved: saved, handover: handover)
        var restored = try restore.run()
        restored.hooks.runAfterStart(pid: restored.process.pid, report: report)
        guard let signals else { return 0 }
        // Others may pause it, change it and save it while we wait.
        _ = restored.claim.take()
        let lost = ForegroundSession.attend(
            restored.process, console: restored.console.take(), streams: restored.streams.take() ?? ProcessStreams(),
            signals: signals, passesInput: true, report: report)
        let status = try attempting("wait for container \(id)") { () throws(SystemError) in
            try restored.process.wait()
        }
        if !request.zone.keeps {
            do throws(ZoneError) { try delete(id, force: true) } catch { report("\(error)") }
        }
        return lost && status.shellCode == 0 ? 1 : status.shellCode
    }
}

/// One zone on its way back.
///
///     claim the id, record `creating`, make the groups       as `create` does
///     a mount namespace of our own, the root upon itself     criu wants a mount for a root; killed, nothing stays
///     criu                                                   makes the namespaces and the processes
///         setup-namespaces                                   hooks for the network
///         orphan-pts-master                                  the terminal's other end, for who asked for it
///         post-restore                                       all is there and waits: groups, record `running`, pid file
///     the processes go on
struct Restore: ~Copyable {
    /// A file in ROOT/ID that criu and its processes hold open.
    static let mark = "restoring"

    let runtime: BundleRuntime
    let request: RestoreRequest
    let bundle: Bundle
    var session: CriuSession
    let saved: CheckpointFile
    let handover: EngineHandover

    /// A zone whose processes run again.
    struct Restored: ~Copyable {
        let process: ProcessHandle
        var console: Descriptor?
        var streams: ProcessStreams?
        let hooks: BundleHooks
        var claim: ZoneStore.BundleClaim?
    }

    /// What belongs to the checkpoint beside criu's files.
    static func savedFile(_ session: borrowing CriuSession, _ spec: Spec) throws(ZoneError) -> CheckpointFile {
        let path = session.settings.imagePath
        guard (try? FileStatus.of("\(path)/inventory.img")) != nil else {
            throw ZoneError(
                .notFound, "restore: --image-path \(path): there is no checkpoint: inventory.img is missing")
        }
        return try session.savedFile(spec)
    }

    consuming func run() throws(ZoneError) -> Restored {
        let id = request.zone.id
        let store = runtime.store
        let claim = try store.claimBundle(id)
        var rollback = Rollback()
        // Whatever cannot be removed now is still listed, and removed by `delete --force`.
        rollback.add { [store] in try? store.eraseInterrupted(id) }
        let (groups, resources) = try BundleGroups(
            spec: bundle.spec, id: id, driver: runtime.options.cgroups, folders: store.folders
        ).prepare()
        let launcher = BundleLauncher(store: store, options: runtime.options, report: runtime.report)
        var record = try launcher.newRecord(id, bundle, groups)
        try store.write(record, in: claim.folder)
        try attempting("make the control groups") { () throws(SystemError) in try groups.create(resources) }
        try attempting("record container \(id)") { () throws(SystemError) in
            try claim.folder.replaceFile("config.json", bundle.configuration, mode: 0o600)
        }
        let hooks = BundleHooks(hooks: bundle.spec.hooks ?? .init(), state: BundleState(record))

        let isForeground = !request.zone.isDetached
        let hasTerminal = bundle.spec.process?.terminal ?? false
        var plan = LaunchPlan()
        let streams = isForeground && !hasTerminal ? try ProcessStreams(&plan, passesInput: true) : ProcessStreams()
        let placement = RestoredGroups(groups: groups, resources: resources, mode: session.settings.groups)
        let root = try RestoreRoot.enter(bundle.rootfs, saved.places)
        try session.reopenFolders()
        var inherited: [CInt] = []
        var message = session.options(groups: placement.mode)
        message.add(CriuSession.Field.root, bundle.rootfs)
        message.add(CriuSession.Field.isSibling, true)
        if hasTerminal { message.add(CriuSession.Field.orphanTerminal, true) }
        if let profile = request.securityProfile { message.add(CriuSession.Field.securityProfile, profile) }
        try placement.add(&message)
        try addMounts(&message, groups)
        var opened = DescriptorBag()
        try addNamespaces(&message, &inherited, &opened)
        try addStreams(&message, &inherited, &opened, plan.process.standard)
        // By this file `delete` finds criu and all that it has made, if this process is killed.
        let mark = try attempting("record container \(id)") { () throws(SystemError) in
            try claim.folder.open(Restore.mark, [.writeOnly, .create], mode: 0o600, resolve: .beneath)
        }
        inherited.append(mark.raw)

        var process: ProcessHandle?
        var console: Descriptor?
        let pid = try session.run(message, inherited: inherited) { (notice) throws(ZoneError) in
            switch notice.name {
            case "setup-namespaces":
                try hooks.runBeforeRootChanges(pid: notice.pid)
            case "orphan-pts-master":
                guard let master = notice.descriptor.take() else { return }
                if isForeground { console = consume master } else { try handover.sendConsole(master) }
            case "post-restore":
                let handle = try attempting("restore container \(id)") { () throws(SystemError) in
                    record.process = try RecordedProcess(notice.pid)
                    try placement.place(notice.pid)
                    return try ProcessHandle(pid: notice.pid)
                }
                record.phase = .running
                try store.write(record, in: claim.folder)
                try handover.sendProcess(handle)
                process = consume handle
            default: return
            }
        }
        root.leave()
        drop(mark)
        try? claim.folder.remove(Restore.mark)
        drop(opened)
        drop(plan)
        guard let restored = process.take(), restored.pid == pid else {
            throw ZoneError(.system, "restore container \(id): criu did not say which process it has restored")
        }
        rollback.commit()
        return Restored(process: restored, console: console, streams: streams, hooks: hooks, claim: claim)
    }

    // MARK: What comes from outside

    private func addMounts(_ message: inout CriuMessage, _ groups: any CGroupManager) throws(ZoneError) {
        for mount in saved.mounts {
            guard let source = try source(of: mount, groups) else { continue }
            message.add(CriuSession.Field.external, "mnt[\(mount.point)]:\(source)")
        }
    }

    private func source(of mount: SavedMount, _ groups: any CGroupManager) throws(ZoneError) -> String? {
        // It was written by whoever made the checkpoint: what it names must not lead elsewhere.
        for text in [mount.below, mount.source ?? ""] where text.pathComponents.contains("..") {
            throw ZoneError(.invalid, "\(session.settings.imagePath)/\(CheckpointFile.name): \"\(text)\" leads out")
        }
        if let destination = mount.destination {
            guard let entry = (bundle.spec.mounts.last { $0.isBind && $0.destination == destination }) else {
                throw ZoneError(
                    .invalid, "restore: the checkpoint has a bind mount at \(destination), and config.json has none")
            }
            let source = entry.source ?? ""
            return (source.isAbsolutePath ? source : "\(bundle.path)/\(source)") + mount.below
        }
        if let hierarchy = mount.hierarchy {
            let found = groups.directories.first { directory in
                directory.hierarchy == hierarchy
                    || directory.hierarchy.split(separator: ",").contains { $0 == hierarchy }
            }
            guard let found else {
                throw ZoneError(
                    .invalid, "restore: the checkpoint has a control group mounted at \(mount.point), and here is none")
            }
            return found.path
        }
        if let source = mount.source, source.hasPrefix("/dev/") { return source }
        return nil
    }

    /// Opens namespaces that are joined; they must stay open until criu is done.
    private func addNamespaces(
        _ message: inout CriuMessage, _ inherited: inout [CInt], _ opened: inout DescriptorBag
    ) throws(ZoneError) {
        for joined in try JoinedNamespaces.of(bundle.spec, "restore") {
            var entry = CriuMessage()
            guard let key = joined.key else {
                entry.add(1, joined.file)
                entry.add(2, joined.path)
                message.add(CriuSession.Field.joined, entry)
                continue
            }
            let file = try attempting("restore: linux.namespaces") { () throws(SystemError) in
                try Descriptor.open(joined.path, [.readOnly])
            }
            entry.add(1, key)
            entry.add(2, CriuSession.inherited(inherited.count))
            message.add(CriuSession.Field.inherited, entry)
            inherited.append(opened.adopt(file))
        }
    }

    /// Pipes and files that the first process had for its streams are replaced by ours.
    private func addStreams(
        _ message: inout CriuMessage, _ inherited: inout [CInt], _ opened: inout DescriptorBag,
        _ standard: (input: CInt, output: CInt, error: CInt)
    ) throws(ZoneError) {
        var known: Set<String> = []
        for (name, stream) in zip(saved.streams, [standard.input, standard.output, standard.error]) {
            guard name.hasPrefix("pipe:") || name.hasPrefix("file[") || name.hasPrefix("socket:"),
                known.insert(name).inserted
            else { continue }
            var entry = CriuMessage()
            entry.add(1, name)
            entry.add(2, CriuSession.inherited(inherited.count))
            message.add(CriuSession.Field.inherited, entry)
            if saved.nulls.contains(name) {
                // criu takes nothing else in its place.
                let null = try attempting("restore") { () throws(SystemError) in
                    try Descriptor.open("/dev/null", [.readWrite])
                }
                inherited.append(opened.adopt(null))
            } else {
                inherited.append(stream)
            }
        }
    }
}

extension FileStatus {
    /// Whether it is /dev/null, null(4).
    var isNull: Bool { kind == .characterDevice && major == 1 && minor == 3 }
}
