// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// What a zone stands on beside its image, as ``ZoneDefinition/base`` and ``FrozenLayer/base`` say it.
enum ZoneBase: Equatable {
    /// `ZONE/SNAPSHOT`: a linked clone stands on another zone's snapshot.
    case snapshot(zone: String, name: String)
    /// `/LAYER`: a layer of the same zone's, see ``ZoneLayers``. Without the zone's name, which may change.
    case layer(String)

    init?(_ text: String) {
        let (zone, name) = text.halves("/")
        guard let name, ZoneName.isValid(name) else { return nil }
        if zone.isEmpty {
            self = .layer(name)
        } else {
            guard ZoneName.isValid(zone) else { return nil }
            self = .snapshot(zone: zone, name: name)
        }
    }
}

/// The folders of the layers between a zone's changes and its image, topmost first.
struct BaseLayers {
    /// What the zone itself has changed, up to its snapshots.
    var own: [String] = []
    /// What the zones have changed that a linked clone stands on.
    var others: [String] = []

    var all: [String] { own + others }

    /// `ZONE/SNAPSHOT`: what a linked clone stands on, below its own layers.
    var link: String?
}

extension ZoneStore {
    /// As many layers may lie between a zone's changes and its image.
    private static let mostBases = 64

    /// What a zone stands on beside its image; nothing for most zones.
    func bases(of definition: ZoneDefinition) throws(ZoneError) -> BaseLayers {
        var found = BaseLayers()
        guard var base = definition.base else { return found }
        var zone = definition.name
        // Snapshots that are nothing but a layer count here only: each of them has one below.
        for _ in 0..<2 * ZoneStore.mostBases where found.all.count < ZoneStore.mostBases {
            let next: String?
            switch ZoneBase(base) {
            case nil:
                throw ZoneError(.invalid, "zone \(definition.name): its base \"\(base)\" is no snapshot of a zone's")
            case .layer(let name):
                let folder = folders.layer(name, of: zone)
                guard let layer: FrozenLayer = try read("\(folder)/\(FrozenLayer.file)") else {
                    throw ZoneError(
                        .notFound, "zone \(definition.name): layer \(name) of zone \(zone), which it stands on, is gone"
                    )
                }
                if zone == definition.name {
                    found.own.append("\(folder)/upper")
                } else {
                    found.others.append("\(folder)/upper")
                }
                next = layer.base
            case .snapshot(let origin, let name):
                if found.link == nil { found.link = base }
                let below: ZoneDefinition
                do throws(ZoneError) { below = try self.definition(of: origin, at: name) } catch {
                    throw ZoneError(
                        error.code,
                        "zone \(definition.name) is a linked clone, and what it stands on is gone: \(error.detail)")
                }
                if let upper = changes(of: origin, at: name) { found.others.append(upper) }
                zone = origin
                next = below.base
            }
            guard let next else { return found }
            base = next
        }
        throw ZoneError(
            .invalid, "zone \(definition.name) stands on more than \(ZoneStore.mostBases) layers of changes",
            hint: "a full clone stands on none: zonectl clone --full ZONE NEW")
    }

    /// `ZONE/SNAPSHOT` for a linked clone, whichever layers of its own lie between.
    public func linkedBase(of definition: ZoneDefinition) throws(ZoneError) -> String? {
        try bases(of: definition).link
    }

    /// The changes that a snapshot holds itself; `nil` for one that is nothing but the layer that it stands on.
    func changes(of zone: String, at snapshot: String) -> String? {
        let upper = "\(folders.snapshot(snapshot, of: zone))/upper"
        return (try? FileStatus.of(upper, followLinks: false)) == nil ? nil : upper
    }

    // MARK: Linked clones

    /// The linked clones that stand on a zone's snapshot, or on any of its snapshots; also those of which only a snapshot
    /// does so still.
    func clones(of zone: String, at snapshot: String? = nil) throws(ZoneError) -> [String] {
        // Without snapshots nothing can stand on it: no other zone is looked at.
        if try snapshots(of: zone).isEmpty { return [] }
        return try names().filter { name in
            // A zone that cannot be read tells of no base; it cannot be started, either.
            guard name != zone, let uses = try? ZoneLayers(self).uses(of: name) else { return false }
            return uses.contains { use in
                guard case .snapshot(zone, let base) = ZoneBase(use.base) else { return false }
                return snapshot == nil || snapshot == base
            }
        }
    }

    /// Refuses what would take away what linked clones stand on.
    func refuseBase(_ verb: String, _ zone: String, at snapshot: String? = nil) throws(ZoneError) {
        let clones = try clones(of: zone, at: snapshot)
        guard let first = clones.first else { return }
        let what = snapshot.map { "snapshot \($0) of zone \(zone)" } ?? "zone \(zone)"
        throw ZoneError(
            .wrongState,
            "\(verb): linked clone\(clones.count == 1 ? "" : "s") \(clones.joined(separator: ", ")) of \(what) would lose what \(clones.count == 1 ? "it stands" : "they stand") on",
            hint: "remove the clones first, or make them independent: zonectl clone --full \(first) NEW")
    }
}
