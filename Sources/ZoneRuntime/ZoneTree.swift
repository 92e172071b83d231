// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Images
import LinuxSystem
import Namespaces
import OCI

/// A zone's files, as the zone sees them, held by a descriptor of its root.
///
/// Of a zone that has a process the root is that process's, with all that is mounted there. The root of a stopped zone is
/// mounted for as long as this value lives, where nobody else sees it, and the zone cannot be started meanwhile. Every
/// path is resolved below the descriptor by openat2(RESOLVE_IN_ROOT): whatever links the zone makes, or swaps while they
/// are looked up, they lead to places of the zone's.
struct ZoneTree: ~Copyable {
    let zone: String
    let root: Descriptor
    private let mounts: MountCopy?
    private let claim: ZoneStore.Claim?

    init(
        _ zone: String, root: consuming Descriptor, mounts: consuming MountCopy? = nil,
        claim: consuming ZoneStore.Claim? = nil
    ) {
        self.zone = zone
        self.root = root
        self.mounts = mounts
        self.claim = claim
    }

    /// Opens a zone's root; `writes`: things are to be changed there. `report` is told about a copy that must be made first.
    static func open(
        _ name: String, in store: ZoneStore, for verb: String, writes: Bool, report: (String) -> Void
    ) throws(ZoneError) -> ZoneTree {
        let entry = ZoneControl(store.folders).settled(try store.find(name))
        if let process = entry.state.process { return try of(process, entry.name, verb) }
        guard case .stopped = entry.state else {
            _ = try entry.state.runningProcess(for: verb, of: entry.name)
            throw ZoneError(.wrongState, "\(verb): zone \(entry.name) is \(entry.state.word)")
        }
        if let bundle = entry.record?.bundle {
            throw ZoneError(
                .unsupported, "\(verb): zone \(entry.name) has ended, and its files are those of the bundle \(bundle)")
        }
        let claim = try store.lock(entry.name)
        // Started while we waited for the lock: it holds the zone's root now.
        if let process = store.entry(entry.name).state.process { return try of(process, entry.name, verb) }
        return try stopped(claim, in: store, verb, writes: writes, report)
    }

    private static func of(_ process: RecordedProcess, _ zone: String, _ verb: String) throws(ZoneError) -> ZoneTree {
        do throws(SystemError) {
            let root = try Descriptor.open("/proc/\(process.pid)/root", [.path, .directory])
            // The number could have been given to another process before the open, not after it.
            if process.isAlive { return ZoneTree(zone, root: root) }
        } catch {
            if error.errno != .noEntry, error.errno != .noProcess {
                throw ZoneError("\(verb): open the root of zone \(zone)", error)
            }
        }
        throw ZoneError(.wrongState, "\(verb): zone \(zone) has just ended", hint: "try again")
    }

    private static func stopped(
        _ claim: consuming ZoneStore.Claim, in store: ZoneStore, _ verb: String, writes: Bool,
        _ report: (String) -> Void
    ) throws(ZoneError) -> ZoneTree {
        let zone = claim.name
        guard let definition = try store.definition(of: zone) else {
            throw ZoneError(
                .wrongState, "\(verb): the making or removal of zone \(zone) was interrupted",
                hint: "'zonectl rm -f \(zone)' removes what there is of it")
        }
        if writes, definition.isReadOnly {
            throw ZoneError(.notPermitted, "\(verb): the root of zone \(zone) is read-only, as --read-only wants it")
        }
        let overlay = try store.overlay(of: definition)
        var held = DescriptorBag()
        let provided = try VolumeMounts(store).provided(definition, &held)
        let binds = SpecBuilder.ordered(provided.mounts.filter(\.isBind))
        let own = try store.ownFiles(definition, claim)
        let attempt = "\(verb): mount the root of zone \(zone)"
        let root = try own.forOverlay { (path) throws(ZoneError) in
            let overlay = overlay.with(own: path)
            do throws(ZoneError) {
                if !writes { return try overlay.mountForReading(in: own.folder, report) }
                if let root = try overlay.mountOrCopy(in: own.folder, report) { return root }
            } catch {
                throw error.inside(verb)
            }
            throw ZoneError(
                attempt, SystemError("mount overlay", "this kernel does it only for a zone that starts", .notSupported))
        }
        do throws(SystemError) {
            if binds.isEmpty { return ZoneTree(zone, root: root, claim: claim) }
            let mounts = try MountCopy.enter()
            // Over the zone's own folder, which nobody needs here any more, and in this process's view alone.
            let place = try Descriptor.open(store.folders.persistent(zone), [.path, .directory])
            try check(zn_move_mount(root.raw, place.raw), "move_mount", "the root of zone \(zone)")
            for bind in binds { try attach(bind, root, writes: writes) }
            return ZoneTree(zone, root: root, mounts: mounts, claim: claim)
        } catch {
            throw ZoneError(attempt, error)
        }
    }

    /// Mounts a file or folder of the host's where the zone has it.
    private static func attach(_ bind: Spec.Mount, _ root: borrowing Descriptor, writes: Bool) throws(SystemError) {
        guard let source = bind.source else { return }
        var target = try? root.open(bind.destination, [.path], resolve: .zone)
        if target == nil, writes {
            // The zone has never run. Its first start would make the same.
            let isDirectory = try FileStatus.of(source).kind == .directory
            var path = ""
            for part in bind.destination.pathComponents.dropLast(isDirectory ? 0 : 1) {
                let parent = try root.open("/" + path, [.path, .directory], resolve: .zone)
                try parent.ensureDirectory(part)
                path += path.isEmpty ? part : "/\(part)"
            }
            if !isDirectory, let name = bind.destination.pathComponents.last {
                let parent = try root.open("/" + path, [.path, .directory], resolve: .zone)
                _ = try parent.open(name, [.writeOnly, .create, .exclusive], mode: 0o644, resolve: .beneath)
            }
            target = try root.open(bind.destination, [.path], resolve: .zone)
        }
        // A zone that has never run has nothing there yet.
        guard let target else { return }
        let options = bind.options
        let tree = try Descriptor.cloneTree(source, recursive: options.contains("rbind"))
        if options.contains("ro") || !writes {
            try check(zn_mount_setattr(tree.raw, true, UInt64(ZN_MOUNT_ATTR_RDONLY), 0, 0), "mount_setattr", source)
        }
        try check(zn_move_mount(tree.raw, target.raw), "bind mount", source)
    }
}

extension ZoneStore {
    /// All that lies below a zone's own files, topmost first.
    func layers(of definition: ZoneDefinition) throws(ZoneError) -> [String] {
        try overlay(of: definition).layers + ["\(folders.store)/\(Skeleton.name(folders.marks))"]
    }

    /// The layers that a zone's root is made of.
    func overlay(of definition: ZoneDefinition) throws(ZoneError) -> OverlayRoot {
        let layers = try attemptingImage { () throws(ImageError) in
            try folders.images.layers(
                of: try folders.images.find(definition.imageDigest?.description ?? definition.image))
        }
        return OverlayRoot(
            layers: try bases(of: definition).all + layers, store: folders.store,
            zone: folders.persistent(definition.name))
    }
}
