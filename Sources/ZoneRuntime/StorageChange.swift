// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI

/// Changes what the own files of a zone may take: a project quota and, with CAP_SYS_RESOURCE, an image file at once, also
/// while the zone runs. Everything else is a copy of the files that takes their place together with the definition, by
/// ``PendingRestore``: whenever that is interrupted the zone is as before or after.
struct StorageChange {
    private let store: ZoneStore

    init(_ store: ZoneStore) {
        self.store = store
    }

    /// Replaces a definition by another one. `write` does so when nothing but the definition is to be changed, or all else
    /// is done.
    func replace(
        _ former: ZoneDefinition, by definition: ZoneDefinition, _ entry: ZoneStore.Entry,
        _ claim: borrowing ZoneStore.Claim, write: (ZoneDefinition) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        guard definition.storage != former.storage else { return try write(definition) }
        try StorageChange.verify(former, definition)
        if let size = definition.storage, let limit = former.storageLimit {
            switch limit.kind {
            case .project:
                guard let project = limit.project else { break }
                return try change(project, to: size, from: limit.size, claim) { () throws(ZoneError) in
                    try write(definition)
                }
            case .image where Capability.mayOverrideLimits:
                try attempting("let zone \(claim.name) have more storage") { () throws(SystemError) in
                    try StorageImage.grow(
                        to: size, in: claim.persistent, at: store.folders.persistent(claim.name))
                }
                return try write(definition)
            case .image: break
            }
        }
        guard case .stopped = entry.state else {
            throw ZoneError(
                .wrongState,
                former.storage == nil || definition.storage == nil
                    ? "--storage: zone \(claim.name) is \(entry.state.word), and its files would have to be moved"
                    : "--storage: zone \(claim.name) is \(entry.state.word), and its file system cannot become larger meanwhile without CAP_SYS_RESOURCE",
                hint: "stop it first: 'zonectl stop \(claim.name)'")
        }
        if former.storageLimit?.kind == .image, let size = definition.storage {
            try decide(definition, claim) { (target, definition) throws(ZoneError) in
                try StorageImage.copy(
                    in: claim.persistent, at: store.folders.persistent(claim.name), to: target, size: size)
            }
        } else {
            let own = try store.ownFiles(former, claim)
            try decide(definition, filledFrom: own.path, claim)
        }
        try PendingRestore.finish(claim.persistent, claim.name)
    }

    /// Makes sure that a change is one that can be made.
    static func verify(_ former: ZoneDefinition, _ definition: ZoneDefinition) throws(ZoneError) {
        guard let size = definition.storage, size != former.storage else { return }
        try StorageLimit.verify(size, "--storage")
        if let before = former.storage, size < before {
            throw ZoneError(
                .unsupported,
                "--storage: \(ByteSize.text(size)) is less than the \(ByteSize.text(before)) that zone \(former.name) has, and storage cannot shrink",
                hint: "make a new zone, or take the limit away first: zonectl set \(former.name) --storage 0")
        }
    }

    private func change(
        _ project: UInt32, to size: Int64, from former: Int64, _ claim: borrowing ZoneStore.Claim,
        write: () throws(ZoneError) -> Void
    ) throws(ZoneError) {
        let attempt = "let zone \(claim.name) have more storage"
        let quota = try attempting(attempt) { () throws(SystemError) in try ProjectQuota(of: claim.persistent) }
        guard let quota else {
            throw ZoneError(
                .wrongState, "\(attempt): the file system of \(store.folders.store) has no project quota any more",
                hint: "mount it with prjquota, as when the zone was made")
        }
        try attempting(attempt) { () throws(SystemError) in try quota.limit(project, to: size) }
        do throws(ZoneError) { try write() } catch {
            // It was taken a moment ago.
            try? quota.limit(project, to: former)
            throw error
        }
    }

    // MARK: Files that take the place of others

    /// Decides that a zone becomes what a definition says, with storage of its own and the zone's files that a folder holds.
    func decide(
        _ definition: ZoneDefinition, filledFrom folder: String, _ claim: borrowing ZoneStore.Claim
    ) throws(ZoneError) {
        try decide(definition, claim) { (target, definition) throws(ZoneError) in
            try StorageMaker(store).make(&definition, in: target)
            let place = "\(store.folders.persistent(claim.name))/\(PendingRestore.unfinished)"
            let limit = definition.storageLimit
            do throws(SystemError) {
                let own = try OwnFiles(limit, in: target, at: place)
                try OwnTree.copy(from: try Descriptor.open(folder, [.path, .directory]), to: own.folder, .exact)
                try own.sync()
            } catch {
                guard let limit, error.errno == .noSpace || error.errno == .quotaExceeded else {
                    throw ZoneError("move the files of zone \(claim.name)", error)
                }
                throw ZoneError(
                    .invalid, "--storage: the files of zone \(claim.name) need more than \(ByteSize.text(limit.size))",
                    hint: "give it more, or remove some files first")
            }
        }
    }

    private func decide(
        _ definition: ZoneDefinition, _ claim: borrowing ZoneStore.Claim,
        _ fill: (borrowing Descriptor, inout ZoneDefinition) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        let attempt = "change zone \(claim.name)"
        let name = PendingRestore.unfinished
        let target = try attempting(attempt) { () throws(SystemError) in
            try claim.persistent.removeTree(name)
            try claim.persistent.makeDirectory(name, mode: 0o700)
            return try claim.persistent.open(name, [.readOnly, .directory], resolve: .beneath)
        }
        do throws(ZoneError) {
            var definition = definition
            try fill(target, &definition)
            try attempting(attempt) { () throws(SystemError) in
                try target.replaceFile("definition.json", definition.serialized(), mode: 0o600)
                try target.sync()
                try claim.persistent.rename(name, to: PendingRestore.folder, replace: false)
            }
        } catch {
            // The first error is the one to tell.
            try? claim.persistent.removeTree(name)
            throw error
        }
    }
}

extension OverlayRoot {
    /// As ``prepare(anchor:isReadOnly:isVolatile:in:_:)``, for a zone whose own files have a limit.
    func prepare(
        _ definition: ZoneDefinition, _ limit: StorageLimit, at place: String, anchor: String,
        in persistent: borrowing Descriptor, _ descriptors: inout DescriptorBag, report: (String) -> Void
    ) throws(ZoneError) -> RootPlan {
        let own = try attempting("mount the storage of zone \(definition.name)") { () throws(SystemError) in
            try OwnFiles(limit, in: persistent, at: place)
        }
        let root = try own.forOverlay { (path) throws(ZoneError) in
            try with(own: path).prepare(
                anchor: anchor, isReadOnly: definition.isReadOnly, isVolatile: definition.autoRemove, in: own.folder,
                &descriptors, report: report)
        }
        if case .overlay = root.source, limit.kind == .image {
            throw ZoneError(
                .unsupported,
                "zone \(definition.name) has storage of its own, and more layers than this kernel takes then",
                hint: "Linux 6.8 takes them; or take the storage away: zonectl set \(definition.name) --storage 0")
        }
        return root
    }
}
