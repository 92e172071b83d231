// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
public import OCI

/// A named folder of files that outlives the zones it is mounted into: STORE/volumes/NAME.
public struct Volume: JSONRecord, Sendable, Equatable {
    public var name = ""
    /// Seconds since 1970.
    public var created: Int64 = 0
    public var labels: [String: String] = [:]
    /// Nobody gave it a name: made for one zone, or by `volume create` alone.
    public var isAnonymous = false
    /// The volume that this one is a snapshot of; nothing changes it any more.
    public var snapshotOf: String?
    /// Whether a zone has had it: then nothing of an image's is put into it.
    public var isUsed = false
    /// Bytes that its files may take; without a limit where nothing is said.
    public var storage: Int64?
    /// How they are limited, and the number of their project.
    public var storageKind: StorageKind?
    public var storageProject: Int64?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.field("labels", &labels)
        try visitor.field("anonymous", &isAnonymous)
        try visitor.field("snapshotOf", &snapshotOf)
        try visitor.field("used", &isUsed)
        try visitor.field("storage", &storage)
        try visitor.field("storageKind", &storageKind)
        try visitor.field("storageProject", &storageProject)
    }

    /// A name for a volume that nobody gives one: 128 random bits.
    static func madeUpName() -> String {
        (0..<2).map { _ in
            let digits = String(UInt64.random(in: 0...UInt64.max), radix: 16)
            return String(repeating: "0", count: 16 - digits.utf8.count) + digits
        }.joined()
    }
}

extension ZoneFolders {
    var volumes: String { "\(store)/volumes" }
    func volume(_ name: String) -> String { "\(volumes)/\(name)" }
    /// What zones see of a volume.
    func volumeData(_ name: String) -> String { "\(volume(name))/\(VolumeStore.data)" }
}

extension Spec.Mount {
    /// A definition's mount of a volume: the source is its name, and none means one of the zone's own.
    public static let volumeType = "volume"

    var isVolume: Bool { type == Spec.Mount.volumeType }

    /// The volume of a definition's mount.
    var volumeName: String? {
        guard isVolume, let source, !source.isEmpty else { return nil }
        return source
    }

    /// The volume that was made for this mount alone.
    var anonymousVolume: String? { options.contains(VolumeOption.anonymous) ? volumeName : nil }
}

/// Options of a definition's mount of a volume that are no mount options.
public enum VolumeOption {
    /// The volume was made for this zone, which gave it no name.
    public static let anonymous = "anonymous"
    /// Nothing of the image's is put into a new volume.
    public static let noCopy = "nocopy"
    /// All that such a mount may have.
    public static let all = [anonymous, noCopy, "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"]
}

extension ZoneDefinition {
    /// The volumes that were made for this zone alone.
    var anonymousVolumes: [String] { mounts.compactMap(\.anonymousVolume) }

    /// Adds volumes without a name where the image wants some and nothing else is mounted; see the image specification,
    /// `Volumes`.
    mutating func addVolumes(of image: Image) throws(ZoneError) {
        guard let wanted = image.configuration.config?.volumes, !wanted.isEmpty else { return }
        for path in wanted.keys.sorted() {
            let target: String
            do throws(ZoneError) { target = try ZoneDefinition.mountTarget(path, "VOLUME") } catch {
                throw ZoneError(
                    .invalid, "image \(image.name): \(error.detail)",
                    hint: "nothing can be mounted there: make the image without it")
            }
            if mounts.contains(where: { $0.destination.pathComponents == target.pathComponents }) { continue }
            let volume = Spec.Mount(destination: target, type: Spec.Mount.volumeType, source: nil, options: [])
            // What is mounted inside it must come later.
            let inside = mounts.firstIndex { $0.destination.pathComponents.starts(with: target.pathComponents) }
            mounts.insert(volume, at: inside ?? mounts.endIndex)
        }
    }

    /// Gives the volumes that have no name one. Those of `former` keep theirs where they were mounted.
    mutating func nameVolumes(after former: ZoneDefinition? = nil) {
        for index in mounts.indices where mounts[index].isVolume && mounts[index].volumeName == nil {
            let target = mounts[index].destination
            let kept = former?.mounts.first { $0.destination == target }?.anonymousVolume
            mounts[index].source = kept ?? Volume.madeUpName()
            mounts[index].options.append(VolumeOption.anonymous)
        }
    }

    /// Takes their names from the volumes that were made for this zone alone.
    mutating func forgetAnonymousVolumes() {
        for index in mounts.indices where mounts[index].anonymousVolume != nil {
            mounts[index].source = nil
            mounts[index].options.removeAll { $0 == VolumeOption.anonymous }
        }
    }
}
