// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Makes zones that begin as another one is, or was at a snapshot.
///
/// A full clone has a copy of the other's changes. A linked clone has nothing of its own at first: a snapshot of the other
/// is a layer below its changes, which nobody writes to.
public struct ZoneClone: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Returns the new zone's name, which is made up where none is wanted. `isLinked`: `nil` for what is quick.
    /// `snapshot`: as the zone was then; a linked clone without one gets a snapshot to stand on.
    public func clone(
        _ source: String, to wanted: String?, isLinked: Bool?, snapshot: String?
    ) throws(ZoneError) -> String {
        let origin = try store.lock(try store.find(source).name)
        let zone = origin.name
        var definition =
            if let snapshot {
                try store.definition(of: zone, at: snapshot)
            } else {
                try store.definition(of: zone, for: "clone")
            }
        // The image may be gone: better said before anything is made.
        let image = try ZoneLifecycle(store).image(of: definition)
        let claim = try store.claim(wanted)
        let name = claim.name
        var rollback = Rollback()
        rollback.add { [store] in try? store.eraseInterrupted(name) }
        // By the first zone's name: its layers are its own.
        let bases = try store.bases(of: definition).all
        let isWhole = try isWhole(origin, definition, at: snapshot)
        if isWhole, isLinked == true {
            throw ZoneError(
                .unsupported,
                "clone --linked: zone \(zone) has a copy of all its image's files, as overlayfs could not work there, so nothing can stand on it",
                hint: "'zonectl clone --full' copies it")
        }
        let links =
            if let isLinked {
                isLinked
            } else {
                isWhole ? false : try ZoneLayers(store).freezes(definition, in: origin.persistent)
            }
        try StorageMaker(store).make(&definition, in: claim.persistent)
        definition.name = name
        // An address is one zone's.
        definition.networks = definition.networks.map(\.anew)
        try NetworkLeases(store).lease(&definition)
        let own = try store.ownFiles(definition, claim)
        if links {
            let base: String
            if let snapshot {
                base = snapshot
            } else {
                base = try freeName(of: zone, for: name)
                _ = try ZoneSnapshots(store.folders).create(origin, name: base)
            }
            definition.base = "\(zone)/\(base)"
            // The zone's root is the other's, too.
            if let top = try store.bases(of: definition).all.first {
                try attempting("make zone \(name)") { () throws(SystemError) in
                    try ZoneLayers.makeUpper(in: own.folder, like: top)
                }
            }
        } else {
            // What a linked clone stands on becomes the new zone's own.
            var policy = CopyPolicy.exact
            for layer in isWhole ? [] : bases.reversed() {
                try attempting("make zone \(name)") { () throws(SystemError) in
                    let upper = try Descriptor.open(layer, [.path, .directory, .noFollow])
                    var transfer = TreeTransfer(policy)
                    try transfer.copy(upper, to: own.folder, as: "upper".utf8CString.map { $0 })
                }
                policy = .layer(store.folders.marks)
            }
            if let snapshot {
                try attempting("make zone \(name)") { () throws(SystemError) in
                    let kept = try Descriptor.open(store.folders.snapshot(snapshot, of: zone), [.path, .directory])
                    try OwnTree.copy(from: kept, to: own.folder, policy)
                }
            } else {
                try ZoneChanges(store).copy(origin, for: "clone", to: own.folder, policy)
            }
            definition.base = nil
        }
        definition.created = Int64(time(nil))
        // Two machines of one id would take each other's place in many a list.
        definition.machineID = nil
        // Named volumes are shared; those without a name are each zone's own.
        definition.forgetAnonymousVolumes()
        definition.nameVolumes()
        try SystemZone.settle(&definition, image, store.folders.images)
        try attempting("make zone \(name)") { () throws(SystemError) in
            if definition.storage != nil { try own.sync() }
            _ = try check(zn_syncfs(claim.persistent.raw), "syncfs")
        }
        // Last: without it a zone's making counts as interrupted.
        try store.write(definition, in: claim.persistent)
        rollback.commit()
        EventLog(store.folders).record(.create, zone: name, ["from": zone])
        return name
    }

    private func freeName(of zone: String, for clone: String) throws(ZoneError) -> String {
        let taken = try store.snapshots(of: zone).map(\.name)
        let first = String("clone-\(clone)".prefix(63))
        if !taken.contains(first) { return first }
        var number = 2
        while taken.contains("clone-\(number)") { number += 1 }
        return "clone-\(number)"
    }

    private func isWhole(
        _ origin: borrowing ZoneStore.Claim, _ definition: ZoneDefinition, at snapshot: String?
    ) throws(ZoneError) -> Bool {
        if let snapshot { return OwnTree(at: store.folders.snapshot(snapshot, of: origin.name)) == .whole }
        let own = try store.ownFiles(definition, origin)
        return OwnTree(in: own.folder) == .whole
    }
}
