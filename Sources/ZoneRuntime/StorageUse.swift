// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// What the files of a zone or a volume with a limit take.
public struct StorageUse: JSONRecord, Sendable, Equatable {
    public enum Owner: String, JSONCodable, CaseIterable, Sendable {
        case zone, volume
    }

    public var type = Owner.zone
    public var name = ""
    public var kind = StorageKind.image
    /// Bytes: what was asked for, what the files take of it, and what is left; an image keeps some for itself.
    public var size: Int64 = 0
    public var used: Int64 = 0
    public var available: Int64 = 0

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("type", &type)
        try visitor.required("name", &name)
        try visitor.required("kind", &kind)
        try visitor.required("size", &size)
        try visitor.required("used", &used)
        try visitor.required("available", &available)
    }

    init(_ type: Owner, _ name: String, _ limit: StorageLimit, _ files: borrowing OwnFiles) throws(ZoneError) {
        self.type = type
        self.name = name
        kind = limit.kind
        size = limit.size
        do throws(SystemError) {
            if let project = limit.project {
                used = try ProjectQuota(of: files.folder)?.use(of: project).bytes ?? 0
                available = max(size - used, 0)
            } else {
                let sizes = try FileSystemSize(of: files.folder)
                available = sizes.available
                used = max(sizes.total - sizes.available, 0)
            }
        } catch {
            throw ZoneError("look at the storage of \(type.rawValue) \(name)", error)
        }
    }
}

extension ZoneStore {
    /// What a zone's own files take, of one that has a limit.
    public func storageUse(of zone: String) throws(ZoneError) -> StorageUse? {
        guard let definition = try definition(of: zone), let limit = definition.storageLimit,
            let files = try limitedFiles(definition)
        else { return nil }
        return try StorageUse(.zone, zone, limit, files)
    }
}

extension VolumeStore {
    /// The same of a volume.
    public func storageUse(of name: String) throws(ZoneError) -> StorageUse? {
        guard let volume = try volume(name), let limit = volume.storageLimit, let folder = try open(name) else {
            return nil
        }
        return try StorageUse(.volume, name, limit, try files(of: volume, in: folder))
    }
}
