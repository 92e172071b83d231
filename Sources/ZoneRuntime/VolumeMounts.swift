// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Gives a zone its volumes: makes those that are missing, and fills those that no zone has had with what the image has
/// at that place, as docker does.
struct VolumeMounts {
    private let volumes: VolumeStore

    init(_ store: ZoneStore) {
        volumes = VolumeStore(store)
    }

    /// Returns the definition with bind mounts in place of its volumes, which are there then. For a zone whose definition
    /// is on the disk: see ``VolumeStore``. What their paths need is open as long as `held` lives.
    func provided(_ definition: ZoneDefinition, _ held: inout DescriptorBag) throws(ZoneError) -> ZoneDefinition {
        // Most zones have none, and a start is not to pay for that.
        guard definition.mounts.contains(where: \.isVolume) else { return definition }
        var bound = definition
        for (index, mount) in definition.mounts.enumerated() {
            guard let name = mount.volumeName else { continue }
            try VolumeStore.validate(name)
            var wanted = Volume()
            wanted.name = name
            wanted.isAnonymous = mount.anonymousVolume != nil
            let locked = try volumes.lock()
            let volume = try volumes.ensure(wanted, locked)
            drop(locked)
            if let origin = volume.snapshotOf, !mount.options.contains("ro") {
                throw ZoneError(
                    .notPermitted, "volume \(name) is a snapshot of \(origin), which nothing may change",
                    hint: "mount it read-only (:ro), or a copy of it: zonectl volume clone \(name) NEW")
            }
            if !volume.isUsed, volume.snapshotOf == nil { try prepare(name, mount, definition) }
            bound.mounts[index] = bind(mount, try source(volume, &held))
        }
        return bound
    }

    /// Where a volume's files are, for who mounts them.
    private func source(_ volume: Volume, _ held: inout DescriptorBag) throws(ZoneError) -> String {
        guard volume.storageKind == .image else { return volumes.path(of: volume) }
        guard KernelVersion.running >= VolumeMounts.copiesDetached else {
            throw ZoneError(
                .unsupported, "volume \(volume.name) is an image file, which Linux 6.15 or newer can mount for zones",
                hint: "let the store be on ext4 or xfs with project quota (prjquota)")
        }
        guard let folder = try volumes.open(volume.name) else {
            throw ZoneError(.notFound, "volume \(volume.name) has just been removed", hint: "try again")
        }
        let own = try volumes.files(of: volume, in: folder)
        return "/proc/self/fd/\(held.adopt(own.release()))/\(VolumeStore.data)"
    }

    /// open_tree(2) of what is mounted nowhere.
    private static let copiesDetached = KernelVersion(6, 15)

    private func bind(_ mount: Spec.Mount, _ source: String) -> Spec.Mount {
        let options = mount.options.filter { $0 != VolumeOption.anonymous && $0 != VolumeOption.noCopy }
        var bind = Spec.Mount(
            destination: mount.destination, type: "bind", source: source,
            options: ["bind"] + options)
        bind.uidMappings = mount.uidMappings
        bind.gidMappings = mount.gidMappings
        return bind
    }

    /// Makes a volume ready for its first zone.
    private func prepare(_ name: String, _ mount: Spec.Mount, _ definition: ZoneDefinition) throws(ZoneError) {
        // Another zone may be its first one at the same time. Removed it cannot be: this zone's definition names it.
        guard let folder = try volumes.open(name), var volume = try volumes.volume(name) else {
            throw ZoneError(.notFound, "volume \(name) has just been removed", hint: "try again")
        }
        if volume.isUsed { return }
        let layers = try volumes.zones.layers(of: definition)
        let own = try volumes.files(of: volume, in: folder)
        do throws(SystemError) {
            if !mount.options.contains(VolumeOption.noCopy) {
                try fill(own.folder, from: layers, at: mount.destination)
            }
            volume.isUsed = true
            try folder.replaceFile(VolumeStore.record, volume.serialized(), mode: 0o600)
        } catch {
            throw ZoneError("fill volume \(name) with what the image has at \(mount.destination)", error)
        }
    }

    /// Puts a copy of an image's folder in the place of an empty volume, in one step.
    private func fill(
        _ folder: borrowing Descriptor, from layers: [String], at destination: String
    ) throws(SystemError) {
        let data = try folder.open(VolumeStore.data, [.readOnly, .directory, .noFollow], resolve: .beneath)
        // Somebody has put something in by its path on the host.
        guard try data.rawEntries().isEmpty else { return }
        let marks = volumes.zones.folders.marks
        // The image may have nothing there, or a file.
        guard let place = LayerLookup(layers, marks).resolve(destination),
            let source = try LayerTree(layers, marks).directory(place.utf8CString.map { $0 })
        else { return }
        let name = ".\(VolumeStore.data)"
        // Of one that was killed.
        try folder.removeTree(name)
        var policy = CopyPolicy.layer(marks, flattens: true)
        policy.keepsAllAttributes = false
        // An ordinary user cannot make any.
        policy.makesNodes = !Rootless.isInside
        for layer in source.folders.reversed() {
            var transfer = TreeTransfer(policy)
            try transfer.copy(layer.file, to: folder, as: name.utf8CString.map { $0 })
        }
        try data.sync()
        // rename(2) replaces a directory that is empty.
        try check(zn_renameat2(folder.raw, name, folder.raw, VolumeStore.data, 0), "rename", name)
    }
}
