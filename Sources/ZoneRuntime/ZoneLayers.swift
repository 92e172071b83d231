// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Changes of a zone's that nobody writes to any more: `upper` in STORE/zones/NAME/layers/NUMBER.
struct FrozenLayer: JSONRecord {
    static let file = "layer.json"

    /// What it lies upon, as in ``ZoneDefinition/base``; nothing for the image.
    var base: String?

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("base", &base)
    }
}

extension ZoneFolders {
    func layers(_ zone: String) -> String { "\(persistent(zone))/\(ZoneLayers.folder)" }
    func layer(_ name: String, of zone: String) -> String { "\(layers(zone))/\(name)" }
}

/// Keeps what a stopped zone has changed without copying it, where files cannot share blocks.
///
/// A snapshot makes the zone's upper layer one that nobody writes to, and the zone goes on with an empty one upon it.
/// Whatever stands on such a layer, the zone, snapshots, other layers, names it; one that nothing names any more goes,
/// and one that only the zone or another layer stands on is folded into that. Each step leaves all of them as they were,
/// so that there is nothing to finish after one that was interrupted but to tidy up.
struct ZoneLayers {
    static let folder = "layers"
    private static let unfinished = ".new"
    private static let gone = ".gone"
    /// RENAME_EXCHANGE, rename(2).
    private static let exchange: UInt32 = 2

    private let store: ZoneStore

    init(_ store: ZoneStore) {
        self.store = store
    }

    /// Whether a zone's changes are frozen rather than copied; the one place where that is decided.
    ///
    /// Not where overlayfs cannot work. Not where a copy costs nothing, as a zone with layers copies a file of a lower one before it writes to it. Not where
    /// the zone's files have a limit, which what is frozen would no longer count against. And only
    /// so many upon one another: each costs a little at every start and look into a directory, and all must go
    /// into the options of one mount, which before Linux 6.8 are a page.
    func freezes(_ definition: ZoneDefinition, in folder: borrowing Descriptor) throws(ZoneError) -> Bool {
        if definition.storage != nil || OwnTree(in: folder) == .whole || folder.sharesBlocks { return false }
        // Folding knows overlayfs's marks only.
        if case .names = store.folders.marks { return false }
        let most = KernelVersion.running >= KernelVersion(6, 8) ? 32 : 8
        return try store.bases(of: definition).all.count < most
    }

    // MARK: Freezing

    /// Freezes what a stopped zone has changed. Returns the zone's settings, which say that it stands on that; `nil` where
    /// it is to be copied, or nothing has changed.
    func freeze(
        _ claim: borrowing ZoneStore.Claim, _ definition: ZoneDefinition
    ) throws(ZoneError) -> ZoneDefinition? {
        guard case .stopped = store.entry(claim.name).state, try freezes(definition, in: claim.persistent),
            ZoneLayers.isFilled("upper", in: claim.persistent)
        else { return nil }
        let attempt = "keep the changes of zone \(claim.name)"
        let name = try attempting(attempt) { () throws(SystemError) in
            // What overlayfs notes there is about the layers below.
            try claim.persistent.removeTree("work")
            return try make(claim, like: "\(store.folders.persistent(claim.name))/upper", upon: definition.base)
        }
        var next = definition
        next.base = "/\(name)"
        // The new layer is empty still: the zone is what it was, before and after the change of places.
        try store.write(next, in: claim.persistent)
        let result = zn_renameat2(
            claim.persistent.raw, "upper", claim.persistent.raw, "\(ZoneLayers.folder)/\(name)/upper",
            ZoneLayers.exchange)
        if result >= 0 { return next }
        try store.write(definition, in: claim.persistent)
        try attempting(attempt) { () throws(SystemError) in
            try remove(name, try open(claim))
            // A file system that cannot, or that counts the two folders apart.
            if result != -EINVAL, result != -EXDEV, result != -ENOSYS { try check(result, "rename", "upper") }
        }
        return nil
    }

    /// Freezes what a snapshot has copied, so that the zone can stand on it, too. `definition`: the snapshot's.
    func freeze(
        _ snapshot: String, _ claim: borrowing ZoneStore.Claim, _ definition: inout ZoneDefinition
    ) throws(ZoneError) {
        guard try freezes(definition, in: claim.persistent) else { return }
        let path = store.folders.snapshot(snapshot, of: claim.name)
        let former = definition
        do throws(SystemError) {
            let folder = try Descriptor.open(path, [.readOnly, .directory, .noFollow])
            guard ZoneLayers.isFilled("upper", in: folder) else { return }
            let name = try make(claim, like: "\(path)/upper", upon: definition.base)
            let layers = try open(claim)
            definition.base = "/\(name)"
            try folder.replaceFile("definition.json", definition.serialized(), mode: 0o600)
            // An empty folder is replaced. Linked clones that run have this one open, wherever it is.
            let result = zn_renameat2(folder.raw, "upper", layers.raw, "\(name)/upper", 0)
            if result >= 0 { return }
            definition = former
            try folder.replaceFile("definition.json", definition.serialized(), mode: 0o600)
            try remove(name, layers)
            // It is copied then.
            if result != -EXDEV { try check(result, "rename", "upper") }
        } catch {
            throw ZoneError("restore zone \(claim.name)", error)
        }
    }

    /// Makes a layer without any changes; returns its name.
    private func make(
        _ claim: borrowing ZoneStore.Claim, like model: String, upon base: String?
    ) throws(SystemError) -> String {
        try claim.persistent.ensureDirectory(ZoneLayers.folder, mode: 0o700)
        let layers = try open(claim)
        try ZoneLayers.clean(layers)
        try layers.makeDirectory(ZoneLayers.unfinished, mode: 0o700)
        let folder = try layers.open(ZoneLayers.unfinished, [.readOnly, .directory], resolve: .beneath)
        try ZoneLayers.makeUpper(in: folder, like: model)
        var layer = FrozenLayer()
        layer.base = base
        try folder.replaceFile(FrozenLayer.file, layer.serialized(), mode: 0o600)
        let name = "\((try layers.entries().compactMap { Int32($0) }.max() ?? 0) &+ 1)"
        try layers.rename(ZoneLayers.unfinished, to: name, replace: false)
        return name
    }

    /// Makes an upper layer without any changes upon another one, whose root is the zone's.
    static func makeUpper(in folder: borrowing Descriptor, like model: String) throws(SystemError) {
        let model = try Descriptor.open(model, [.path, .directory, .noFollow])
        var attributes = try FileAttributes(of: model, try model.stat())
        attributes.extended.removeAll(where: LayerMarks.isOverlayfs)
        try folder.makeDirectory("upper", mode: 0o700)
        let made = try folder.open("upper", [.path, .directory, .noFollow], resolve: .beneath)
        try EntryMaker(.exact).set(attributes, of: made, .directory, "upper".utf8CString.map { $0 })
    }

    private static func isFilled(_ name: String, in folder: borrowing Descriptor) -> Bool {
        guard let upper = try? folder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath) else {
            return false
        }
        return (try? upper.rawEntries().isEmpty) == false
    }

    // MARK: Tidying up

    /// Something that names a base.
    struct Use {
        enum User: Equatable {
            case zone, snapshot
            case layer(String)
        }

        let user: User
        let base: String
    }

    /// All that a zone, its snapshots and its layers stand on.
    func uses(of zone: String) throws(ZoneError) -> [Use] {
        var uses: [Use] = []
        if let base = try store.definition(of: zone)?.base { uses.append(Use(user: .zone, base: base)) }
        for snapshot in try store.snapshots(of: zone) {
            if let base = try store.definition(of: zone, at: snapshot.name).base {
                uses.append(Use(user: .snapshot, base: base))
            }
        }
        for (name, layer) in try layers(of: zone) {
            if let base = layer.base { uses.append(Use(user: .layer(name), base: base)) }
        }
        return uses
    }

    private func layers(of zone: String) throws(ZoneError) -> [(name: String, layer: FrozenLayer)] {
        let names: [String]
        do throws(SystemError) {
            names = try Descriptor.open(store.folders.layers(zone), [.readOnly, .directory, .noFollow]).entries()
        } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return [] }
            throw ZoneError("look at the layers of zone \(zone)", error)
        }
        var layers: [(name: String, layer: FrozenLayer)] = []
        for name in names where ZoneName.isValid(name) {
            if let layer: FrozenLayer = try store.read("\(store.folders.layer(name, of: zone))/\(FrozenLayer.file)") {
                layers.append((name, layer))
            }
        }
        return layers
    }

    /// Removes layers that nothing stands on, and, of a stopped zone, folds those that only one thing stands on into that.
    ///
    /// Below an overlay that is mounted nothing may be moved, so layers of a zone that runs wait until it is tidied next;
    /// so do those that snapshots share with linked clones. What cannot be folded stays: nobody sees a difference.
    func tidy(_ claim: borrowing ZoneStore.Claim) throws(ZoneError) {
        var isDone = false
        while !isDone {
            isDone = true
            let uses = try uses(of: claim.name)
            for (name, layer) in try layers(of: claim.name) {
                let users = uses.filter { $0.base == "/\(name)" }.map(\.user)
                guard users.count < 2 else { continue }
                if let user = users.first, try !fold(name, layer, into: user, claim) { continue }
                try attempting("remove a layer of zone \(claim.name)") { () throws(SystemError) in
                    try remove(name, try open(claim))
                }
                // What it stood on has another user now.
                isDone = false
                break
            }
        }
    }

    /// `false` where it stays.
    private func fold(
        _ name: String, _ layer: FrozenLayer, into user: Use.User, _ claim: borrowing ZoneStore.Claim
    ) throws(ZoneError) -> Bool {
        guard case .stopped = store.entry(claim.name).state else { return false }
        let lower = "\(store.folders.layer(name, of: claim.name))/upper"
        switch user {
        case .snapshot: return false
        case .zone:
            // With a limit, its files are in another file system, or count apart.
            guard var definition = try store.definition(of: claim.name), definition.storage == nil,
                OwnTree(in: claim.persistent) != .whole
            else { return false }
            let isFolded = try attempting("fold layers of zone \(claim.name)") { () throws(SystemError) in
                try claim.persistent.removeTree("work")
                if (try? claim.persistent.status("upper")) == nil {
                    try ZoneLayers.makeUpper(in: claim.persistent, like: lower)
                }
                let upper = try claim.persistent.open("upper", [.path, .directory, .noFollow], resolve: .beneath)
                return try LayerFold.fold(try Descriptor.open(lower, [.path, .directory, .noFollow]), into: upper)
            }
            guard isFolded else { return false }
            definition.base = layer.base
            try store.write(definition, in: claim.persistent)
        case .layer(let above):
            // One that runs has it mounted.
            guard try store.clones(of: claim.name).isEmpty else { return false }
            return try attempting("fold layers of zone \(claim.name)") { () throws(SystemError) in
                let folder = try Descriptor.open(
                    store.folders.layer(above, of: claim.name), [.readOnly, .directory, .noFollow])
                let upper = try folder.open("upper", [.path, .directory, .noFollow], resolve: .beneath)
                guard try LayerFold.fold(try Descriptor.open(lower, [.path, .directory, .noFollow]), into: upper)
                else { return false }
                try folder.replaceFile(FrozenLayer.file, layer.serialized(), mode: 0o600)
                return true
            }
        }
        return true
    }

    private func open(_ claim: borrowing ZoneStore.Claim) throws(SystemError) -> Descriptor {
        try claim.persistent.open(ZoneLayers.folder, [.readOnly, .directory, .noFollow], resolve: .beneath)
    }

    private func remove(_ name: String, _ layers: borrowing Descriptor) throws(SystemError) {
        try ZoneLayers.clean(layers)
        try layers.rename(name, to: ZoneLayers.gone, replace: false)
        try layers.removeTree(ZoneLayers.gone)
    }

    private static func clean(_ layers: borrowing Descriptor) throws(SystemError) {
        try layers.removeTree(unfinished)
        try layers.removeTree(gone)
    }
}
